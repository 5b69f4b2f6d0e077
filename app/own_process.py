"""A Python of our own, for what must not happen in this process, or would stay in it."""

from __future__ import annotations

import os
import subprocess
import sys


def run_module(
    module: str, told: bytes, *, quiet: bool = False, patience: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `module` as a program that loads what this one loads, and nothing from the folder it was started in.

    `told` is all that it reads, by a pipe: others may see a command line. What it complains of comes out as our own, or
    nowhere if `quiet`; `patience` in seconds. Raises OSError where it cannot be started and subprocess.TimeoutExpired.
    """
    return subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-m", module],
        input=told,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        timeout=patience,
        check=False,
    )
