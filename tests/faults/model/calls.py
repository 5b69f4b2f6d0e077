"""Our own system calls, with the world going on between them: at any of them the gateway writes, the disk fails,
another Clawmend makes a pass, or we are killed.

Nothing of ours is replaced: the calls are made, and what was asked for happens before or behind one of them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from app.openclaw import swap
from tests.faults.model.gateway import STORE
from tests.faults.model.record import Record

OWN = ".clawmend-"
CALLS = (
    "temp",  # our new version is made
    "write",
    "fsync",
    "lease",
    "check",  # is the store still the file that was read?
    "exchange",
    "allocate",
    "truncate",
    "link",
    "let in",
    "fsync folder",
    "utime",
    "unlink",
    "read",
    "stat",
    "open",
    "list",
    "audit",  # the audit database is about to be asked
)
_LABELS = {
    "listdir": "list",
    "pread": "read",
    "pwrite": "write",
    "ftruncate": "truncate",
    "posix_fallocate": "allocate",
    "rename": "exchange",  # the weaker way to the same end
    "renameat2": "exchange",
}
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
_BY_DESCRIPTOR = ("close", "fsync", "write", "pwrite", "ftruncate", "posix_fallocate")
_MUTATING = (
    "exchange",
    "unlink",
    "utime",
    "write",
    "allocate",
    "truncate",
    "temp",
    "link",
    "let in",
    "close",
)


@dataclass(frozen=True)
class Happening:
    """`what` happens at our `nth` call of that name; a fault lasts for `times` of them."""

    what: str
    call: str
    nth: int = 1
    after: bool = False
    times: int = 1
    key: str = ""
    """Whose row, or whose trajectory."""


class Calls:
    """One step of ours. `move` carries out what is not a fault, `watch` looks at the store after each change."""

    def __init__(
        self,
        record: Record,
        happenings: tuple[Happening, ...],
        move: Callable[[Happening], None],
        watch: Callable[[], None],
    ) -> None:
        self._record = record
        self._happenings = happenings
        self._move = move
        self._watch = watch
        self._count: Counter[str] = Counter()
        self._outside = False
        self._quiet = False
        self._prepared = False
        self.faulted = False

    @contextmanager
    def between(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "stat", "listdir", "pread", "write", "pwrite", "ftruncate", "fsync", "unlink"):
                patch.setattr(os, name, self._around(name, getattr(os, name)))
            for name in ("rename", "utime", "close", "link", "posix_fallocate"):
                patch.setattr(os, name, self._around(name, getattr(os, name)))
            patch.setattr(fcntl, "fcntl", self._around("fcntl", fcntl.fcntl))
            patch.setattr(swap, "_renameat2", self._around("renameat2", swap._renameat2))
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Calls in here are not ours."""
        before, self._outside = self._outside, True
        try:
            yield
        finally:
            self._outside = before

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Calls in here are another Clawmend's: noted, and nothing happens between them."""
        before = (self._outside, self._quiet, self._record.nested, self._record.by, self._record.born)
        self._outside, self._quiet, self._record.nested = False, True, True
        try:
            yield
        finally:
            self._outside, self._quiet, self._record.nested, self._record.by, self._record.born = before

    def _around(self, name: str, real: Any) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if self._outside:
                return real(*args, **named)
            with self.outside():
                label = self._label(name, args, named)
                if label is None:
                    return real(*args, **named)
                nth = 0
                if not self._quiet:
                    self._count[label] += 1
                    nth = self._count[label]
                    self._record.gateway.trails.tick += 1
                    self._happen(label, nth, after=False)
                    failed = self._fault(label, nth)
                    if failed:
                        self.faulted = True
                        if name == "renameat2":
                            ctypes.set_errno(failed)
                            return -1
                        raise OSError(failed, os.strerror(failed))
                inode = _inode(args[0]) if name in _BY_DESCRIPTOR else 0
                result = real(*args, **named)
                self._note(label, args, result, inode)
                if not self._quiet:
                    self._record.gateway.trails.tick += 1
                    self._happen(label, nth, after=True)
                return result

        return call

    def _label(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> str | None:
        """What a call is to us; None where it has nothing to do with the store."""
        path = os.fspath(args[0]) if args and not isinstance(args[0], int) else ""
        ours = named.get("dir_fd") is not None
        match name:
            case "open":
                if ours and isinstance(path, str) and path.endswith(".trajectory.jsonl"):
                    return "open"
                if ours and path.startswith(OWN) and args[1] & os.O_CREAT:
                    return "temp"
                return "open" if ours else None
            case "stat":
                if not ours:
                    return "audit" if str(path).endswith(".db") else None
                return "check" if self._prepared and path == STORE else "stat"
            case "fsync":
                return "fsync folder" if stat.S_ISDIR(os.fstat(args[0]).st_mode) else "fsync"
            case "fcntl":
                if len(args) < 3 or args[1] != fcntl.F_SETLEASE:
                    return None
                return "let in" if args[2] == fcntl.F_UNLCK else "lease"
            case "close":
                return "close" if args[0] in self._record.shut else None
        return _LABELS.get(name, name)

    def _note(self, label: str, args: tuple[Any, ...], result: Any, inode: int) -> None:
        record = self._record
        name = os.fspath(args[0]) if args and not isinstance(args[0], int) else ""
        if label in ("open", "stat") and str(name).endswith(".trajectory.jsonl"):
            record.looked[str(name).removesuffix(".trajectory.jsonl")] = record.gateway.trails.tick
        elif label == "temp":
            self._prepared = True
            record.made[_inode(result)] = str(name)
        elif label in ("write", "allocate", "truncate"):
            record.unsynced.add(inode)
        elif label == "fsync":
            record.unsynced.discard(inode)
        elif label == "fsync folder":
            record.names_unsynced.clear()
        elif label == "exchange":
            self._prepared = False
            if result in (0, None):
                record.note_exchange(os.fsdecode(name or args[1]))
        elif label == "lease":
            record.shut[args[0]] = _inode(args[0])
        elif label in ("let in", "close"):
            record.shut.pop(args[0], None)
        if label in _MUTATING:
            self.look()

    def look(self) -> None:
        """Look at the store as anybody could; while it is held shut nobody can."""
        with self.outside():
            if not self._record.is_shut():
                self._watch()

    def _happen(self, label: str, nth: int, *, after: bool) -> None:
        for each in self._happenings:
            if each.what not in FAULTS and (each.call, each.nth, each.after) == (label, nth, after):
                self.look()
                self._move(each)
                self.look()

    def _fault(self, label: str, nth: int) -> int:
        for each in self._happenings:
            if each.what in FAULTS and each.call == label != "audit" and each.nth <= nth < each.nth + each.times:
                # A lease that is gone is one that was held for longer than the kernel lets anybody wait.
                return errno.EAGAIN if label == "let in" else FAULTS[each.what]
        return 0


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino
