"""What a process uses, by the kernel's own count."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


class Meter:
    """One process; our own unless another is named."""

    def __init__(self, pid: int | str = "self") -> None:
        self._proc = Path("/proc") / str(pid)

    @property
    def resident(self) -> int:
        """Bytes of memory that it has now."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most that it had since `forget_the_peak`."""
        return self._status("VmHWM")

    def forget_the_peak(self) -> None:
        (self._proc / "clear_refs").write_text("5")

    @property
    def bytes_read(self) -> int:
        """By all its reads of files, pipes and sockets so far."""
        return self._number("io", "rchar:")

    def _status(self, name: str) -> int:
        return self._number("status", f"{name}:") * 1024

    def _number(self, file: str, name: str) -> int:
        for line in (self._proc / file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
        raise AssertionError(f"no {name} in {self._proc / file}")


@dataclass(frozen=True)
class Held:
    """What this process holds on to."""

    descriptors: dict[str, int]
    """How many are open, by what they lead to."""
    threads: int

    @classmethod
    def now(cls) -> Held:
        folder = "/proc/self/fd"
        descriptors: dict[str, int] = {}
        for name in os.listdir(folder):
            try:
                target = os.readlink(f"{folder}/{name}").split(":[")[0]
            except FileNotFoundError:
                continue  # the one by which this folder was listed
            descriptors[target] = descriptors.get(target, 0) + 1
        return cls(descriptors, threading.active_count())


def audit_bytes(path: Path) -> int:
    """Of the database and its log, all of it written out."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
