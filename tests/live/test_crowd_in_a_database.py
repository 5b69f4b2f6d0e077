"""Twenty sessions at work in the database of one real gateway while Clawmend settles two other rows in it, gives them
back, and settles them again, as fast as it can: by the live writer, and by the plugin.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.served import Served
from tests.live.client import Client
from tests.live.gateway import Gateway
from tests.live.hands import VERSIONS, Hands, openclaw, wait_until
from tests.live.model_server import model_server
from tests.live.scene import clawmend
from tests.live.test_plugin import plugin

CROWD = [f"agent:main:crowd-{n}" for n in range(20)]
STUCK = ["agent:main:locked-out-0", "agent:main:locked-out-1"]
_FEWEST_TURNS, _MOST_TURNS = 2, 10
_FEWEST = 2
"""Settlements of each row beside the turns; there are more turns until there have been so many."""


@dataclass
class Story:
    """What was seen."""

    hand: str
    writes: dict[str, Counter[tuple[str, str, str]]] = field(default_factory=dict)
    """By session key: kind, hand and outcome of each attempt."""
    answers: Counter[int] = field(default_factory=Counter)
    """Of the API, to each order."""
    runs: dict[str, list[str]] = field(default_factory=dict)
    """By session key: the runs that were sent, in order."""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Every entry at the end."""
    ended: dict[str, list[str]] = field(default_factory=dict)
    """By session key: the runs of which its trajectory has the end."""
    said: dict[str, list[str]] = field(default_factory=dict)
    """By session key: who speaks in its transcript, in order."""
    log: str = ""
    checked: list[Any] = field(default_factory=list)
    doctor: str = ""


class Crowd:
    """Settles and gives back until it is stopped."""

    def __init__(self, story: Story, service: Served) -> None:
        self._story = story
        self._service = service
        self._over = threading.Event()
        self._settled: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._work, args=(key,), daemon=True) for key in STUCK]
        for thread in self._threads:
            thread.start()

    @property
    def enough(self) -> bool:
        return all(self._settled[key] >= _FEWEST for key in STUCK)

    def stop(self) -> None:
        """Each row is settled at last."""
        self._over.set()
        for thread in self._threads:
            thread.join(600)
            assert not thread.is_alive()

    def _work(self, key: str) -> None:
        while True:
            over = self._over.is_set()
            wish = {"reason": "a test", "force": True, "target_status": "done"}
            made = self._post(f"/sessions/{key}/repair", wish)
            if made.get("outcome") != "applied":
                continue
            self._settled[key] += 1
            if over:
                return
            while self._post(f"/repairs/{made['id']}/undo", {"reason": "a test"}).get("outcome") != "applied":
                pass

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(self._service.url + path, json=body, trust_env=False, timeout=180)
        self._story.answers[answer.status_code] += 1
        return dict(answer.json())


def play(hand: str, gateway: Gateway, folder: Path) -> Story:
    story, hands = Story(hand), Hands(gateway)
    gateway.settle_in()
    if hand == "plugin":
        plugin(gateway, folder, "install")
    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            person.call("sessions.subscribe", {})
            for key in STUCK:
                hands.end_of(hands.leave_running(person, key))
            log = gateway.home / "gateway.log"
            before = len(log.read_bytes())
            with clawmend(gateway, folder / "service", CLAWMEND_AUTO_REPAIR="false") as service:
                crowd = Crowd(story, service)
                try:
                    with ThreadPoolExecutor(len(CROWD)) as pool:
                        list(pool.map(lambda key: take_turns(story, hands, person, key, crowd), CROWD))
                finally:
                    crowd.stop()
                for made in service.get("/repairs?limit=500")["items"]:
                    counted = story.writes.setdefault(made["session_key"], Counter())
                    counted[made["kind"], made["hand"], made["outcome"]] += 1
            story.log = log.read_bytes()[before:].decode(errors="replace")
            story.rows = {key: json.loads(entry.text) for key, entry in hands.entries().items()}
            for key in CROWD:
                story.ended[key] = hands.ended_runs(story.rows[key]["sessionId"])
                history = person.call("chat.history", {"sessionKey": key, "limit": 100})["messages"]
                story.said[key] = [message["role"] for message in history]
        story.doctor = openclaw(gateway, "doctor", "--non-interactive")
    finally:
        gateway.end()
    story.checked = [hands.ask("PRAGMA integrity_check"), hands.ask("PRAGMA foreign_key_check"), hands.pending()]
    return story


def take_turns(story: Story, hands: Hands, person: Client, key: str, crowd: Crowd) -> None:
    runs = story.runs[key] = [person.send(key, "SLOW 6")]
    wait_until(lambda: any(change.get("phase") == "start" for _, change in person.changes(key)), 0.1)
    person.call("sessions.patch", {"key": key, "label": f"label of {key}"})
    wait_until(lambda: hands.last_run(key) == runs[-1], 1.0)
    while len(runs) < _FEWEST_TURNS or not (crowd.enough or len(runs) == _MOST_TURNS):
        runs.append(person.send(key, "hello"))
        wait_until(lambda: hands.last_run(key) == runs[-1], 1.0)


@pytest.fixture(
    scope="module",
    params=[(version, hand) for version in VERSIONS for hand in ("database", "plugin")],
    ids="-".join,
)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("crowd")
    with model_server() as port:
        version, hand = request.param
        yield play(hand, Gateway(version, folder / "home", port), folder)


def test_both_rows_were_written_again_and_again_by_this_hand_and_are_settled_at_last(story: Story) -> None:
    turns = sum(len(runs) for runs in story.runs.values())
    print(f"{story.hand}: {turns} turns; {story.writes}; {story.answers}")
    for key in STUCK:
        assert {hand for _, hand, _ in story.writes[key]} == {story.hand}
        assert story.writes[key]["settle", story.hand, "applied"] >= _FEWEST
        assert story.rows[key]["status"] == "done"


def test_every_run_beside_it_ends_in_its_row_as_the_gateway_meant_it(story: Story) -> None:
    for key in CROWD:
        row = story.rows[key]
        assert (row["status"], row["lastRunId"], "lifecycleRunId" in row) == ("done", story.runs[key][-1], False)
        assert row["label"] == f"label of {key}"
    assert "terminal session persistence failed" not in story.log


def test_every_trajectory_and_every_transcript_is_whole(story: Story) -> None:
    assert story.ended == story.runs
    assert story.said == {key: ["user", "assistant"] * len(runs) for key, runs in story.runs.items()}


def test_the_database_is_sound_and_the_doctor_finds_nothing_to_mend(story: Story) -> None:
    assert story.checked == [[("ok",)], [], []]
    assert "requires repair" not in story.doctor
