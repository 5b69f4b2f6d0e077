"""Who still works on a session by the state database, `state/openclaw.sqlite` (spec 2026.9.6, sections 2.1 and 3.7).

A table that is not there claims nothing: older schemas lack it. One that is there and holds something else than it
should is an unknown schema: then nobody knows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.domain.model import Claim
from app.openclaw.database import DatabaseIdentity
from app.openclaw.folder import FileProblem
from app.openclaw.state_database import identify_state_database, opened_state_database

_MOST = 10_000
_TICK_MS = 1_000
"""As for an agent's database: what is as fresh as this is read again, however its files look."""

_PLACED = """
    SELECT session_key, session_id, turn_claim_run_id,
           turn_claim_owner IS NOT 'local' OR state NOT IN ('local', 'requested', 'failed')
    FROM worker_session_placements
    WHERE turn_claim_owner IS NOT NULL OR state NOT IN ('local', 'reclaimed', 'failed')
"""
"""Every turn claims its session's place and gives it back at its end; any other place than the gateway's own is a
worker's, who goes on without the gateway."""

_ENDED = (
    "json_type(payload_json, '$.execution.endedAt'), json_type(payload_json, '$.parentCompletion.execution.endedAt')"
)
_SPAWNED = f"""
    SELECT child_session_key, NULL, run_id, 0 FROM subagent_runs
    WHERE coalesce(CASE WHEN json_valid(payload_json) THEN coalesce({_ENDED}) END, '') NOT IN ('integer', 'real')
"""  # noqa: S608
"""A run without an `endedAt`."""

_OVER = (b"succeeded", b"failed", b"timed_out", b"cancelled", b"lost")
_STATUSES = """
    WITH RECURSIVE found(status) AS (
      SELECT min(status) FROM task_runs
      UNION ALL
      SELECT (SELECT min(status) FROM task_runs WHERE status > found.status) FROM found WHERE found.status IS NOT NULL
    )
    SELECT status FROM found WHERE status IS NOT NULL
"""
"""From one to the next by their index: the table keeps thousands of tasks that are over."""
_TASKS = "SELECT child_session_key, NULL, run_id, 0 FROM task_runs WHERE status = CAST(? AS TEXT)"


@dataclass(frozen=True, slots=True)
class _Entry:
    claim: Claim
    names: tuple[str | None, ...]
    """The key, id and run of the session that it is on, as far as its table tells; in small letters."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What the state database says of all sessions."""

    entries: tuple[_Entry, ...] = ()

    def on(self, key: str, session_id: str | None, run_id: str | None) -> tuple[Claim, ...]:
        """Those on a session, by its key, its id, or the run that keeps it running."""
        wanted = [name and name.lower() for name in (key, session_id, run_id)]
        found = (
            each.claim
            for each in self.entries
            if any(a is not None and a == b for a, b in zip(wanted, each.names, strict=True))
        )
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Memory:
    identity: DatabaseIdentity
    claims: Claims
    settled: bool
    """Read long enough after its last write to be believed while its files look the same."""


class ClaimsReader:
    """Remembers what each state database says until it changes. One thread at a time."""

    def __init__(self) -> None:
        self._known: dict[str, _Memory] = {}

    def read(self, state_dir: str, now: int) -> Claims:
        """As `read_claims`, at `now` (epoch ms)."""
        try:
            identity = identify_state_database(state_dir)
        except FileProblem:
            identity = None  # read_claims says what is wrong
        known = self._known.pop(state_dir, None)
        if known is None or not known.settled or known.identity != identity:
            claims = read_claims(state_dir)
            if identity is None:
                return claims
            known = _Memory(identity, claims, now - identity.mtime > _TICK_MS)
        self._known[state_dir] = known
        return known.claims


def read_claims(state_dir: str) -> Claims:
    """None where there is no state database. Raises FileProblem, also with `unknown_schema`: then nobody knows."""
    try:
        with opened_state_database(state_dir) as connection:
            return Claims(tuple(_entries(connection)))
    except FileProblem as problem:
        if problem.code == "missing":
            return Claims()
        raise


def _entries(connection: sqlite3.Connection) -> list[_Entry]:
    """Raises FileProblem."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    found: list[_Entry] = []
    for table, read in _TABLES.items():
        if table.encode() not in tables:
            continue
        try:
            rows = read(connection)
            if len(rows) > _MOST:
                raise FileProblem("too_large", f"more than {_MOST} rows of its {table} are not over")
            found += (_Entry(Claim(table, bool(outlives)), tuple(map(_name, names))) for *names, outlives in rows)
        except (sqlite3.OperationalError, TypeError) as error:
            if isinstance(error, TypeError) or error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise FileProblem("unknown_schema", f"its {table} is not as we know it") from None
            raise
    return found


def _rows(connection: sqlite3.Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    return connection.execute(f"{query} LIMIT {_MOST + 1}", values).fetchall()


def _tasks(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    going_on = (status for (status,) in _rows(connection, _STATUSES) if status not in _OVER)
    return [task for status in going_on for task in _rows(connection, _TASKS, status)]


_TABLES: dict[str, Callable[[sqlite3.Connection], list[tuple[Any, ...]]]] = {
    "worker_session_placements": lambda connection: _rows(connection, _PLACED),
    "subagent_runs": lambda connection: _rows(connection, _SPAWNED),
    "task_runs": _tasks,
}


def _name(value: object) -> str | None:
    """Raises TypeError."""
    if value is not None and not isinstance(value, bytes):
        raise TypeError
    return value.decode("utf-8", "replace").lower() if value is not None else None
