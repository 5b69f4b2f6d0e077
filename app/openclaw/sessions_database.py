"""The only grammar of the rows in an agent's database (spec 2026.9.6, section 2); of their runs it is
app.openclaw.database_trails.

A look costs what has changed: keys, times and statuses stand in indexes; the entry of a row that does not run is read
when one of them is new, that of a row that runs each time.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain.model import RUNNING, Row
from app.openclaw.database import DatabaseIdentity, identify, opened_read_only
from app.openclaw.database_trails import RunEvents
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.parse import parse_object, whole
from app.openclaw.sessions_json import row_of
from app.openclaw.trails import Trails

KNOWN_SCHEMAS = frozenset({19, 21, 23})
"""Of the agent's database, 2026.8.1 to 2026.9.6: those that a writer may be taught."""
MOST_ROWS = 200_000
_TICK_MS = 1_000
"""Two writes within one tick of the file system's clock bear the same time; what is as fresh as this is read again."""
_BUSY_WITH = ("initializationPending", "incognito", "cronRunContinuation", "providerReview")
"""Fields by which OpenClaw keeps a row to itself, beside those that sessions.json knows (section 3.7)."""

_Mark = tuple[int, bytes | None, bool]
"""What the indexes say of a row: `updated_at`, `status`, and whether OpenClaw has found it valid."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """One of the ways in which the rows have been kept."""

    rows: str
    session_id: str
    windows: str
    certified: bool
    """It has `entry_valid`, and its running rows name their run."""


_SHAPES = (
    _Shape("session_nodes", "current_session_id", "session_windows", certified=True),
    _Shape("session_entries", "session_id", "sessions", certified=False),
)


@dataclass(frozen=True, slots=True)
class SessionsSeen:
    """One look at a database."""

    identity: DatabaseIdentity
    rows: tuple[Row, ...]
    trails: dict[str, Trails]
    """By session key, for the rows that run."""
    schema: int
    entries: dict[str, bytes]
    """By session key, the texts that the rows which run were read from."""
    bytes_read: int = 0

    @property
    def known_schema(self) -> bool:
        return self.schema in KNOWN_SCHEMAS


@dataclass(slots=True)
class _Memory:
    """What is remembered of one database."""

    identity: DatabaseIdentity
    seen: SessionsSeen | None
    """None: it keeps no sessions."""
    settled: bool
    """It was read long enough after its last write to be believed while its files look the same."""
    marks: dict[bytes, _Mark] = field(default_factory=dict)
    rows: dict[bytes, Row] = field(default_factory=dict)


class SessionsDatabaseReader:
    """Reads what has changed. One thread at a time."""

    def __init__(self) -> None:
        self._known: dict[str, _Memory] = {}

    def forget(self, path: str) -> None:
        self._known.pop(path, None)

    def read(self, folder: Folder, name: str, path: str, now: int) -> SessionsSeen | None:
        """What stands in the database `name` at `now` (epoch ms); None where it is not there or keeps no sessions.

        Raises FileProblem, also with `unknown_schema`.
        """
        identity = identify(folder, name)
        if identity is None:
            self.forget(path)
            return None
        known = self._known.get(path)
        if known is not None and known.settled and known.identity == identity:
            return known.seen
        try:
            with opened_read_only(folder, name) as (connection, identity):
                connection.execute("BEGIN")
                memory = _Look(connection, identity, path, known).take()
        except FileProblem:
            self.forget(path)
            raise
        memory.settled = now - identity.mtime > _TICK_MS
        self._known[path] = memory
        return memory.seen


class _Look:
    """One transaction's view."""

    def __init__(
        self, connection: sqlite3.Connection, identity: DatabaseIdentity, path: str, known: _Memory | None
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._path = path
        self._known = known
        self._bytes = 0
        self._entries: dict[str, bytes] = {}
        tables = self._all("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._tables = {n.decode("utf-8", "replace") for (n,) in tables}

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def take(self) -> _Memory:
        """Raises FileProblem."""
        shape = next((s for s in _SHAPES if s.rows in self._tables), None)
        if shape is None:
            return _Memory(self._identity, None, settled=False)
        try:
            return self._take(shape)
        except (sqlite3.OperationalError, _Unfit) as error:
            if isinstance(error, _Unfit) or error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise FileProblem("unknown_schema", f"its tables are not as we know them: {error}") from None
            raise

    def _take(self, shape: _Shape) -> _Memory:
        marks = self._marks(shape)
        known = self._known
        rows: dict[bytes, Row] = {}
        trails: dict[str, Trails] = {}
        pending = self._pending()
        windows = shape.windows if shape.windows in self._tables else None
        told = RunEvents(self._connection, self._path, self._identity.main, windows)
        for key, mark in marks.items():
            old = known.rows.get(key) if known is not None and known.marks.get(key) == mark else None
            if old is not None and old.status != RUNNING:
                rows[key] = old
                continue
            row = self._row(shape, key, mark, pending=key in pending)
            if row is None:
                continue
            rows[key] = row
            if row.status == RUNNING and row.problem is None:
                trails[row.key] = told.of(row)
        schema = self._all("PRAGMA user_version")[0][0]
        seen = SessionsSeen(
            self._identity,
            tuple(rows.values()),
            trails,
            whole(schema) or 0,
            self._entries,
            self._bytes + told.bytes_read,
        )
        return _Memory(self._identity, seen, settled=False, marks=marks, rows=rows)

    def _marks(self, shape: _Shape) -> dict[bytes, _Mark]:
        """What the indexes say of every row."""
        times = self._all(f"SELECT session_key, updated_at FROM {shape.rows} LIMIT {MOST_ROWS + 1}")  # noqa: S608
        if len(times) > MOST_ROWS:
            raise FileProblem("too_large", f"it has more than {MOST_ROWS} sessions")
        statuses = dict(
            self._all(f"SELECT session_key, status FROM {shape.rows} WHERE status IS NOT NULL")  # noqa: S608
        )
        invalid = set()
        if shape.certified:
            invalid = {k for (k,) in self._all(f"SELECT session_key FROM {shape.rows} WHERE entry_valid <> 1")}  # noqa: S608
        marks: dict[bytes, _Mark] = {}
        for key, updated_at in times:
            status = statuses.get(key)
            if not isinstance(key, bytes) or not isinstance(updated_at, int):
                raise _Unfit("a key or a time is of another type")
            marks[key] = (updated_at, status if isinstance(status, bytes) else None, key not in invalid)
        return marks

    def _pending(self) -> set[object]:
        if "session_canonical_validation_pending" not in self._tables:
            return set()
        query = f"SELECT session_key FROM session_canonical_validation_pending LIMIT {MOST_ROWS}"  # noqa: S608
        return {key for (key,) in self._all(query)}

    def _row(self, shape: _Shape, key: bytes, mark: _Mark, *, pending: bool) -> Row | None:
        """One row; None when its key is none."""
        shown = key.decode("utf-8", "replace")
        query = f"SELECT {shape.session_id}, entry_json FROM {shape.rows} WHERE session_key = CAST(? AS TEXT)"  # noqa: S608
        try:
            found = self._all(query, key)
        except sqlite3.DataError:
            return Row(shown, status=_column_status(mark), problem="its row is larger than any that OpenClaw writes")
        if not found:
            return None
        session_id, text = found[0]
        self._bytes += len(text) if isinstance(text, bytes) else 0
        value = parse_object(text) if isinstance(text, bytes) else None
        if value is None:
            return Row(shown, status=_column_status(mark), problem="its row is not an object")
        row = row_of(shown, value)
        if RUNNING not in (row.status, _column_status(mark)):
            return row
        busy = tuple(name for name in _BUSY_WITH if value.get(name))
        row = replace(row, recovery=(*row.recovery, *busy), run_id=_name(value.get("lifecycleRunId")))
        problem = _problem(shape, row, session_id, mark, pending=pending)
        if problem is not None:
            return replace(row, status=RUNNING, problem=problem)
        self._entries[shown] = text
        return replace(row, yielded=row.ended_at is not None)


class _Unfit(Exception):
    """The tables hold something else than they should."""


def _problem(shape: _Shape, row: Row, session_id: object, mark: _Mark, *, pending: bool) -> str | None:
    """Why a running row cannot be judged; None when it can (spec 2026.9.6, sections 2.5, 3.7 and 7)."""
    updated_at, _, valid = mark
    if row.session_id is None:
        return "its row has no valid sessionId"
    if updated_at == 0:
        return "its row waits for a reset of the session (its updatedAt is 0)"
    if row.session_id.encode() != session_id or row.updated_at != updated_at:
        return "its row and its columns tell of different turns: OpenClaw takes such a row for invalid"
    if row.status != _column_status(mark):
        return "its row and its column tell of different statuses"
    if not valid:
        return "OpenClaw has not found its row valid"
    if pending:
        return "OpenClaw has yet to validate its row"
    if shape.certified and row.run_id is None:
        return "its row names no run, so no end can be matched to it"
    return None


def _column_status(mark: _Mark) -> str | None:
    return mark[1].decode("utf-8", "replace") if mark[1] is not None else None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value and value.isprintable() and len(value) < 500 else None
