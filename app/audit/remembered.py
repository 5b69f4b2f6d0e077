"""What the audit has answered stands until somebody commits to it: SQLite tells, on a connection that never writes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

_T = TypeVar("_T")
_Version = tuple[int, int]
"""Which of our connections, and its `data_version`: two connections' numbers have nothing to do with one another."""


class Remembered:
    """Any number of threads."""

    def __init__(self, engine: Engine) -> None:
        """`engine`: one of SQLite, or another, of which nothing is remembered."""
        self._engine = engine
        self._lock = threading.Lock()
        self._connection: DBAPIConnection | None = None
        self._opened = 0
        self._answers: dict[str, tuple[_Version, object]] = {}

    def ask(self, name: str, question: Callable[[], _T]) -> _T:
        """The answer to `question`, which `name` stands for; asked again only where somebody has committed since.

        Raises what `question` raises.
        """
        version = self._version()  # before it is asked: what is committed meanwhile has it asked again
        known = self._answers.get(name)
        if known is not None and known[0] == version:
            return known[1]  # type: ignore[return-value]
        answer = question()
        if version is not None:
            self._answers[name] = version, answer
        return answer

    def close(self) -> None:
        with self._lock:
            self._close()

    def _version(self) -> _Version | None:
        """None where that is not told."""
        if self._engine.dialect.name != "sqlite":
            return None
        with self._lock:
            try:
                if self._connection is None:
                    fresh = self._engine.raw_connection()
                    fresh.detach()  # of the pool's none is missing
                    self._connection, self._opened = fresh.dbapi_connection, self._opened + 1
                ((version,),) = self._connection.execute("PRAGMA data_version")  # type: ignore[union-attr]
            except (sqlite3.Error, SQLAlchemyError):
                self._close()  # whoever asks is told what is wrong
                return None
            return self._opened, version

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
