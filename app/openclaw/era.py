"""Whether an agent's sessions live in SQLite: decided by what is on disk, never by version (spec 2026.9.6, section 1).

From 2026.7.2 the rows are in `agents/<id>/agent/openclaw-agent.sqlite`; a `sessions.json` beside it is debris. Before
that the same file holds credentials only. The schema tells. It is read with `immutable=1`, which takes no lock and
creates no file; a table that is not checkpointed yet stands in the `-wal`, which is searched for its words.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from urllib.parse import quote

from app.domain.model import FileIdentity
from app.openclaw.folder import FileProblem, Folder

DATABASE = "openclaw-agent.sqlite"
_QUERY = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('session_nodes', 'session_entries')"
_WORDS = re.compile(rb"CREATE TABLE\s+(?:IF NOT EXISTS\s+)?[\"'`\[]?(?:session_nodes|session_entries)\b", re.I)
_CHUNK = 1 << 20
_OVERLAP = 200


class EraReader:
    """Remembers what it read of a database until the file changes; once in SQLite, an agent stays there."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[FileIdentity | None, ...], bool]] = {}

    def in_sqlite(self, agent_folders: Iterable[str]) -> bool:
        """Whether one of these agents (folders `agents/<id>`) keeps its rows in a database.

        Raises FileProblem when a database is there that cannot be read: then nobody knows.
        """
        return any(self._one(os.path.join(folder, "agent")) for folder in dict.fromkeys(agent_folders))

    def _one(self, path: str) -> bool:
        try:
            folder = Folder(path)
        except FileProblem as error:
            if error.code == "missing":
                return False
            raise
        with folder:
            names = (DATABASE, f"{DATABASE}-wal")
            identities = tuple(folder.identity(n) for n in names)
            if identities[0] is None:
                return False
            known = self._known.get(path)
            if known is not None and (known[1] or known[0] == identities):
                return known[1]
            found = _in_schema(os.path.join(path, DATABASE)) or (
                identities[1] is not None and _in_log(folder, names[1])
            )
        self._known[path] = (identities, found)
        return found


def _in_schema(path: str) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?immutable=1", uri=True)) as database:
            return bool(database.execute(_QUERY).fetchone()[0])
    except sqlite3.Error as error:
        raise FileProblem("database_unreadable", f"the agent's database cannot be read: {error}") from None


def _in_log(folder: Folder, name: str) -> bool:
    with folder.opened(name) as (fd, st):
        for at in range(0, st.st_size, _CHUNK):
            if _WORDS.search(os.pread(fd, _CHUNK + _OVERLAP, at)):
                return True
    return False
