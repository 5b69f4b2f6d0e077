"""wrk: 32 connections that ask one behind the other, from one thread."""

from __future__ import annotations

import re
import shutil
import subprocess

from tests.bench.measure import CannotMeasure

CONNECTIONS = 32
_FAILED = re.compile(r"^ *(Non-2xx or 3xx responses|Socket errors): .*$", re.MULTILINE)


def wrk(*words: str, pinned: list[str] | None = None) -> str:
    """What it says behind its run, in which nothing failed; `pinned`: the command that pins it to a core."""
    program = shutil.which("wrk")
    if program is None:
        raise CannotMeasure("the load is made by wrk: apt-get install wrk")
    command = [*(pinned or []), program, "-t1", f"-c{CONNECTIONS}", *words]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert _FAILED.search(said) is None, said
    return said
