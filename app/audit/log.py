"""The only owner of the audit database: intents, outcomes, looks, and what they say about holds."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, Select, bindparam, create_engine, event, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from app.audit.migrate import migrate, migrate_in_a_process
from app.audit.models import ATTEMPTS, Attempt, Outcome
from app.audit.remembered import Remembered
from app.audit.shared_commit import SharedCommit

_T = TypeVar("_T")
_COLUMNS = tuple(column.name for column in ATTEMPTS.c)
# Every repair needs these: made once, since to make a statement costs as much as to carry it out.
_NEWEST_ID = select(func.max(ATTEMPTS.c.id))
_OPEN = insert(ATTEMPTS)
_IS_THE_ONE = ATTEMPTS.c.id == bindparam("attempt_id")
_CHANGE = update(ATTEMPTS).where(_IS_THE_ONE)
_ONE = select(ATTEMPTS).where(_IS_THE_ONE)
_APPLIED_TO_THE_ROW = (
    (ATTEMPTS.c.store_path == bindparam("of_store"))
    & (ATTEMPTS.c.session_key == bindparam("of_session"))
    & (ATTEMPTS.c.outcome == Outcome.APPLIED)
)
_LEFT_OPEN = select(ATTEMPTS).where(ATTEMPTS.c.outcome.is_(None)).order_by(ATTEMPTS.c.id)
_TO_LOOK_AT = (
    select(ATTEMPTS).where(ATTEMPTS.c.outcome.is_not(None) & ATTEMPTS.c.finished_at.is_(None)).order_by(ATTEMPTS.c.id)
)
_LATEST_APPLIED = select(ATTEMPTS).where(_APPLIED_TO_THE_ROW).order_by(ATTEMPTS.c.id.desc()).limit(1)


class AuditUnavailable(Exception):
    """The audit database does not answer: nothing is repaired until it does."""


class Counted(NamedTuple):
    """What attempts are counted by; `outcome` is `open` where there is none yet."""

    kind: str
    outcome: str
    trigger: str


class AuditLog:
    """Every call is one committed transaction. Raises AuditUnavailable."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._path = sqlite_path(url)
        self._shared = SharedCommit(self.write)
        self._remembered = Remembered(self._engine)

    def migrate(self, *, apart: bool = False) -> None:
        """Bring the database to our schema; `apart`: in a process that ends, for one who stays. Raises RuntimeError."""
        with _told():
            (migrate_in_a_process if apart else migrate)(self._engine)

    def dispose(self) -> None:
        self._remembered.close()
        self._engine.dispose()

    def ping(self) -> None:
        """Raises AuditUnavailable when the database, or its file, is gone."""
        self.unless_changed("ping", lambda: self._select(select(ATTEMPTS).limit(1)))

    def next_id(self, now: int) -> str:
        """An id that sorts behind every other, also when the wall clock has been set back."""
        return self.next_ids(now, 1)[0]

    def next_ids(self, now: int, count: int) -> list[str]:
        """As many of them, in their order."""
        with self.read() as connection:
            newest = connection.execute(_NEWEST_ID).scalar()
        moment = now if newest is None else max(now, (UUID(newest).int >> 80) + 1)
        return sorted(new_id(moment) for _ in range(count))

    def open(self, *attempts: Attempt) -> None:
        """Write the intents down, before the store is touched."""
        values = [{name: getattr(attempt, name) for name in _COLUMNS} for attempt in attempts]
        self._shared.write(lambda connection: connection.execute(_OPEN, values))

    def change(self, *attempt_ids: str, **values: Any) -> None:
        """Set columns of an attempt, or of several: its plan before the store is touched, its outcome afterwards."""
        changes = [{"attempt_id": attempt_id, **values} for attempt_id in attempt_ids]
        self._shared.write(lambda connection: connection.execute(_CHANGE, changes))

    def add_look(self, attempt_id: str, look: dict[str, Any], **values: Any) -> None:
        with self.write() as connection:
            looks = connection.execute(select(ATTEMPTS.c.looks).where(ATTEMPTS.c.id == attempt_id)).scalar_one()
            connection.execute(
                update(ATTEMPTS).where(ATTEMPTS.c.id == attempt_id).values(looks=[*looks, look], **values)
            )

    def get(self, attempt_id: str) -> Attempt | None:
        found = self._select(_ONE, attempt_id=attempt_id)
        return found[0] if found else None

    def page(self, limit: int, before: str | None = None) -> tuple[list[Attempt], str | None]:
        """Attempts, newest first, and the cursor of the next page (the id of the last one here)."""
        query = select(ATTEMPTS).order_by(ATTEMPTS.c.id.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(ATTEMPTS.c.id < before)
        found = self._select(query)
        return found[:limit], (found[limit - 1].id if len(found) > limit else None)

    def left_open(self) -> list[Attempt]:
        """Attempts without an outcome: under way at this moment, or left by a crash."""
        return list(self.unless_changed("left open", lambda: self._select(_LEFT_OPEN)))

    def to_look_at(self) -> list[Attempt]:
        """Attempts that changed a store, or may have, and whose last look is still to come."""
        return list(self.unless_changed("to look at", lambda: self._select(_TO_LOOK_AT)))

    def latest_applied(self, store_path: str, session_key: str) -> Attempt | None:
        """The newest attempt that changed this row."""
        found = self._select(_LATEST_APPLIED, of_store=store_path, of_session=session_key)
        return found[0] if found else None

    def hold(self, store_path: str, session_key: str, session_id: str | None, started_at: int | None) -> str | None:
        """The undo that keeps the scheduler away from this turn of this row; None when there is none."""
        latest = self.latest_applied(store_path, session_key)
        if (
            latest is None
            or latest.kind != "undo"
            or (latest.session_id, latest.started_at) != (session_id, started_at)
        ):
            return None
        return latest.id

    def counts(self) -> Counter[Counted]:
        """How many attempts there are, by what they were, how they ended and who asked. Raises AuditUnavailable."""
        return Counter(self.unless_changed("counts", self._counts))

    def _counts(self) -> Counter[Counted]:
        by = (ATTEMPTS.c.kind, ATTEMPTS.c.outcome, ATTEMPTS.c.trigger)
        with self.read() as connection:
            found = connection.execute(select(*by, func.count()).group_by(*by))
            return Counter({Counted(kind, outcome or "open", trigger): n for kind, outcome, trigger, n in found})

    def unless_changed(self, name: str, question: Callable[[], _T]) -> _T:
        """The answer to `question`, which `name` stands for; where nobody has committed since, that of the last time.

        For what every pass asks. Raises AuditUnavailable.
        """
        self._there()
        return self._remembered.ask(name, question)

    def _select(self, query: Select[Any], **values: str) -> list[Attempt]:
        with self.read() as connection:
            return [_attempt(row) for row in connection.execute(query, values)]

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """For one look at any of the tables. Raises AuditUnavailable."""
        self._there()
        with _told(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """For one transaction, committed at its end. Raises AuditUnavailable."""
        self._there()
        with _told(), self._engine.begin() as connection:
            yield connection

    def _there(self) -> None:
        """SQLite goes on writing into a file that has been deleted."""
        path = self._path
        if path is None:
            return
        try:
            os.stat(path)
        except FileNotFoundError:
            raise AuditUnavailable(f"the audit database {path} is gone") from None
        except OSError as error:
            raise AuditUnavailable(f"the audit database {path} cannot be reached: {error.strerror}") from None


def make_engine(url: str) -> Engine:
    """An engine for `url`; an SQLite file is made 0600, in a folder 0700, and commits survive a power cut."""
    path = sqlite_path(url)
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.chmod(path, 0o600)
    engine = create_engine(url)
    if path is not None:
        event.listen(engine, "connect", _durable)
    return engine


def sqlite_path(url: str) -> Path | None:
    """The file of an `sqlite:///` URL; None for another database."""
    prefix = "sqlite:///"
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) and url != prefix else None


def new_id(now: int) -> str:
    """A UUIDv7 for the moment `now` (epoch ms): ids sort by time (RFC 9562)."""
    value = (now & ((1 << 48) - 1)) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _durable(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA busy_timeout = 5000")
    deadline = time.monotonic() + 5.0
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:  # another is changing it too, for which SQLite does not wait
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(**row._asdict())


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise AuditUnavailable(f"the audit database does not answer: {str(error).splitlines()[0]}") from error
