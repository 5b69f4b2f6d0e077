"""When a store may be written: no other Clawmend at it, and a gateway that is not writing at this moment."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from app.clock import Clock
from app.domain.model import FileIdentity
from app.openclaw.folder import FileProblem, Folder

GATEWAY_TEMP_PREFIX = ".fs-safe-replace."
_DEAD_TEMP_MS = 30_000
"""A gateway's temporary file lives for milliseconds; an older one was left by a crash."""


class StoreBusy(Exception):
    """Somebody else is at the store, and was for as long as we could wait."""


@contextmanager
def sole_writer(folder: Folder, clock: Clock, patience: float) -> Iterator[None]:
    """No other Clawmend writes below this folder meanwhile. Raises StoreBusy after `patience` seconds."""
    deadline = clock.monotonic() + patience
    while True:
        try:
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if clock.monotonic() >= deadline:
                raise StoreBusy("another Clawmend is writing to this store") from None
            clock.sleep(0.05)
        except OSError as error:
            raise StoreBusy(f"the store's folder cannot be locked: {error.strerror}") from None
    try:
        yield
    finally:
        with suppress(OSError):  # closing the folder gives it up as well
            fcntl.flock(folder.fd, fcntl.LOCK_UN)


def wait_until_quiet(
    folder: Folder, name: str, clock: Clock, *, quiet: float, patience: float, ours: FileIdentity | None
) -> None:
    """Wait until nobody but us has written for `quiet` seconds and no gateway write is under way. Raises StoreBusy."""
    deadline = clock.monotonic() + patience
    while True:
        if is_quiet(folder, name, clock.now(), quiet, ours):
            return
        if clock.monotonic() >= deadline:
            raise StoreBusy(f"the gateway has been writing to this store for {patience:g} s without a pause")
        clock.sleep(0.1)


def is_quiet(folder: Folder, name: str, now: int, quiet: float, ours: FileIdentity | None) -> bool:
    """Nobody wrote the store for `quiet` seconds, unless that was us, and no gateway write is under way.

    `ours` is the store as our last repair left it. Raises FileProblem.
    """
    identity = folder.identity(name)
    if identity is None:
        raise FileProblem("missing", "the store is gone")
    rested = identity == ours or now - identity.mtime >= quiet * 1000
    return rested and not _gateway_is_writing(folder, now)


def _gateway_is_writing(folder: Folder, now: int) -> bool:
    for name in folder.names():
        if name.startswith(GATEWAY_TEMP_PREFIX):
            with suppress(FileProblem):
                identity = folder.identity(name)
                if identity is not None and now - identity.mtime < _DEAD_TEMP_MS:
                    return True
    return False
