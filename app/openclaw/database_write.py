"""Putting one text in the place of another in `session_nodes.entry_json`, as the gateway itself would.

What `writeSessionEntry` of 2026.9.6 does (spec, section 2.5), in the same order and in one transaction: the node, then
`entry_valid` by itself, since a trigger takes it away with every change; then the window; then the row is no longer
among those to be validated. Without the second step OpenClaw takes the row for one that is to be repaired.

This is to run in a process that opens the database in no other way: the locks are POSIX's, and a process loses all
that it has on a file when it closes any descriptor of it (app.openclaw.database_process).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

from app.domain.entry import Entry, entry_of
from app.domain.splice import CannotSplice
from app.openclaw.claims import read_claims
from app.openclaw.database import LONGEST_VALUE, identify
from app.openclaw.database_leases import read_leases, still_open, under_maintenance
from app.openclaw.folder import FileProblem, Folder, problem_of
from app.openclaw.processes import is_local
from app.openclaw.replacement import Kind, Replacement, Written
from app.openclaw.sessions_database import KNOWN_SCHEMAS

_WAIT_MS = 1_000
"""For a lock that somebody else has; the gateway holds its own for some milliseconds."""
_STEP = 1_000
_PENDING = "session_canonical_validation_pending"


class _Stop(Exception):
    def __init__(self, kind: Kind, code: str, detail: str) -> None:
        self.end = Written(kind, code, detail)


def is_safe_library(version: str) -> bool:
    """Whether OpenClaw would write with this SQLite: others may damage a log that begins anew (section 2.2)."""
    try:
        numbers = tuple(int(part) for part in version.split("."))
    except ValueError:
        return False
    lines = ((3, 44, 6), (3, 50, 7))
    return numbers >= (3, 51, 3) or any(numbers[:2] == line[:2] and numbers >= line for line in lines)


def replace_entry(what: Replacement, now: int) -> Written:
    """Write `what.after` if `what.before` stands there, byte for byte; `now` is epoch ms. Raises nothing."""
    try:
        return _replace(what, now)
    except _Stop as stop:
        return stop.end
    except FileProblem as problem:
        return Written("refused", problem.code, problem.detail)
    except CannotSplice as error:
        return Written("refused", "row_unfit", str(error))
    except apsw.BusyError:
        return Written("refused", "busy", "another process has held the write lock for a second")
    except apsw.InterruptError:
        return Written("refused", "too_slow", "it took longer than the gateway is to be kept waiting")
    except (apsw.Error, UnicodeError) as error:
        return Written("refused", "database_unreadable", f"nothing was written: {error}")


def _replace(what: Replacement, now: int) -> Written:
    before, after = entry_of(what.before), entry_of(what.after)
    if before.session_id != after.session_id or len(what.after) > LONGEST_VALUE:
        raise _Stop("refused", "row_unfit", "the two texts are not of one session, or too long")
    if not is_safe_library(apsw.sqlite_lib_version()):
        detail = f"SQLite {apsw.sqlite_lib_version()} may damage a database that another process writes to"
        raise _Stop("refused", "unsafe_library", detail)
    if not is_local(what.path):
        raise _Stop("refused", "not_local", "it is not on a local disk, where locks can be relied on")
    root = os.path.realpath(what.root)
    real = os.path.join(root, os.path.relpath(what.path, what.root))
    with Folder(os.path.dirname(real), root) as folder:
        found = _identity(folder, os.path.basename(real))
        _nobody_else(what, before, now)
        with _opened(real, keeps_log=_has_log(folder, os.path.basename(real))) as connection:
            began = _begin(connection, what.hold_seconds)
            try:
                if _identity(folder, os.path.basename(real)) != found:
                    raise _Stop("changed", "changed", "another file has taken the place of the database")
                _check(connection, what, before)
                _write(connection, what.key, after)
                _nobody_else(what, before, now)
                if time.monotonic() - began > what.hold_seconds:
                    raise _Stop("refused", "too_slow", "it took longer than the gateway is to be kept waiting")
            except BaseException:
                _roll_back(connection)
                raise
            _commit(connection)
            return Written("written", held_ms=(time.monotonic() - began) * 1000)


def _nobody_else(what: Replacement, before: Entry, now: int) -> None:
    """Raises _Stop and FileProblem."""
    leases = read_leases(what.state_dir)
    if under_maintenance(leases, now):
        raise _Stop("refused", "maintenance", "OpenClaw's own maintenance works on the databases")
    if not what.live and (opener := still_open(leases)) is not None:
        raise _Stop("refused", "still_open", f"process {opener.pid} has said that it has a database of this kind open")
    for claim in read_claims(what.state_dir).on(what.key, before.session_id, before.run_id):
        if what.live or claim.outlives:
            raise _Stop("refused", "claimed", f"somebody works on the session, by {claim.table}")


def _identity(folder: Folder, name: str) -> tuple[int, int]:
    """Which file this is; it is never opened here. Raises FileProblem."""
    identify(folder, name)  # refuses what is a link, no file or another user's, the log and its index too
    try:
        st = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except OSError as error:
        raise problem_of(error) from None
    if st.st_nlink > 1:
        raise FileProblem("hard_link", "it has a second name, by which another process may write to it unseen")
    if stat.S_IMODE(st.st_mode) & 0o077:
        raise FileProblem(
            "not_private", "others may read it: what is written beside it would be theirs to read as well"
        )
    return st.st_dev, st.st_ino


def _has_log(folder: Folder, name: str) -> bool:
    return folder.identity(f"{name}-wal") is not None


@contextmanager
def _opened(path: str, *, keeps_log: bool) -> Iterator[apsw.Connection]:
    """A log that was there stays as it is; one that we make goes with us, if nobody else has come."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(keeps_log))
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.set_busy_timeout(_WAIT_MS)
        for pragma in ("synchronous=FULL", "wal_autocheckpoint=0", "foreign_keys=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {pragma}")
        yield connection
    finally:
        with suppress(apsw.Error):  # what was written is written, and what was not is not
            connection.close()


def _begin(connection: apsw.Connection, hold_seconds: float) -> float:
    """Begin, and give the moment; from then on nothing runs for longer than it may."""
    mode = connection.pragma("journal_mode")
    if mode != "wal":
        raise _Stop(
            "refused", "no_log", f"its journal mode is {mode}: it is not a database of a gateway on a local disk"
        )
    connection.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    connection.set_progress_handler(lambda: time.monotonic() - began > hold_seconds, _STEP)
    return began


def _check(connection: apsw.Connection, what: Replacement, before: Entry) -> None:
    """Raises _Stop where the row is not the one that was judged, or one that OpenClaw has yet to look at itself."""
    schema = connection.pragma("user_version")
    meta = connection.execute("SELECT role, schema_version FROM schema_meta WHERE meta_key = 'primary'").fetchone()
    if schema not in KNOWN_SCHEMAS or meta != ("agent", schema):
        raise _Stop("refused", "unknown_schema", f"its schema ({schema}) is not one that we know how to write")
    row = connection.execute(
        "SELECT CAST(entry_json AS BLOB), entry_valid, current_session_id, updated_at, status"
        " FROM session_nodes WHERE session_key = ?",
        (what.key,),
    ).fetchone()
    if row is None:
        raise _Stop("changed", "changed", "the row is gone")
    text, valid, session_id, updated_at, status = row
    if text == what.after:
        raise _Stop("changed", "already", "the row already says so")
    if text != what.before:
        raise _Stop("changed", "changed", "the row has been written since it was judged")
    if valid != 1:
        raise _Stop("refused", "row_unfit", "OpenClaw has not found the row valid")
    if (session_id, updated_at, status) != (before.session_id, before.updated_at, before.status):
        raise _Stop("refused", "row_unfit", "the entry and its columns tell of different turns")
    if (
        _validates(connection)
        and connection.execute(
            f"SELECT 1 FROM {_PENDING} WHERE session_key = ?",  # noqa: S608
            (what.key,),
        ).fetchone()
    ):
        raise _Stop("refused", "row_unfit", "OpenClaw has yet to validate the row")


def _validates(connection: apsw.Connection) -> bool:
    """From schema 21 on."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (_PENDING,)).fetchone() is not None


def _write(connection: apsw.Connection, key: str, after: Entry) -> None:
    connection.execute(
        "UPDATE session_nodes SET entry_json = CAST(? AS TEXT), updated_at = ?, status = ? WHERE session_key = ?",
        (after.text, after.updated_at, after.status, key),
    )
    connection.execute("UPDATE session_nodes SET entry_valid = 1 WHERE session_key = ?", (key,))
    connection.execute(
        "UPDATE session_windows SET status = ?, started_at = ?, ended_at = ?, updated_at = ?"
        " WHERE session_id = ? AND session_key = ?",
        (after.status, after.started_at, after.ended_at, after.updated_at, after.session_id, key),
    )
    if connection.changes() != 1:
        raise _Stop("refused", "row_unfit", "the session has no window of its own")
    if _validates(connection):  # it was valid, and what we change is nothing that is validated
        connection.execute(f"DELETE FROM {_PENDING} WHERE session_key = ?", (key,))  # noqa: S608


def _commit(connection: apsw.Connection) -> None:
    """Raises _Stop with `unknown`: what is in the log, and could not be brought to the disk, may yet come to count."""
    connection.set_progress_handler(None)
    try:
        connection.execute("COMMIT")
    except apsw.BusyError:
        _roll_back(connection)
        raise
    except apsw.Error as error:
        _roll_back(connection)
        raise _Stop("unknown", "commit_failed", f"the disk did not confirm it: {error}") from None


def _roll_back(connection: apsw.Connection) -> None:
    """SQLite does so by itself after some errors; closing does it in any case."""
    connection.set_progress_handler(None)
    with suppress(apsw.Error):
        connection.execute("ROLLBACK")
