"""A forked process that says things, one line each, and is killed when it takes too long."""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

DEADLINE = 90.0

Say = Callable[[dict[str, Any]], None]


class Child:
    def __init__(self, work: Callable[[Say], None]) -> None:
        self._out, into = os.pipe()
        self._rest = b""
        self.last: dict[str, Any] | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._out)
            _hush()
            try:
                work(lambda value: _write_line(into, value))
            except BaseException as error:  # noqa: BLE001  (told to the parent)
                told = {"raised": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-3000:]}
                _write_line(into, told)
            finally:
                os._exit(0)
        os.close(into)

    def hear(self) -> dict[str, Any] | None:
        """What it says next; None when it ends, or takes too long."""
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._out, 1 << 16) if ready else b""
            if not part:
                return None
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        self.last = json.loads(line)
        return self.last

    def end(self) -> None:
        """See to it that it has ended."""
        deadline = time.monotonic() + 5
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.001)
        os.close(self._out)


def in_child(work: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """The value of `work`, done in a process of its own; None when it hangs."""
    child = Child(lambda say: say(work() or {}))
    said = child.hear()
    child.end()
    return said


def _hush() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _write_line(fd: int, value: dict[str, Any]) -> None:
    line = json.dumps(value).encode() + b"\n"
    while line:
        line = line[os.write(fd, line) :]
