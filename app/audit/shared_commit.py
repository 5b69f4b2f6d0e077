"""One commit for all threads that wait for one: a disk takes as long for the sync of many as for that of one.

Whoever comes first leads: what has come until then, its own with it, is written in one transaction and committed once.
Meanwhile others queue, and one of them leads next. Where nobody waits, a commit is what it would be without all this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import Connection

Work = Callable[[Connection], object]
"""What one caller has to write. It may be carried out twice, the first time without effect."""


class _Part:
    """One caller's part of a commit."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.committed: bool | None = None
        """None while it waits; False where the commit that it had a part in has failed."""


class SharedCommit:
    """Any number of threads."""

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        """`begin` gives a transaction, which is committed at its end."""
        self._begin = begin
        self._turn = threading.Condition()
        self._waiting: list[_Part] = []
        self._led = False

    def write(self, work: Work) -> None:
        """Returns once what `work` has written is committed, alone or with others' parts. Raises what `work`, or the
        commit, raises: where several fail together each is tried by itself, so that no caller is given another's error.
        """
        own = _Part(work)
        with self._turn:
            self._waiting.append(own)
            while self._led and own.committed is None:
                self._turn.wait()
            if own.committed is None:
                self._led = True
                parts, self._waiting = self._waiting, []
        if own.committed is None:
            self._lead(parts)
        if not own.committed:
            with self._begin() as connection:
                work(connection)

    def _lead(self, parts: list[_Part]) -> None:
        committed = False
        try:
            with self._begin() as connection:
                for part in parts:
                    part.work(connection)
            committed = True
        except Exception:
            if len(parts) == 1:
                raise
        finally:
            with self._turn:
                self._led = False
                for part in parts:
                    part.committed = committed
                self._turn.notify_all()
