"""Whether an agent's sessions live in SQLite: decided by what is on disk, never by version (spec 2026.9.6, section 1).

From 2026.7.2 the rows are in `agents/<id>/agent/openclaw-agent.sqlite`; a `sessions.json` beside it is debris. Before
that the same file holds credentials only. The schema tells.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.openclaw.database import DatabaseIdentity, identify, opened_read_only
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import DATABASE_NAME

_QUERY = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('session_nodes', 'session_entries')"


class EraReader:
    """Remembers what it read of a database until the file changes; once in SQLite, an agent stays there."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[DatabaseIdentity, bool]] = {}

    def in_sqlite(self, folders: Iterable[str]) -> bool:
        """Whether in one of these folders (`agents/<id>/agent`) there is a database that keeps rows.

        Raises FileProblem when a database is there that cannot be read: then nobody knows.
        """
        return any(self._one(folder) for folder in dict.fromkeys(folders))

    def _one(self, path: str) -> bool:
        try:
            folder = Folder(path)
        except FileProblem as error:
            if error.code == "missing":
                return False
            raise
        with folder:
            identity = identify(folder, DATABASE_NAME)
            if identity is None:
                return False
            known = self._known.get(path)
            if known is not None and (known[1] or known[0] == identity):
                return known[1]
            found = _in_schema(folder)
        self._known[path] = (identity, found)
        return found


def _in_schema(folder: Folder) -> bool:
    with opened_read_only(folder, DATABASE_NAME) as (database, _):
        return bool(database.execute(_QUERY).fetchone()[0])
