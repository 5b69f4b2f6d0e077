"""The state dir of a race: a recorded database, with rows whose turns have ended unsettled, and a history of each.

The history is kept by a trigger, so it has every change of an entry that was ever committed, in the order in which
they were, whoever made it.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.databases import LOCKED_OUT
from tests.stuck_rows import stuck
from tests.world import World

TURN_MS = 5
"""How long every turn of a race lasts."""
_TURN_KEY = "agent:main:turn-"
_HISTORY = """
CREATE TABLE history (
  number INTEGER PRIMARY KEY, session_key TEXT, counted_was INTEGER, counted INTEGER, turn_was INTEGER, turn INTEGER,
  status_was TEXT, status TEXT
);
CREATE TRIGGER history_of_rows AFTER UPDATE OF entry_json ON session_nodes
BEGIN
  INSERT INTO history (session_key, counted_was, counted, turn_was, turn, status_was, status) VALUES (
    NEW.session_key, json_extract(OLD.entry_json, '$.counted'), json_extract(NEW.entry_json, '$.counted'),
    json_extract(OLD.entry_json, '$.turn'), json_extract(NEW.entry_json, '$.turn'),
    json_extract(OLD.entry_json, '$.status'), json_extract(NEW.entry_json, '$.status')
  );
END;
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows there are, and how many bytes of filling each has."""

    name: str
    rows: int
    filling: int


SMALL = Size("4 rows of 1 KB", 4, 100)
MIDDLE = Size("40 rows of 30 KB", 40, 29_000)


@dataclass(frozen=True, slots=True)
class Field:
    """The folder of one race."""

    state_dir: Path
    database: Path
    keys: tuple[str, ...]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query).fetchall()


def lay_out(folder: Path, size: Size) -> Field:
    """Every row is stuck from the start."""
    world = World(folder)
    row = stuck(world)
    keys = tuple(f"{_TURN_KEY}{number}" for number in range(size.rows))
    with closing(sqlite3.connect(row.database.path)) as connection, connection:
        for key in keys:
            _copy_row(connection, key, row.database.entry(), size)
        connection.execute("DELETE FROM session_canonical_validation_pending")
        connection.executescript(_HISTORY)
    world.close()
    return Field(world.state, row.database.path, keys)


def _copy_row(connection: sqlite3.Connection, key: str, entry: dict[str, Any], size: Size) -> None:
    session_id = key.removeprefix("agent:main:")
    entry = {
        **{name: value for name, value in entry.items() if name != "skillsSnapshot"},
        "sessionId": session_id,
        "lifecycleRunId": "run-1",
        "counted": 0,
        "turn": 1,
        "note": "n" * size.filling,
    }
    given = (("session_nodes", {"current_session_id": session_id}), ("session_windows", {"session_id": session_id}))
    for table, values in given:
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        named = {**values, "session_key": key}
        copied = ", ".join("?" if name in named else name for name in columns)
        connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {copied} FROM {table} WHERE session_key = ?",
            [*(named[name] for name in columns if name in named), LOCKED_OUT],
        )
    text = json.dumps(entry, separators=(",", ":"))
    connection.execute("UPDATE session_nodes SET entry_json = ? WHERE session_key = ?", (text, key))
    connection.execute("UPDATE session_nodes SET entry_valid = 1 WHERE session_key = ?", (key,))
