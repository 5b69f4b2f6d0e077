"""A gateway beside us: a process of its own, which reads and writes the store at the moment that it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from app.openclaw import publish, swap
from app.openclaw.folder import Folder
from app.reconcile import file_hand

WROTE = "the-gateway-wrote"
READS = "the-gateway-reads-again"
WROTE_AGAIN = "the-gateway-wrote-again"
"""Stamps in the state dir, so that they stay with the scene."""
_PATIENCE = 5.0


class Beside:
    """Made before strace attaches, which follows only what begins afterwards. All processes end with the caller."""

    def __init__(self, state: Path, store: Path, write: Callable[[bytes], None]) -> None:
        self._state = state
        self._store = store
        self._write = write

    def writes(self, change: Callable[[bytes], bytes]) -> Callable[[], None]:
        """The telling of one whole write."""

        def work(answer: Callable[[], None]) -> None:
            self._write(change(self._store.read_bytes()))
            (self._state / WROTE).touch()
            answer()

        return _told(work)[0]

    def reads_and_writes(self, change: Callable[[bytes], bytes]) -> tuple[Callable[[], None], Callable[[], None]]:
        """The telling of a write, which comes back when its reading is stopped at a file that is held shut, or done;
        and the waiting for its end.
        """

        def work(answer: Callable[[], None]) -> None:
            (self._state / READS).touch()
            if os.fork() == 0:
                try:
                    self._write(change(self._store.read_bytes().rstrip(b" ")))  # which are nothing to a parser
                    (self._state / WROTE_AGAIN).touch()
                finally:
                    os._exit(0)
            wait_for(lambda: self._written_again() or _somebody_is_stopped_at(self._store))
            answer()
            wait_for(self._written_again)
            answer()

        return _told(work)

    def _written_again(self) -> bool:
        return (self._state / WROTE_AGAIN).exists()


def _somebody_is_stopped_at(store: Path) -> bool:
    inode = f":{store.stat().st_ino} "
    return any("BREAKING" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not what() and time.monotonic() < deadline:
        time.sleep(0.002)


def _told(work: Callable[[Callable[[], None]], None]) -> tuple[Callable[[], None], Callable[[], None]]:
    """A process that works when it is told to: the telling, which waits for its first answer, and a further wait."""
    ask_out, ask_in = os.pipe()
    answer_out, answer_in = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ask_in)
            if os.read(ask_out, 1):
                work(lambda: _answer(answer_in))
        finally:
            os._exit(0)
    os.close(ask_out)
    os.close(answer_in)

    def tell() -> None:
        os.write(ask_in, b"1")
        wait()

    def wait() -> None:
        os.read(answer_out, 1)

    return tell, wait


def _answer(fd: int) -> None:
    try:
        os.write(fd, b"1")
    except BrokenPipeError:
        return  # who asked was killed


def around_the_first_exchange(
    before: Callable[[], None], after: Callable[[], None] | None = None, given_up: Callable[[], None] | None = None
) -> None:
    """Run `before` and `after` directly at our first exchange, and `given_up` when that try has come to nothing."""
    exchange, carry_out = swap._renameat2, publish.publish
    assert exchange is not None
    to_come: list[Callable[[], None] | None] = [before, after]
    to_follow = [given_up]

    def renameat2(*args: object) -> int:
        _run_next(to_come)
        result = int(exchange(*args))
        _run_next(to_come)
        return result

    def try_once(
        folder: Folder, name: str, change: publish.Change, *, allow_rename: bool
    ) -> publish.Published | publish.Crossed:
        result = carry_out(folder, name, change, allow_rename=allow_rename)
        _run_next(to_follow)
        return result

    swap._renameat2 = renameat2  # type: ignore[assignment]
    file_hand.publish = try_once  # type: ignore[attr-defined]


def _run_next(waiting: list[Callable[[], None] | None]) -> None:
    moment = waiting.pop(0) if waiting else None
    if moment is not None:
        moment()
