"""A state folder of a real 2026.7.1 that a real gateway of the SQLite era takes over while Clawmend watches: one row is
fine, one says `running` behind its end. OpenClaw brings the rows into its database, but nothing that proves that a turn
has ended, and runs the second one again.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from app.openclaw.era import EraReader
from app.openclaw.folder import FileProblem
from tests.integration.served import Served
from tests.live.client import Client
from tests.live.gateway import Gateway
from tests.live.hands import VERSIONS, Hands, openclaw, wait_until
from tests.live.model_server import model_server
from tests.live.scene import clawmend, seconds
from tests.live.test_plugin import still_running

FINE, STUCK = "agent:main:fine", "agent:main:stuck"
_POLL = 0.05


@dataclass
class Story:
    """What was seen."""

    version: str
    seen: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Session key, `file` or `database`, verdict, status: each change of them, in the order of the passes."""
    refused: str = ""
    """What the gateway said where it did not start before `openclaw doctor --fix`."""
    asked: Counter[int] = field(default_factory=Counter)
    """The answers to a person who asked to settle the row, from when there was a database on."""
    before: bytes = b""
    """The store that 2026.7.1 left."""
    archived: bytes = b""
    """The same, as OpenClaw has put it aside."""
    in_its_place: list[Path] = field(default_factory=list)
    events: int = -1
    """Of the trajectory that 2026.7.1 left of the row that is fine, in the database."""
    repairs: list[dict[str, Any]] = field(default_factory=list)
    said: str = ""

    def verdicts(self, key: str, where: str) -> list[tuple[str, str]]:
        return [(verdict, status) for k, w, verdict, status in self.seen if (k, w) == (key, where)]


class Watch:
    """Looks at the sessions again and again, and asks to settle the stuck one as soon as there is a database."""

    def __init__(self, story: Story, service: Served, agent: Path) -> None:
        self._story = story
        self._service = service
        self._folder = str(agent)
        self._era = EraReader()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(300)
        assert not self._thread.is_alive()

    def _watch(self) -> None:
        last: dict[str, tuple[str, str, str]] = {}
        since: float | None = None
        while not self._over.wait(_POLL):
            with suppress(FileProblem):
                since = since or (time.time() if self._era.in_sqlite([self._folder]) else None)
            found = self._service.get("/sessions")
            moved = since is not None and seconds(found["scan"]["started_at"]) > since
            for item in found["items"]:
                now = ("database" if moved else "file", item["verdict"], item["status"])
                if last.get(item["session_key"]) != now:
                    last[item["session_key"]] = now
                    self._story.seen.append((item["session_key"], *now))
            if since is not None:
                url = f"{self._service.url}/sessions/{quote(STUCK)}/repair"
                answer = httpx.post(url, json={"reason": "a test"}, trust_env=False, timeout=180)
                self._story.asked[answer.status_code] += 1


def play(version: str, folder: Path, model_port: int) -> Story:
    story = Story(version)
    old = Gateway("2026.7.1", folder / "home", model_port)
    leave(old)
    gateway = Gateway(version, old.home, model_port, port=old.port)
    hands = Hands(gateway)
    sessions = gateway.state / "agents" / "main" / "sessions"
    story.before = (sessions / "sessions.json").read_bytes()
    often = {"CLAWMEND_SCAN_INTERVAL_SECONDS": "0.2", "CLAWMEND_STALE_AFTER_SECONDS": "2"}
    with clawmend(gateway, folder / "service", CLAWMEND_AUTO_REPAIR="false", **often) as service:
        watch = Watch(story, service, hands.path.parent)
        wait_until(lambda: ("stuck", "running") in story.verdicts(STUCK, "file"), 0.1)
        gateway.configure()
        try:
            try:
                gateway.start()
            except RuntimeError as error:
                story.refused = str(error)
                gateway.end()
                openclaw(gateway, "doctor", "--fix", "--non-interactive")
                gateway.start()
            with closing(Client(gateway)) as person:
                wait_until(lambda: hands.last_run(STUCK) is not None, 0.1)
                story.events = hands.events_of(hands.entries()[FINE])
                person.send(FINE, "hello")
                wait_until(lambda: hands.last_run(FINE) is not None, 0.1)
            wait_until(
                lambda: all(story.verdicts(k, "database")[-1] == ("settled", "done") for k in (FINE, STUCK)), 0.1
            )
        finally:
            gateway.end()
        watch.stop()
        story.repairs = service.get("/repairs")["items"]
        story.said = service.said
    (archived,) = (gateway.state / "agents" / "main" / "session-sqlite-import-archive").glob("*sessions.json*")
    story.archived = archived.read_bytes()
    story.in_its_place = list(sessions.glob("sessions.json*"))
    return story


def leave(gateway: Gateway) -> None:
    """Two turns that are over, and over one of them a row of mid-turn, as a writer that had loaded the store before."""
    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            for key in (FINE, STUCK):
                person.run_agent(key, "hello")
                wait_until(lambda key=key: gateway.store().get(key, {}).get("status") == "done", 0.1)
    finally:
        gateway.end()
    rows = gateway.store()
    path = gateway.state / "agents" / "main" / "sessions" / "sessions.json"
    path.write_text(json.dumps({**rows, STUCK: still_running(rows[STUCK])}, indent=2, ensure_ascii=False))


@pytest.fixture(scope="module", params=VERSIONS)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with model_server() as port:
        yield play(request.param, tmp_path_factory.mktemp("migration"), port)


def test_the_newest_takes_the_folder_over_as_it_starts_and_the_first_stable_wants_its_doctor(story: Story) -> None:
    assert ("doctor --fix" in story.refused) == (story.version == "2026.8.1")


def test_what_is_fine_is_settled_all_the_way_and_judged_on_in_the_database(story: Story) -> None:
    assert story.verdicts(FINE, "file") == [("settled", "done")]
    assert story.verdicts(FINE, "database")[0] == ("settled", "done")
    assert {verdict for verdict, _ in story.verdicts(FINE, "database")} <= {"settled", "working"}


def test_what_is_proven_in_the_file_is_not_in_the_database_which_has_no_trajectory_of_it(story: Story) -> None:
    print(story.version, story.seen, story.asked)
    assert ("stuck", "running") in story.verdicts(STUCK, "file")
    assert story.events == 0
    assert "stuck" not in {verdict for verdict, _ in story.verdicts(STUCK, "database")}
    assert story.verdicts(STUCK, "database")[-1] == ("settled", "done")


def test_nobody_settles_the_row_that_has_gone_and_nothing_is_written_to_the_file_that_it_came_from(
    story: Story,
) -> None:
    assert story.asked and set(story.asked) <= {404, 409}
    assert story.repairs == []
    assert story.archived == story.before
    assert story.in_its_place == []


def test_nothing_went_wrong_in_the_service(story: Story) -> None:
    assert "Traceback" not in story.said
    assert " ERROR " not in story.said
