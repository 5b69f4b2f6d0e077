"""A real gateway of the SQLite era, a turn of which a locked database has kept the end from its row, and a Clawmend: it
settles the row beside the gateway, gives it back, and settles it once more while the gateway is stopped.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.entry import Entry
from tests.integration.served import FROM_CHECKOUT, environment, run, served
from tests.live.client import Client
from tests.live.gateway import Gateway
from tests.live.hands import VERSIONS, Hands, wait_until
from tests.live.model_server import model_server

KEY = "agent:main:locked-out"
_TOO_SLOW = "(too_slow)"
"""On a machine that is busy a commit may take longer than we keep a gateway waiting: it is given up, tried again."""


@dataclass
class Story:
    """What was seen."""

    stuck: Entry | None = None
    settled: Entry | None = None
    given_back: Entry | None = None
    settled_again: Entry | None = None
    in_the_end: Entry | None = None
    repair: dict[str, Any] = field(default_factory=dict)
    put_off: list[dict[str, Any]] = field(default_factory=list)
    """Attempts before that one."""
    undo: dict[str, Any] = field(default_factory=dict)
    listed: dict[str, Any] = field(default_factory=dict)
    """As the gateway lists it once it has been told."""
    listed_again: dict[str, Any] = field(default_factory=dict)
    """As the next gateway lists it."""
    command: subprocess.CompletedProcess[str] | None = None
    audit: str = ""


def play(gateway: Gateway, folder: Path) -> Story:
    story, hands = Story(), Hands(gateway)
    env = environment(
        folder / "user",
        CLAWMEND_GATEWAY="auto",
        CLAWMEND_STATE_DIR=str(gateway.state),
        CLAWMEND_DATABASE_URL=f"sqlite:///{folder / 'audit.db'}",
        CLAWMEND_STALE_AFTER_SECONDS="2",
        CLAWMEND_SCAN_INTERVAL_SECONDS="1",
        CLAWMEND_AUTH="off",
    )

    def row() -> Entry:
        return hands.entries()[KEY]

    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            story.stuck = hands.leave_running(person, KEY)
            hands.end_of(story.stuck)
            with served(*FROM_CHECKOUT, "serve", env=env, cwd=folder) as clawmend:
                wait_until(lambda: any(r["told"] for r in clawmend.get("/repairs")["items"]), 0.2)
                story.settled, story.listed = row(), person.listed()[KEY]
                story.repair, *story.put_off = clawmend.get("/repairs")["items"]
                undo = f"{clawmend.url}/repairs/{story.repair['id']}/undo"
                while _TOO_SLOW in str(story.undo.get("outcome_reason", _TOO_SLOW)):
                    story.undo = httpx.post(undo, json={"reason": "a test"}, trust_env=False, timeout=180).json()
                story.given_back = row()
    finally:
        gateway.end()
    story.command = run(*FROM_CHECKOUT, "repair", KEY, "--apply", "--reason", "a test", env=env, cwd=folder)
    story.audit = run(*FROM_CHECKOUT, "audit", env=env, cwd=folder).stdout
    story.settled_again = row()
    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            story.listed_again = person.listed()[KEY]
            story.in_the_end = row()
    finally:
        gateway.end()
    return story


@pytest.fixture(scope="module", params=VERSIONS)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("settling")
    with model_server() as port:
        yield play(Gateway(request.param, folder / "home", port), folder)


def test_the_row_ran_on_though_its_turn_had_ended(story: Story) -> None:
    assert story.stuck is not None
    assert (story.stuck.status, story.stuck.ended_at) == ("running", None)


def test_beside_the_gateway_it_is_settled_in_the_database_and_the_gateway_shows_it(story: Story) -> None:
    assert story.settled is not None
    assert (story.repair["outcome"], story.repair["hand"], story.repair["trigger"]) == (
        "applied",
        "database",
        "scheduler",
    )
    assert all(_TOO_SLOW in attempt["outcome_reason"] for attempt in story.put_off)
    assert story.repair["evidence"]["liveness"]["active_run_ids"] == []
    assert story.repair["told"]["answer"] == "as_repaired"
    assert (story.settled.status, story.listed["status"]) == ("done", "done")
    assert story.listed["endedAt"] == story.settled.ended_at == story.repair["after"]["endedAt"]


def test_beside_the_gateway_it_is_given_back(story: Story) -> None:
    assert story.stuck is not None and story.given_back is not None
    assert (story.undo["outcome"], story.undo["hand"]) == ("applied", "database"), story.undo
    was, now = story.stuck, story.given_back
    assert (now.status, now.ended_at, now.run_id) == ("running", None, was.run_id)


def test_while_the_gateway_is_stopped_it_is_settled_too(story: Story) -> None:
    assert story.command is not None and story.settled_again is not None
    assert story.command.returncode == 0, story.command.stderr
    assert story.settled_again.status == "done"
    newest, *_ = story.audit.splitlines()
    assert "applied" in newest and "database" in newest


def test_the_next_gateway_lists_it_as_done_and_leaves_it_so(story: Story) -> None:
    assert story.listed_again["status"] == "done"
    assert story.in_the_end == story.settled_again
