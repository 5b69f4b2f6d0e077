"""Rows of a real gateway of the SQLite era, left running by a lock across the end of their turns, and what it makes of
them when they have been settled in its database: while it runs, and while it is stopped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import apsw
import pytest

from app.domain.entry import Entry, entry_of, settled_entry
from app.domain.model import Settlement
from app.openclaw.database_process import replace_in_a_process
from app.openclaw.database_write import Replacement, Written
from tests.live.client import Client
from tests.live.gateway import NODE, Gateway
from tests.live.model_server import model_server
from tests.live.scene import seconds

VERSION = "2026.9.6"
LIVE, STOPPED, LEFT = "agent:main:settled-live", "agent:main:settled-while-stopped", "agent:main:left-running"
_PATIENCE = 180.0
_POLL = 0.002
_GIVEN_UP = "terminal session persistence failed"
"""What the gateway logs when it could not write the end of a turn: it does not try again."""


@dataclass
class Story:
    """What was seen."""

    rows: dict[str, dict[str, Entry]] = field(default_factory=dict)
    """At each stage, every entry."""
    pending: dict[str, list[Any]] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)
    listed: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    naive: str = ""
    """What the gateway said when it was started on a row that was updated without more ado."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """`openclaw sessions --json`, once it has been started again."""
    doctor: str = ""


class Hands:
    """All that is done to the gateway's database from outside, with one library."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.path = gateway.state / "agents" / "main" / "agent" / "openclaw-agent.sqlite"

    def ask(self, query: str, *values: Any) -> list[Any]:
        with closing(apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            connection.set_busy_timeout(5_000)
            return connection.execute(query, values).fetchall()

    def entries(self) -> dict[str, Entry]:
        rows = self.ask("SELECT session_key, CAST(entry_json AS BLOB), entry_valid FROM session_nodes")
        assert {valid for *_, valid in rows} == {1}
        return {key: entry_of(text) for key, text, _ in rows}

    def lock_out(self, session_id: str) -> None:
        """Hold the write lock from the moment that the answer is in the transcript until the end is given up."""
        log = self.gateway.home / "gateway.log"
        given_up = log.read_text(errors="replace").count(_GIVEN_UP)
        with closing(apsw.Connection(str(self.path))) as connection:
            connection.set_busy_timeout(5_000)
            query = 'SELECT 1 FROM transcript_events WHERE session_id = ? AND event_json LIKE \'%"role":"assistant"%\''
            wait_until(lambda: connection.execute(query, (session_id,)).fetchone() is not None)
            connection.execute("BEGIN IMMEDIATE")
            wait_until(lambda: log.read_text(errors="replace").count(_GIVEN_UP) > given_up)
            connection.execute("ROLLBACK")

    def end_of(self, entry: Entry) -> int:
        """When the turn ended, by its trajectory (epoch ms); it is written some time after."""
        query = (
            "SELECT event_json FROM trajectory_runtime_events WHERE session_id = ? AND run_id = ?"
            " ORDER BY seq DESC LIMIT 1"
        )
        ended: list[dict[str, Any]] = []

        def told() -> bool:
            ended[:] = [json.loads(text) for (text,) in self.ask(query, entry.session_id, entry.run_id)]
            return bool(ended) and ended[0]["type"] == "session.ended"

        wait_until(told, 0.1)
        assert ended[0]["data"]["status"] == "success"
        return round(seconds(ended[0]["ts"]) * 1000)

    def settle(self, key: str, *, live: bool) -> Written:
        entry = self.entries()[key]
        ended_at = self.end_of(entry)
        assert entry.started_at is not None and entry.run_id is not None
        settlement = Settlement("done", ended_at, max(0, ended_at - entry.started_at), False)
        after = settled_entry(entry.text, settlement, entry.run_id)
        state = str(self.gateway.state)
        what = Replacement(state, state, str(self.path), key, entry.text, after, live, hold_seconds=1.0)
        return replace_in_a_process(what, time.time_ns() // 1_000_000)

    def update_without_more_ado(self, key: str) -> None:
        changes = "entry_json = json_set(entry_json, '$.status', 'done'), status = 'done', updated_at = ?"
        self.ask(f"UPDATE session_nodes SET {changes} WHERE session_key = ?", time.time_ns() // 1_000_000, key)


def wait_until(there: Any, poll: float = _POLL) -> None:
    until = time.monotonic() + _PATIENCE
    while not there():
        assert time.monotonic() < until, "it did not come"
        time.sleep(poll)


def play(gateway: Gateway) -> Story:
    story, hands = Story(), Hands(gateway)

    def note(stage: str) -> None:
        story.rows[stage] = hands.entries()
        story.pending[stage] = hands.ask("SELECT session_key FROM session_canonical_validation_pending")

    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            for key in (LIVE, STOPPED, LEFT):
                person.send(key, "SLOW 2")
                wait_until(lambda key=key: person.listed().get(key, {}).get("status") == "running", 0.1)
                hands.lock_out(hands.entries()[key].session_id)
            wait_until(lambda: all(person.listed()[k]["hasActiveRun"] is False for k in (LIVE, STOPPED, LEFT)), 0.2)
            note("stuck")
            story.written[LIVE] = hands.settle(LIVE, live=True)
            note("settled live")
            story.listed["before the patch"] = person.listed()
            person.call("sessions.patch", {"key": LIVE})
            story.listed["after the patch"] = person.listed()
            for key in (STOPPED, LEFT):
                hands.end_of(hands.entries()[key])
    finally:
        gateway.end()
    story.written[STOPPED] = hands.settle(STOPPED, live=False)
    note("settled while stopped")
    aside = gateway.home / "aside"
    shutil.copytree(gateway.state, aside, symlinks=True)
    hands.update_without_more_ado(LEFT)
    try:
        gateway.start()
    except RuntimeError as error:
        story.naive = str(error)
    gateway.end()
    shutil.rmtree(gateway.state)
    aside.rename(gateway.state)
    gateway.start()
    try:
        was = story.rows["stuck"][LEFT].run_id
        with closing(Client(gateway)) as person:
            wait_until(lambda: run_again(hands, was), 0.2)
            story.listed["started again"] = person.listed()
        story.sessions = json.loads(openclaw(gateway, "sessions", "--json"))["sessions"]
        story.doctor = openclaw(gateway, "doctor", "--non-interactive")
        note("after the doctor")
    finally:
        gateway.end()
    return story


def run_again(hands: Hands, was: str | None) -> bool:
    """Whether the turn that was left running, and had ended, has been run a second time to its end."""
    last = json.loads(hands.entries()[LEFT].text).get("lastRunId")
    return last not in (None, was)


def openclaw(gateway: Gateway, *words: str) -> str:
    command = [str(NODE / "node"), str(gateway.program), *words]
    done = subprocess.run(command, env=gateway.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with model_server() as port:
        yield play(Gateway(VERSION, tmp_path_factory.mktemp("database"), port))


def test_the_bug_is_there_the_turns_have_ended_and_the_rows_run_on(story: Story) -> None:
    stuck = story.rows["stuck"]
    assert {(stuck[k].status, stuck[k].ended_at) for k in (LIVE, STOPPED, LEFT)} == {("running", None)}


def test_a_row_is_settled_while_the_gateway_runs_and_one_patch_makes_it_show_it(story: Story) -> None:
    assert story.written[LIVE].kind == "written", story.written
    row = story.rows["settled live"][LIVE]
    assert row.status == "done"
    shown = story.listed["after the patch"][LIVE]
    assert (shown["status"], shown["endedAt"]) == ("done", row.ended_at)


def test_a_row_is_settled_while_the_gateway_is_stopped_and_nothing_waits_to_be_validated(story: Story) -> None:
    assert story.written[STOPPED].kind == "written", story.written
    assert story.rows["settled while stopped"][STOPPED].status == "done"
    assert story.pending["settled while stopped"] == []


def test_the_gateway_starts_lists_the_row_as_done_and_the_doctor_changes_nothing(story: Story) -> None:
    by_key = {row["key"]: row for row in story.sessions}
    assert by_key[STOPPED]["status"] == by_key[LIVE]["status"] == "done"
    assert story.rows["after the doctor"][STOPPED].text == story.rows["settled while stopped"][STOPPED].text
    assert story.pending["after the doctor"] == []
    assert "requires repair" not in story.doctor


def test_the_turn_of_a_settled_row_is_not_run_again_and_that_of_one_that_was_left_running_is(story: Story) -> None:
    def last_run(stage: str, key: str) -> Any:
        return json.loads(story.rows[stage][key].text).get("lastRunId")

    runs = {key: story.rows["stuck"][key].run_id for key in (LIVE, STOPPED, LEFT)}
    assert last_run("after the doctor", STOPPED) == runs[STOPPED]
    assert last_run("after the doctor", LIVE) == runs[LIVE]
    assert last_run("after the doctor", LEFT) not in (None, runs[LEFT])


def test_a_row_that_is_updated_without_more_ado_keeps_the_gateway_from_starting(story: Story) -> None:
    assert "requires repair" in story.naive
