"""A process of its own that writes to a database, many times over; as app.openclaw.database_process does it once."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict

from app.openclaw.database_write import replace_entry
from app.openclaw.replacement import Replacement, Written

_TEXTS = ("before", "after")


class QuickHand:
    """Gives the orders to that process."""

    def __init__(self, stack: ExitStack) -> None:
        command = [sys.executable, "-m", __name__]
        pipe = subprocess.PIPE
        self._process = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        stack.callback(self._process.kill)

    def __call__(self, what: Replacement) -> Written:
        assert self._process.stdin is not None and self._process.stdout is not None
        texts = {name: base64.b64encode(getattr(what, name)).decode() for name in _TEXTS}
        self._process.stdin.write(json.dumps({**asdict(what), **texts}) + "\n")
        self._process.stdin.flush()
        return Written(**json.loads(self._process.stdout.readline()))


def main() -> None:
    for line in sys.stdin:
        given = json.loads(line)
        what = Replacement(**{**given, **{name: base64.b64decode(given[name]) for name in _TEXTS}})
        print(json.dumps(asdict(replace_entry(what, time.time_ns() // 1_000_000))), flush=True)


if __name__ == "__main__":
    main()
