"""A write to a database, step by step: SQLite's own calls are each followed by a word, and wait for an answer.

    python -m tests.faults.power.stepping      the order on the input, then a line for every step

Everything in that process is ours but this: its SQLite goes by a VFS that lays itself over the usual one. Every write
is two, so that the power may go in the middle.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apsw

from app.openclaw.database_write import replace_entry
from app.openclaw.replacement import Replacement, Written
from tests.faults.race.field import TOP

_TEXTS = ("before", "after")


def replace_in_steps(what: Replacement, now: int, after: Callable[[str], None], *, log_sync: bool) -> Written:
    """As `replace_in_a_process`; `after` is called with the name of each step once it is done."""
    texts = {name: base64.b64encode(getattr(what, name)).decode() for name in _TEXTS}
    order = {"what": {**asdict(what), **texts}, "now": now, "log_sync": log_sync}
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps(order), file=process.stdin, flush=True)
        for line in process.stdout:
            said = json.loads(line)
            if "step" not in said:
                return Written(**said)
            after(said["step"])
            print(file=process.stdin, flush=True)
    raise AssertionError(f"it ended without a word, with {process.returncode}")


def main() -> None:
    order = json.loads(sys.stdin.readline())
    what = Replacement(**{**order["what"], **{name: base64.b64decode(order["what"][name]) for name in _TEXTS}})

    def done(step: str, name: str) -> None:
        print(json.dumps({"step": f"{step} {'log' if name.endswith('-wal') else 'database'}"}), flush=True)
        sys.stdin.readline()

    vfs = _Disk(done, log_sync=order["log_sync"])
    said = replace_entry(what, order["now"])
    vfs.unregister()
    print(json.dumps(asdict(said)), flush=True)


class _Disk(apsw.VFS):
    def __init__(self, done: Callable[[str, str], None], *, log_sync: bool) -> None:
        self._done = done
        self._log_sync = log_sync
        super().__init__("in steps", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(name, flags, self._done, log_sync=self._log_sync)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._done("delete", filename)


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], done: Callable[[str, str], None], *, log_sync: bool) -> None:
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "").name
        self._done = done
        self._log_sync = log_sync
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        half = len(data) // 2
        super().xWrite(data[:half], offset)
        self._done("half a write to the", self._name)
        super().xWrite(data[half:], offset + half)
        self._done("write to the", self._name)

    def xSync(self, flags: int) -> None:
        if self._log_sync or not self._name.endswith("-wal"):
            super().xSync(flags)
        self._done("sync the", self._name)

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._done("truncate the", self._name)


if __name__ == "__main__":
    main()
