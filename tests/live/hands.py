"""All that the live tests do to a gateway's database from outside: they lock it, look into it, and write to it."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import closing
from typing import Any

import apsw

from app.domain.entry import Entry, entry_of, settled_entry
from app.domain.model import Settlement
from app.openclaw.database_process import replace_in_a_process
from app.openclaw.replacement import Replacement, Written
from tests.live.client import Client
from tests.live.gateway import NODE, Gateway
from tests.live.scene import seconds

VERSIONS = ("2026.9.6", "2026.8.1")
"""The newest that keeps its rows in a database, and the first stable one."""
PENDING = "session_canonical_validation_pending"
_PATIENCE = 600.0
"""Seconds for anything to come: some ten on a machine that is not busy; nothing is measured by it."""
_POLL = 0.002
_WAITED_IN_VAIN = "SQLite transaction lock wait failed"
_GIVEN_UP = "terminal session persistence failed"
"""What the gateway logs when it could not write the end of a turn: it does not try again."""


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
        """Hold the write lock from the moment that the answer is in the transcript until two writes have waited in
        vain: the first events of the trajectory, and the end of the row. The third, the rest of the trajectory, is let
        through: 2026.8.1 does not try that again either, and then nothing tells that the turn has ended.
        """
        log = self.gateway.home / "gateway.log"

        def logged(what: str) -> int:
            return log.read_text(errors="replace").count(what)

        in_vain, given_up = logged(_WAITED_IN_VAIN), logged(_GIVEN_UP)
        with closing(apsw.Connection(str(self.path))) as connection:
            connection.set_busy_timeout(5_000)
            query = 'SELECT 1 FROM transcript_events WHERE session_id = ? AND event_json LIKE \'%"role":"assistant"%\''
            wait_until(lambda: connection.execute(query, (session_id,)).fetchone() is not None)
            connection.execute("BEGIN IMMEDIATE")
            wait_until(lambda: logged(_WAITED_IN_VAIN) >= in_vain + 2)
            connection.execute("ROLLBACK")
        wait_until(lambda: logged(_GIVEN_UP) > given_up)

    def leave_running(self, person: Client, key: str) -> Entry:
        """The bug for real: a turn that is over, while its row runs on."""
        person.send(key, "SLOW 2")
        wait_until(lambda: person.listed().get(key, {}).get("status") == "running", 0.1)
        self.lock_out(self.entries()[key].session_id)
        wait_until(lambda: person.listed()[key]["hasActiveRun"] is False, 0.2)
        return self.entries()[key]

    def last_run(self, key: str) -> Any:
        return json.loads(self.entries()[key].text).get("lastRunId")

    def validity(self, key: str) -> int:
        """1: valid; 0: changed, and not looked at since; -1: OpenClaw has found it to be invalid."""
        ((found,),) = self.ask("SELECT entry_valid FROM session_nodes WHERE session_key = ?", key)
        return int(found)

    def pending(self) -> list[Any]:
        """What OpenClaw has yet to validate; before schema 21 there is no such list."""
        there = self.ask("SELECT 1 FROM sqlite_master WHERE name = ?", PENDING)
        return self.ask(f"SELECT session_key FROM {PENDING}") if there else []

    def events_of(self, entry: Entry) -> int:
        """How many events of its trajectory the database has."""
        query = "SELECT count(*) FROM trajectory_runtime_events WHERE session_id = ?"
        ((found,),) = self.ask(query, entry.session_id)
        return int(found)

    def ended_runs(self, session_id: str) -> list[str]:
        """The runs of which its trajectory has the end, in order."""
        query = "SELECT run_id, event_json FROM trajectory_runtime_events WHERE session_id = ? ORDER BY seq"
        events = [(run, json.loads(text)["type"]) for run, text in self.ask(query, session_id)]
        return [run for run, kind in events if kind == "session.ended"]

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


def openclaw(gateway: Gateway, *words: str) -> str:
    command = [str(NODE / "node"), str(gateway.program), *words]
    done = subprocess.run(command, env=gateway.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
