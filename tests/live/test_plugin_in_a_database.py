"""A real gateway of the SQLite era with the companion plugin, put there by `clawmend plugin install`, and a row that
the bug has left running: Clawmend settles it with the gateway's own hand, gives it back, settles it once more; and what
the next gateway makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.entry import Entry
from tests.live.client import Client
from tests.live.gateway import Gateway
from tests.live.hands import VERSIONS, Hands, openclaw, wait_until
from tests.live.model_server import model_server
from tests.live.scene import clawmend
from tests.live.test_plugin import METHODS, plugin

KEY, LEFT = "agent:main:settled-inside", "agent:main:left-running"


@dataclass
class Story:
    """What was seen."""

    said: str = ""
    """What `clawmend plugin install` said."""
    status: str = ""
    """What `clawmend plugin status` said beside the newest gateway; each of OpenClaw's commands takes seconds."""
    methods: set[str] = field(default_factory=set)
    stuck: Entry | None = None
    settled: Entry | None = None
    given_back: Entry | None = None
    settled_again: Entry | None = None
    in_the_end: Entry | None = None
    left: tuple[Any, Any] = (None, None)
    """The run of the row that nobody has settled, and the run of that row in the end."""
    repair: dict[str, Any] = field(default_factory=dict)
    undo: dict[str, Any] = field(default_factory=dict)
    again: dict[str, Any] = field(default_factory=dict)
    listed: list[dict[str, Any]] = field(default_factory=list)
    """As the gateway lists it: settled, given back, settled again, and started again."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """What the plugin told those who watch."""
    chats: list[dict[str, Any]] = field(default_factory=list)
    """What the tab that has sent the message hears at last, each time."""
    pending: list[Any] = field(default_factory=list)
    doctor: str = ""
    removed: str = ""
    """What `clawmend plugin remove` said beside the newest one, which was stopped."""
    left_of_it: list[Path] = field(default_factory=list)


def play(gateway: Gateway, folder: Path) -> Story:
    story, hands = Story(), Hands(gateway)
    gateway.settle_in()
    story.said = plugin(gateway, folder, "install")
    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            story.methods = set(person.methods)
            person.call("sessions.subscribe", {})
            story.stuck = hands.leave_running(person, KEY)
            hands.end_of(story.stuck)
            with clawmend(gateway, folder / "service", CLAWMEND_STALE_AFTER_SECONDS="2") as service:
                wait_until(lambda: any(r["told"] for r in service.get("/repairs")["items"]), 0.1)
                (story.repair,) = service.get("/repairs")["items"]
                note(story, hands, person, "settled")
                story.undo = post(f"{service.url}/repairs/{story.repair['id']}/undo")
                note(story, hands, person, "given_back")
                story.again = post(f"{service.url}/sessions/{story.stuck.session_id}/repair")
                note(story, hands, person, "settled_again")
            heard = [p for _, name, p in person.events if name == "chat" and p.get("sessionKey") == KEY]
            story.chats = [p for p in heard if p["state"] != "delta"]
            story.changes = [p for _, p in person.changes(KEY) if p.get("reason") == "clawmend"]
            left = hands.leave_running(person, LEFT)
            hands.end_of(left)
            if gateway.version == VERSIONS[0]:
                story.status = plugin(gateway, folder, "status")
    finally:
        gateway.end()
    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            wait_until(lambda: hands.last_run(LEFT) not in (None, left.run_id), 0.2)
            story.left = (left.run_id, hands.last_run(LEFT))
            story.doctor = openclaw(gateway, "doctor", "--non-interactive")
            note(story, hands, person, "in_the_end")
            story.pending = hands.pending()
    finally:
        gateway.end()
    if gateway.version == VERSIONS[0]:
        story.removed = plugin(gateway, folder, "remove")
        story.left_of_it = [
            path for path in gateway.state.rglob("*") if "clawmend" in path.relative_to(gateway.state).parts
        ]
    return story


def note(story: Story, hands: Hands, person: Client, stage: str) -> None:
    setattr(story, stage, hands.entries()[KEY])
    story.listed.append(person.listed()[KEY])


def post(url: str) -> dict[str, Any]:
    answer = httpx.post(url, json={"reason": "a test"}, trust_env=False, timeout=180)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture(scope="module", params=VERSIONS)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("inside")
    with model_server() as port:
        yield play(Gateway(request.param, folder / "home", port), folder)


def test_clawmend_installs_it_and_the_gateway_loads_it(story: Story) -> None:
    assert story.said.startswith("installed: version")
    assert story.methods >= METHODS
    assert not story.status or "has loaded it" in story.status


def test_a_row_that_a_locked_database_left_running_is_settled_by_the_gateway_itself(story: Story) -> None:
    assert story.stuck is not None and story.settled is not None
    assert (story.stuck.status, story.stuck.ended_at) == ("running", None)
    assert (story.repair["outcome"], story.repair["hand"], story.repair["trigger"]) == (
        "applied",
        "plugin",
        "scheduler",
    ), story.repair
    assert story.repair["evidence"]["liveness"]["by_plugin"] is True
    assert story.repair["told"]["answer"] == "as_repaired"
    assert (story.settled.status, story.settled.run_id) == ("done", None)
    assert story.settled.ended_at == story.repair["after"]["endedAt"]
    assert (story.listed[0]["status"], story.listed[0]["endedAt"]) == ("done", story.settled.ended_at)


def test_an_undo_gives_it_back_by_the_same_hand_and_a_person_settles_it_again(story: Story) -> None:
    assert story.stuck is not None and story.given_back is not None and story.settled_again is not None
    assert (story.undo["outcome"], story.undo["hand"]) == ("applied", "plugin"), story.undo
    was, now = fields(story.stuck), fields(story.given_back)
    assert {**now, "updatedAt": 0} == {**was, "updatedAt": 0}
    assert (story.again["outcome"], story.again["hand"]) == ("applied", "plugin"), story.again
    assert fields(story.settled_again)["status"] == "done"
    assert [row["status"] for row in story.listed] == ["done", "running", "done", "done"]


def test_whoever_watches_is_told_each_time_and_the_sending_tab_of_each_end(story: Story) -> None:
    assert [change["status"] for change in story.changes] == ["done", "running", "done"]
    assert [chat["state"] for chat in story.chats][-2:] == ["final", "final"]


def test_the_next_gateway_runs_again_what_was_left_running_and_not_what_was_settled(story: Story) -> None:
    was, now = story.left
    assert now not in (None, was)
    assert story.in_the_end == story.settled_again


def test_the_doctor_finds_nothing_to_mend_in_it(story: Story) -> None:
    assert story.pending == []
    assert "requires repair" not in story.doctor


def test_clawmend_takes_it_away_and_no_file_of_it_is_left(story: Story) -> None:
    assert not story.removed or story.removed.startswith("removed")
    assert story.left_of_it == []


def fields(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(entry.text)
    return found
