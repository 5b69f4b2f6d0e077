"""Looking into a database of a gateway: nothing is created beside it, nothing waits for us, nothing in it is trusted.

What was measured with SQLite 3.40.1 decides how it is opened. `mode=ro` alone creates a `-shm` and a `-wal` where there
is none. `immutable=1` creates nothing, and sees nothing of a log. `readonly_shm=1` creates nothing where both are
there: beside a live gateway it takes a reader's mark in the shared index, after a killed one it reads the log by an
index of its own in memory.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from app.domain.model import FileIdentity
from app.openclaw.folder import FileProblem, Folder, problem_of

LONGEST_VALUE = 16 << 20
"""OpenClaw's own rows have some 15 KiB; a value that is longer than this is not read."""
_BUSY_SECONDS = 0.2
_STEP, _MOST_STEPS = 10_000, 20_000
"""What one look may cost: so many times so many instructions of SQLite's machine, some seconds of a core."""
_PASSES_BY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """Which bytes were looked at: the database, and the log that goes before it."""

    main: FileIdentity
    log: FileIdentity | None

    @property
    def mtime(self) -> int:
        return max(self.main.mtime, self.log.mtime if self.log else 0)

    @property
    def logged(self) -> bool:
        return self.log is not None and self.log.size > 0


def identify(folder: Folder, name: str) -> DatabaseIdentity | None:
    """None where there is no such database. Raises FileProblem for links, FIFOs and what belongs to somebody else."""
    main = folder.identity(name)
    if main is None:
        return None
    for each in (name, f"{name}-wal", f"{name}-shm"):
        _ours(folder, each)
    return DatabaseIdentity(main, folder.identity(f"{name}-wal"))


@contextmanager
def opened_read_only(folder: Folder, name: str) -> Iterator[tuple[sqlite3.Connection, DatabaseIdentity]]:
    """A connection for one short look, and what is looked at: what was read counts once the block has been left.

    Raises FileProblem: `missing`, `database_unreadable`, `unsteady`, `too_large`, and those of `identify`.
    """
    identity = identify(folder, name)
    if identity is None:
        raise FileProblem("missing", "it is not there")
    index = folder.identity(f"{name}-shm")
    if identity.logged and index is None:
        detail = "its log has no index beside it (a copy, perhaps): OpenClaw makes one when it starts"
        raise FileProblem("database_unreadable", detail)
    how = "mode=ro&readonly_shm=1" if index is not None and identity.log is not None else "immutable=1"
    if how == "immutable=1" and folder.identity(f"{name}-journal") is not None:
        how = "mode=ro"  # a rollback journal: locks are needed, and no file is made for them
    path = quote(os.fsencode(os.path.join(folder.path, name)))
    try:
        with closing(sqlite3.connect(f"file:{path}?{how}", uri=True, timeout=_BUSY_SECONDS)) as connection:
            _tame(connection)
            yield connection, identity
            if how == "immutable=1" and identify(folder, name) != identity:
                raise FileProblem("unsteady", "it is being written to")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _problem_in(error) from None


def _problem_in(error: Exception) -> FileProblem:
    """What an error of SQLite says of the database; its own words may quote bytes of it that are no text."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in _PASSES_BY or code == sqlite3.SQLITE_READONLY_RECOVERY:
        return FileProblem("unsteady", "it is being written to")
    if primary == sqlite3.SQLITE_INTERRUPT:
        return FileProblem("too_large", "to look through it takes too long")
    said = error if isinstance(error, sqlite3.Error) else "it is damaged"
    return FileProblem("database_unreadable", f"the agent's database cannot be read: {said}")


def _tame(connection: sqlite3.Connection) -> None:
    """A database that was made to do harm shall not: it may not write, call what is not SQLite's own, or run on."""
    steps = 0

    def enough() -> bool:
        nonlocal steps
        steps += 1
        return steps > _MOST_STEPS

    connection.text_factory = bytes
    connection.isolation_level = None
    connection.set_progress_handler(enough, _STEP)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}")


def _ours(folder: Folder, name: str) -> None:
    try:
        owner = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise problem_of(error) from None
    folder.identity(name)
    if owner != os.geteuid():
        raise FileProblem("foreign_owner", "it belongs to another user")
