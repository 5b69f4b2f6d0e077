"""How a row that we have changed, or meant to, stands in its store now: a file or a database."""

from __future__ import annotations

from collections.abc import Collection

from app.audit.models import Attempt
from app.domain.describe import describe_fields
from app.domain.json_text import Span
from app.domain.model import Row
from app.openclaw.database_row import read_entry
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget
from app.openclaw.sessions_json import Piece, StoreProblem, read_pieces, read_rows, rows_of, spans_in


class LastRead:
    """The store as an attempt has read it last: the same bytes say the same, and are not decoded a second time."""

    def __init__(self) -> None:
        self._data: bytes | None = None
        self._pieces: tuple[Piece, ...] = ()

    def rows(self, data: bytes) -> tuple[Row, ...]:
        """Every row of `data`. Raises StoreProblem."""
        return rows_of(self._read(data))

    def spans(self, data: bytes, keys: Collection[str]) -> dict[str, Span]:
        """Where the rows of `keys` stand in `data`, as far as they are there. Raises StoreProblem."""
        return spans_in(data, self._read(data), keys)

    def _read(self, data: bytes) -> tuple[Piece, ...]:
        if data != self._data:
            self._pieces = read_pieces(data)
        self._data = data  # so that of two readings that are the same only the later one takes memory
        return self._pieces


def row_in(folder: Folder, target: StoreTarget, key: str, limit: int) -> Row | None:
    """The row `key` as it stands there now; None when it is gone. Raises FileProblem, StoreProblem.

    `limit`: the most bytes of a file.
    """
    if target.kind == "database":
        found = read_entry(folder, target.name, key)
        return found[0] if found is not None else None
    data, _ = folder.read(target.name, limit)
    return next((r for r in read_rows(data) if r.key == key), None)


def what_stands(folder: Folder, target: StoreTarget, attempt: Attempt, limit: int) -> str:
    """One of the words of docs/explanation/repair.md."""
    try:
        row = row_in(folder, target, attempt.session_key, limit)
    except FileProblem as error:
        return "gone" if error.code == "missing" else "unreadable"
    except StoreProblem:
        return "unreadable"
    if row is None:
        return "gone"
    if is_as_written(row, attempt):
        return "as_written"
    if _same_turn(row, attempt) and describe_fields(row) == attempt.before:
        return "as_before"
    return "moved_on"


def is_as_written(row: Row, attempt: Attempt) -> bool:
    """Whether the four fields stand as `attempt` wrote them, in the same turn."""
    return _same_turn(row, attempt) and describe_fields(row) == attempt.after


def _same_turn(row: Row, attempt: Attempt) -> bool:
    return (row.session_id, row.started_at) == (attempt.session_id, attempt.started_at)
