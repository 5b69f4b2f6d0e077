"""What an agent's database tells of a run (spec 2026.9.6, section 4): its events, how far its transcript has come."""

from __future__ import annotations

import sqlite3
from typing import Any

from app.domain.model import FileIdentity, Row, Trail
from app.openclaw.parse import parse_object, whole
from app.openclaw.trails import Trails
from app.openclaw.trajectory import KEPT_EVENTS, Tail, is_registered, trail_of


class RunEvents:
    """One transaction's view. `bytes_read` counts the events' own."""

    def __init__(self, connection: sqlite3.Connection, path: str, main: FileIdentity, windows: str | None) -> None:
        """`windows`: the table that has the sessions' transcripts; None where there is none."""
        self._connection = connection
        self._path = path
        self._main = main
        self._windows = windows
        self.bytes_read = 0

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def of(self, row: Row) -> Trails:
        """Of the run that keeps `row` running, or of its session where it names none."""
        session_id = row.session_id or ""
        where, values = "session_id = ?", [session_id]
        if row.run_id is not None:
            where, values = "session_id = ? AND run_id = ?", [session_id, row.run_id]
        try:
            events = self._all(
                f"SELECT seq, created_at, event_json FROM trajectory_runtime_events WHERE {where}"  # noqa: S608
                f" ORDER BY seq DESC LIMIT {KEPT_EVENTS}",
                *values,
            )
            first = self._all(
                f"SELECT event_json FROM trajectory_runtime_events WHERE {where} ORDER BY seq LIMIT 1",  # noqa: S608
                *values,
            )
        except sqlite3.DataError:
            return Trails((), "an event of its trajectory is larger than any that OpenClaw writes")
        transcript = self._transcript(session_id)
        if not events:
            return Trails(transcript=transcript)
        lines = tuple(text for _, _, text in reversed(events) if isinstance(text, bytes))
        self.bytes_read += sum(map(len, lines))
        identity = self._stands(events[0][0], events[0][1])
        trail = trail_of(self._path, session_id, identity, Tail(lines, torn=False, bytes_read=0))
        return Trails((_of_its_run(trail, row, first),), transcript=transcript)

    def _transcript(self, session_id: str) -> FileIdentity | None:
        """How far the transcript has come, and when it was last written."""
        if self._windows is None:
            return None
        query = f"SELECT transcript_updated_at FROM {self._windows} WHERE session_id = ?"  # noqa: S608
        found = self._all(query, session_id)
        return self._stands(0, found[0][0]) if found and found[0][0] is not None else None

    def _stands(self, number: object, at: object) -> FileIdentity:
        """A place in a table of this database, told apart as files are: by its length and its last write."""
        return FileIdentity(self._main.dev, self._main.ino, whole(number) or 0, (whole(at) or 0) * 1_000_000)


def _of_its_run(trail: Trail, row: Row, first: list[tuple[Any, ...]]) -> Trail:
    if row.run_id is not None and any(e.run_id != row.run_id for e in trail.events):
        return trail._replace(end=None, problem="an event of its trajectory names another run than its column")
    text = first[0][0] if first else None
    started = parse_object(text) if isinstance(text, bytes) else None
    begins = started is not None and started.get("type") == "session.started"
    return trail._replace(registered=begins and is_registered(started))
