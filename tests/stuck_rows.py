"""A row that a real gateway left running in its database (recordings), and what it is to become."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from app.domain.entry import entry_of, settled_entry
from app.domain.model import Settlement
from app.openclaw.database_write import replace_entry
from app.openclaw.replacement import Replacement, Written
from tests.databases import LOCKED_OUT, NEWEST, AgentDatabase, StateDatabase, recorded, state_database
from tests.world import World


@dataclass
class Stuck:
    """A running row, and what it is to become."""

    world: World
    database: AgentDatabase
    state: StateDatabase
    what: Replacement

    @property
    def now(self) -> int:
        return self.world.clock.now()

    def write(self, **over: Any) -> Written:
        return replace_entry(replace(self.what, **over), self.now)

    def undo(self) -> Written:
        return self.write(before=self.what.after, after=self.what.before)

    def node(self) -> tuple[Any, ...]:
        """Everything that the row says, in the node and in its window."""
        return self.ask(
            "SELECT CAST(n.entry_json AS BLOB), n.entry_valid, n.updated_at, n.status,"
            " w.status, w.started_at, w.ended_at, w.updated_at"
            " FROM session_nodes n JOIN session_windows w ON w.session_id = n.current_session_id"
            " WHERE n.session_key = ?",
            LOCKED_OUT,
        )[0]

    def rest(self) -> list[tuple[Any, ...]]:
        """Everything else in the database that a gateway reads rows by."""
        found: list[tuple[Any, ...]] = []
        for table in ("session_nodes", "session_windows"):
            found += self.ask(f"SELECT * FROM {table} WHERE session_key <> ? ORDER BY 1", LOCKED_OUT)
        return found + self.ask("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")

    def pending(self) -> list[tuple[Any, ...]]:
        return self.ask("SELECT session_key FROM session_canonical_validation_pending")

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database.path)) as connection:
            return connection.execute(query, values).fetchall()

    def is_untouched(self) -> bool:
        before = entry_of(self.what.before)
        text, valid, updated_at, status, window, *_ = self.node()
        found = (text, valid, updated_at, status, window)
        return found == (self.what.before, 1, before.updated_at, "running", "running")


_ANY_TIME = 60.0
"""Seconds: a machine that is busy is none of a test's affair."""


def stuck(world: World, recording: str = NEWEST) -> Stuck:
    database = recorded(world, recording)
    beside = state_database(world, recording)
    with closing(sqlite3.connect(database.path)) as connection:
        query = "SELECT CAST(entry_json AS BLOB) FROM session_nodes WHERE session_key = ?"
        (text,) = connection.execute(query, (LOCKED_OUT,)).fetchone()
    entry = entry_of(text)
    assert entry.started_at is not None and entry.run_id is not None
    done = Settlement("done", entry.started_at + 5_000, 5_000, False)
    after = settled_entry(text, done, entry.run_id)
    state, path = str(world.state), str(database.path)
    return Stuck(world, database, beside, Replacement(state, state, path, LOCKED_OUT, text, after, False, _ANY_TIME))
