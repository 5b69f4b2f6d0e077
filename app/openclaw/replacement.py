"""The order to put one text in the place of another in a database, and what became of it.

Apart from the writer, whose SQLite only the process loads that writes (app.openclaw.database_process).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["written", "changed", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is to be written, and where. `before` and `after` are whole texts of `entry_json`."""

    state_dir: str
    root: str
    """Below this folder no component of the path may be a link."""
    path: str
    """Of the agent's database."""
    key: str
    before: bytes
    after: bytes
    live: bool
    """The gateway runs, and has said that nothing runs for this key. Otherwise no process may have it open."""
    hold_seconds: float
    """As long as this may pass from BEGIN to COMMIT: the gateway's one thread stands still when it wants to write."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of it. The table in docs/explanation/sqlite-writing.md explains each code."""

    kind: Kind
    code: str = ""
    detail: str = ""
    held_ms: float | None = None
    """How long the write lock was held."""
