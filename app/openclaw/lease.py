"""Holding a new file shut: whoever opens it waits until we know what it is to say.

A write lease (`fcntl` F_SETLEASE) makes the kernel stop any `open` of the file, in any process, until the holder gives
the lease up or `/proc/sys/fs/lease-break-time` (45 s) has passed. It is taken while nobody can know the file yet, and
given up with the descriptor at the latest: a process that dies holds nobody up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import suppress

_SET_LEASE = getattr(fcntl, "F_SETLEASE", None)


class AlreadyOpen(Exception):
    """Somebody has the file open already."""


def hold_shut(fd: int) -> bool:
    """Take the lease on a file of ours that only we have open; False where there are no leases. Raises AlreadyOpen."""
    if _SET_LEASE is None:
        return False
    try:
        # The kernel tells the holder of each one who waits; SIGIO, its own choice, would end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, _SET_LEASE, fcntl.F_WRLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise AlreadyOpen from None
        return False
    return True


def let_in(fd: int) -> None:
    """Give the lease up: those who wait go on with the file as it is now."""
    with suppress(OSError):  # closing the file gives it up as well
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def say_instead(fd: int, data: bytes) -> None:
    """Make `data` the content of the file that is held shut: those who wait will read this. Raises OSError."""
    whole = data.ljust(os.fstat(fd).st_size)  # JSON already before its end is cut off
    if whole:
        os.posix_fallocate(fd, 0, len(whole))  # a disk that is full shows here, where nothing is changed yet
    at = 0
    while at < len(whole):
        at += os.pwrite(fd, memoryview(whole)[at:], at)
    os.ftruncate(fd, len(data))
