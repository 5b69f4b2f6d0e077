"""A word after every step of a repair: each system call that changes something, each transaction of the audit.

And the protocol with one step left out, or at the wrong time: what the real one is measured against.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from app.audit.log import AuditLog
from app.audit.models import Attempt
from app.openclaw import swap


@dataclass(frozen=True, slots=True)
class Variant:
    """The protocol (all of it by default), or what is different from it."""

    name: str
    file_sync: str = "before the exchange"
    """Or `after the exchange`, or `never`."""
    folder_sync: bool = True
    audit_sync: bool = True
    intent: str = "before the publish"
    """Or `after the publish`."""


PROTOCOL = Variant("the protocol")
ABLATIONS = (
    Variant("the file is not synced", file_sync="never"),
    Variant("the file is synced after the exchange", file_sync="after the exchange"),
    Variant("the folder is not synced", folder_sync=False),
    Variant("the intent is committed, but not durable", audit_sync=False),
    Variant("the intent is written after the publish", intent="after the publish"),
)

_WRITING = os.O_WRONLY | os.O_RDWR
_BY_NAME = ("utime", "unlink", "rename", "replace", "link")
_BY_FD = ("write", "pwrite", "ftruncate", "posix_fallocate", "fchown", "fchmod")


class Steps:
    """Watches what a repair does, in this process; `after` is called with the step's name once it is done.

    `before_exchange` is called in the last instant in which a gateway write can slip in.
    """

    def __init__(
        self, variant: Variant, after: Callable[[str], None], before_exchange: Callable[[], None] = lambda: None
    ) -> None:
        self._variant = variant
        self._after = after
        self._before_exchange = before_exchange
        self._busy = False
        self._late: list[int] = []
        """Descriptors of files whose sync was put off."""
        self.written: list[int] = []
        """A descriptor of every file that was opened for writing."""
        self.intended: set[str] = set()
        """The sessions whose intent the audit has confirmed."""
        self.reported: dict[str, str] = {}
        """By session, the outcome that the audit has confirmed last."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Everything in here is a step."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _BY_NAME:
                self._follow(patch, os, name, lambda args: str(args[0]))
            for name in _BY_FD:
                self._follow(patch, os, name, lambda args: _name_of(args[0]))
            self._follow(patch, swap, "_renameat2", lambda args: os.fsdecode(args[1]), before=True)
            self._follow_open(patch)
            self._follow_sync(patch)
            self._follow_write(patch)
            self._follow_audit(patch)
            if not self._variant.audit_sync:
                event.listen(Pool, "checkout", _not_durable)
            try:
                yield
            finally:
                if not self._variant.audit_sync:
                    event.remove(Pool, "checkout", _not_durable)
                while self._late or self.written:
                    os.close((self._late or self.written).pop())

    def done(self, step: str) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self._after(step)
        finally:
            self._busy = False

    def _follow(
        self, patch: pytest.MonkeyPatch, module: Any, name: str, what: Callable[[Any], str], *, before: bool = False
    ) -> None:
        real = getattr(module, name)

        def followed(*args: Any, **named: Any) -> Any:
            if self._busy:
                return real(*args, **named)
            subject = what(args)
            if before:
                self._busy = True
                self._before_exchange()
                self._busy = False
            given = real(*args, **named)
            self.done(f"{'exchange' if before else name} {_short(subject)}")
            return given

        patch.setattr(module, name, followed)

    def _follow_open(self, patch: pytest.MonkeyPatch) -> None:
        real = os.open

        def followed(path: Any, flags: int, *args: Any, **named: Any) -> int:
            fd = real(path, flags, *args, **named)
            if flags & _WRITING and not self._busy:
                self.written.append(os.dup(fd))
                self.done(f"open {_short(str(path))}")
            return fd

        patch.setattr(os, "open", followed)

    def _follow_write(self, patch: pytest.MonkeyPatch) -> None:
        """A write is two: the power may go in the middle."""
        followed = os.write

        halves: set[int] = set()

        def halved(fd: int, data: Any) -> int:
            if self._busy or fd in halves:
                halves.discard(fd)
                return followed(fd, data)
            halves.add(fd)
            return followed(fd, data[: len(data) // 2])

        patch.setattr(os, "write", halved)

    def _follow_sync(self, patch: pytest.MonkeyPatch) -> None:
        real, variant = os.fsync, self._variant

        def followed(fd: int) -> None:
            if self._busy:
                real(fd)
                return
            name = _name_of(fd)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                while self._late:
                    late = self._late.pop()
                    real(late)
                    os.close(late)
                if variant.folder_sync:
                    real(fd)
                name = "folder"
            elif variant.file_sync == "before the exchange":
                real(fd)
            elif variant.file_sync == "after the exchange":
                self._late.append(os.dup(fd))
            self.done(f"fsync {_short(name)}")

        patch.setattr(os, "fsync", followed)

    def _follow_audit(self, patch: pytest.MonkeyPatch) -> None:
        first, change, look = AuditLog.open, AuditLog.change, AuditLog.add_look
        known: dict[str, Attempt] = {}
        waiting: dict[str, Attempt] = {}

        def opened(audit: AuditLog, *attempts: Attempt) -> None:
            known.update({a.id: a for a in attempts})
            if self._variant.intent == "after the publish":
                waiting.update({a.id: a for a in attempts})
            else:
                first(audit, *attempts)
                self.intended.update(a.session_key for a in attempts)
            self.done("audit: intent")

        def changed(audit: AuditLog, *attempt_ids: str, **values: Any) -> None:
            outcome = values.get("outcome")
            if outcome is None and waiting.keys() >= set(attempt_ids):
                waiting.update({i: replace(waiting[i], **values) for i in attempt_ids})
            else:
                late = [waiting.pop(i) for i in attempt_ids if i in waiting]
                if late:
                    first(audit, *late)
                change(audit, *attempt_ids, **values)
            if outcome is not None:
                for attempt in (known.get(i) or audit.get(i) for i in attempt_ids):
                    assert attempt is not None
                    self.intended.add(attempt.session_key)
                    self.reported[attempt.session_key] = outcome
            self.done(f"audit: {outcome}" if outcome else "audit: plan")

        def looked(audit: AuditLog, attempt_id: str, look_: dict[str, Any], **values: Any) -> None:
            look(audit, attempt_id, look_, **values)
            self.done("audit: look")

        patch.setattr(AuditLog, "open", opened)
        patch.setattr(AuditLog, "change", changed)
        patch.setattr(AuditLog, "add_look", looked)


def _not_durable(connection: Any, *_: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


def _name_of(fd: int) -> str:
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))


def _short(name: str) -> str:
    """Which of the files it is, whatever the attempt's id."""
    name = os.path.basename(name)
    return "ours" if name.startswith(swap.OWN_PREFIX) else name
