"""Who works on the databases of a state dir, by the leases in `state/openclaw.sqlite` (spec 2026.9.6, section 2.7)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from app.openclaw.folder import FileProblem
from app.openclaw.processes import sees_all_processes, start_ticks
from app.openclaw.state_database import opened_state_database

_MAINTENANCE = "core:agent-database-maintenance"
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Opener:
    """A process that has said that it has an agent's database open."""

    pid: int
    start_ticks: int | None


@dataclass(frozen=True, slots=True)
class Leases:
    """What the state database says."""

    maintenance_until: int | None = None
    """`openclaw doctor --fix` and its like work on the databases until this time (epoch ms), if they do not say on."""
    openers: tuple[Opener, ...] = ()


def read_leases(state_dir: str) -> Leases:
    """Raises FileProblem: also where the state database is not there, since then nothing is known."""
    with opened_state_database(state_dir) as connection:
        return _read(connection)


def _read(connection: sqlite3.Connection) -> Leases:
    query = "SELECT max(expires_at) FROM state_leases WHERE scope = ?"
    (until,) = connection.execute(query, (_MAINTENANCE,)).fetchone()
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'agent_database_leases'").fetchone()
    query = f"SELECT owner_pid, owner_start_time FROM agent_database_leases LIMIT {_MOST}"  # noqa: S608
    rows = connection.execute(query).fetchall() if known else []
    if not all(value is None or isinstance(value, int) for value in (until, *(v for row in rows for v in row))):
        raise FileProblem("unknown_schema", "its leases are not as we know them")
    return Leases(until, tuple(Opener(pid, ticks) for pid, ticks in rows))


def under_maintenance(leases: Leases, now: int) -> bool:
    """Whether nobody else may write at `now` (epoch ms)."""
    return leases.maintenance_until is not None and leases.maintenance_until > now


def still_open(leases: Leases, start: Callable[[int], int | None] = start_ticks) -> Opener | None:
    """A process that may have one of the databases open: it lives, or this machine's processes are not all in sight.

    `start` gives the start of a living process in ticks since the boot, or None.
    """
    for opener in leases.openers:
        current = start(opener.pid)
        if current is None and sees_all_processes():
            continue
        if current is None or opener.start_ticks is None or opener.start_ticks == current:
            return opener
    return None
