"""An agent's database that a test holds in its hand: recorded from a real gateway, written to as a gateway writes.

The recordings stand in recordings/<version>/ as SQL. What 2026.9.6/locked-and-killed tells: a turn that was `refused`
by the model; one whose end could not be written since another process held the write lock for 21 s (`locked-out`, the
bug of issue #86009 in its newer form); one of which only the last event was lost in the same way (`half-told`); one
in which the gateway was killed (`killed`). 2026.8.1/locked tells of the second with a lock of 31 s, 2026.9.5/locked
with one of 10 s.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from app.demo import shifted
from app.domain.describe import rfc3339
from app.openclaw.paths import DATABASE_NAME
from tests.world import World

RECORDED = Path(__file__).parent / "recordings"
NEWEST = "2026.9.6/locked-and-killed"
MIDDLE = "2026.9.5/locked"
FIRST = "2026.8.1/locked"
SCHEMAS = {NEWEST: 23, MIDDLE: 21, FIRST: 19}
LOCKED_OUT = "agent:main:locked-out"
ENDED_AT = {NEWEST: 1_795_370_012_096, MIDDLE: 1_795_384_184_387, FIRST: 1_795_370_098_202}
"""The time of the end of `locked-out`, by recording."""
ENDED_AS = {NEWEST: "failed", MIDDLE: "done", FIRST: "failed"}
AT_WORK = {
    NEWEST: "2026.9.6/killed-at-work",
    MIDDLE: "2026.9.6/killed-at-work",
    FIRST: "2026.8.1/killed-at-work",
}
"""What the state database of the same version said, by recording; of 2026.9.5, which has none, that of the next."""


class AgentDatabase:
    """The database of the agent `main` of a state dir."""

    def __init__(self, state: Path) -> None:
        self.path = state / "agents" / "main" / "agent" / DATABASE_NAME

    def make(self, script: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)
        self.path.chmod(0o600)

    def rest(self, now: int) -> None:
        """As if it had been written a while before `now`."""
        for file in self.path.parent.iterdir():
            os.utime(file, ns=(0, (now - 60_000) * 1_000_000))

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def entry(self, key: str = LOCKED_OUT) -> dict[str, Any]:
        with closing(sqlite3.connect(self.path)) as connection:
            (text,) = connection.execute(
                "SELECT entry_json FROM session_nodes WHERE session_key = ?", (key,)
            ).fetchone()
        return dict(json.loads(text))

    def edit(self, key: str = LOCKED_OUT, **fields: Any) -> None:
        """Change a row as the gateway does: entry and columns, `entry_valid`, what is pending. None: take it away."""
        entry = {**self.entry(key), **fields}
        entry = {name: value for name, value in entry.items() if value is not None}
        self.put(key, json.dumps(entry, separators=(",", ":")), entry["updatedAt"], entry.get("status"))

    def put(self, key: str, text: str | bytes, updated_at: int, status: str | None, *, certify: bool = True) -> None:
        """`status`: for the column, which knows no `interrupted`."""
        column = "failed" if status == "interrupted" else status
        with self.writing() as connection:
            connection.execute(
                "UPDATE session_nodes SET entry_json = ?, updated_at = ?, status = ? WHERE session_key = ?",
                (text, updated_at, column, key),
            )
            if certify:
                connection.execute("UPDATE session_nodes SET entry_valid = 1 WHERE session_key = ?", (key,))
                tables = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%_validation_pending'")
                for (table,) in tables.fetchall():
                    connection.execute(f"DELETE FROM {table}")

    def run(self, statement: str, *values: Any) -> None:
        with self.writing() as connection:
            connection.execute(statement, values)

    def add_event(self, kind: str, at: int, key: str = LOCKED_OUT, **over: Any) -> None:
        """One more event of the row's run, or of the run `run_id`, behind all others of its session."""
        entry = self.entry(key)
        run_id = over.pop("run_id", entry.get("lifecycleRunId"))
        event = {
            "traceSchema": "openclaw-trajectory",
            "schemaVersion": 1,
            "type": kind,
            "ts": rfc3339(at),
            "seq": 1,
            "sessionId": entry["sessionId"],
            "sessionKey": key,
            "runId": run_id,
            **over,
        }
        self.run(
            "INSERT INTO trajectory_runtime_events SELECT ?, coalesce(max(seq) + 1, 0), ?, ?, ?"
            " FROM trajectory_runtime_events WHERE session_id = ?",
            entry["sessionId"],
            run_id,
            json.dumps(event, separators=(",", ":")),
            at,
            entry["sessionId"],
        )


class StateDatabase:
    """The database of a state dir, as its gateway left it: leases, the list of databases, who works on what."""

    def __init__(self, state: Path) -> None:
        self.path = state / "state" / "openclaw.sqlite"

    def make(self, script: str) -> None:
        self.path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(f"PRAGMA journal_mode=WAL; {script}")

    def run(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, values)

    def claim_turn(self, key: str, session_id: str, run_id: str) -> None:
        """As every turn does that begins: the recorded one of a turn that hung."""
        self.run(
            "UPDATE worker_session_placements SET session_key = ?, session_id = ?, turn_claim_run_id = ?"
            " WHERE session_key = 'agent:main:hang'",
            key,
            session_id,
            run_id,
        )

    def claim_task(self, key: str | None, run_id: str | None) -> None:
        """As an `agent` call does: the recorded one of a turn that hung."""
        change = "UPDATE task_runs SET child_session_key = ?, run_id = ? WHERE child_session_key = 'agent:main:sub'"
        self.run(change, key, run_id)

    def claim_subagent(self, key: str, run_id: str, **execution: Any) -> None:
        """As a session does that starts another one."""
        payload = {"childSessionKey": key, "runId": run_id, "execution": {"status": "running", **execution}}
        self.run(
            "INSERT INTO subagent_runs (run_id, child_session_key, requester_session_key, created_at, payload_json)"
            " VALUES (?, ?, 'agent:main:main', 0, ?)",
            run_id,
            key,
            json.dumps(payload),
        )

    def place(self, key: str, session_id: str, state: str = "active") -> None:
        """As a session that a worker elsewhere has taken over."""
        self.run(
            "INSERT INTO worker_session_placements (session_id, agent_id, session_key, state, environment_id,"
            " active_owner_epoch, workspace_base_manifest_ref, remote_workspace_dir, worker_bundle_hash,"
            " recovery_error, created_at_ms, updated_at_ms, state_changed_at_ms)"
            " VALUES (?, 'main', ?, ?, 'there', 1, 'ref', 'folder', 'hash', ?, 0, 0, 0)",
            session_id,
            key,
            state,
            "it failed" if state == "failed" else None,
        )


def state_database(world: World, recording: str = NEWEST) -> StateDatabase:
    """What the state database of the recording's version said when its gateway was killed at work."""
    made = StateDatabase(world.state)
    made.make((RECORDED / AT_WORK[recording] / "state" / "openclaw.sql").read_text())
    return made


def recorded(world: World, recording: str = NEWEST, *, ended_ago: float = 3_600.0) -> AgentDatabase:
    """A recording in the state dir of `world`, moved so that `locked-out` ended so many seconds before its now."""
    source = next((RECORDED / recording).rglob("*.sql"))
    shift = world.clock.now() - round(ended_ago * 1000) - ENDED_AT[recording]
    made = AgentDatabase(world.state)
    made.make(shifted(source.read_bytes(), shift).decode())
    made.rest(world.clock.now())
    return made
