"""One row of an agent's database, as it stands at this moment (spec 2026.9.6, section 2.4)."""

from __future__ import annotations

from app.domain.model import Row
from app.openclaw.database import opened_read_only
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.parse import parse_object
from app.openclaw.sessions_json import row_of


def read_entry(folder: Folder, name: str, key: str) -> tuple[Row, bytes] | None:
    """The row `key` of the database `name`, and the text of its entry; None where there is no such row.

    Raises FileProblem, with `missing` where there is no such database.
    """
    with opened_read_only(folder, name) as (connection, _):
        query = "SELECT entry_json FROM session_nodes WHERE session_key = CAST(? AS TEXT)"
        found = connection.execute(query, (key.encode(),)).fetchone()
    if found is None:
        return None
    text = found[0]
    value = parse_object(text) if isinstance(text, bytes) else None
    if value is None:
        raise FileProblem("database_unreadable", "its row is not an object")
    return row_of(key, value), text
