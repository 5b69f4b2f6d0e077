"""How a row that we have changed, or meant to, stands in its store now: a file or a database."""

from __future__ import annotations

from app.audit.models import Attempt
from app.domain.describe import describe_fields
from app.domain.model import Row
from app.openclaw.database_row import read_entry
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget
from app.openclaw.sessions_json import StoreProblem, read_rows


class LastRead:
    """The store as an attempt has read it last: the same bytes say the same, and are not decoded a second time."""

    def __init__(self) -> None:
        self._data: bytes | None = None
        self._rows: tuple[Row, ...] = ()

    def rows(self, data: bytes) -> tuple[Row, ...]:
        """Every row of `data`. Raises StoreProblem."""
        if data != self._data:
            self._rows = read_rows(data)
        self._data = data  # so that of two readings that are the same only the later one takes memory
        return self._rows


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
