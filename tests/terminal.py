"""A terminal that a test holds: the command runs in it as if a person had typed it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.command import Clawmend

PATIENCE = 60.0
ESCAPE = "\x1b"
FIRST_WORDS = re.compile(r"\Aclawmend: loading \.\.\.\r\x1b\[2K")


@dataclass
class Terminal:
    """What is on it, byte for byte; but for the first words, once they are taken back."""

    process: subprocess.Popen[bytes]
    master: int
    _seen: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        return FIRST_WORDS.sub("", self.written)

    @property
    def written(self) -> str:
        """All that was ever written to it."""
        return self._seen.decode("utf-8", "surrogateescape")

    def until(self, words: str) -> None:
        """Waits for `words` to be printed."""
        self._read(lambda: words in self.text)
        assert words in self.text, self.text

    def ended(self) -> int:
        """Waits for the end of the command; its exit code."""
        self._read(lambda: False)
        return self.process.wait(PATIENCE)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def _read(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not enough() and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    data = os.read(self.master, 65_536)
                except OSError:  # how Linux tells that nobody has the other end open
                    return
                if not data:
                    return
                self._seen += data


@contextmanager
def at_a_terminal(command: Clawmend, *arguments: str, columns: int = 200, **env: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, columns))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "app.cli", *arguments],
        cwd=command.world.folder,
        env={**command.env, "TERM": "xterm-256color", **env},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
