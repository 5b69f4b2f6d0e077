"""The one process that writes to a database: it opens it once, writes, says what became of it and ends.

Clawmend itself reads the same databases, with another copy of SQLite and from several threads. In one process that
would be fatal: POSIX locks belong to the process, and whoever closes a file there drops the locks that the other one
relies on, unseen (sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from app.openclaw.replacement import Replacement, Written
from app.own_process import run_module

_PATIENCE = 15.0
"""Seconds for all of it: to start, to wait for a lock, to write, to close."""


def replace_in_a_process(what: Replacement, now: int, patience: float = _PATIENCE) -> Written:
    """As `replace_entry`; `unknown` also when the process is gone without a word. Raises nothing."""
    texts = {name: base64.b64encode(getattr(what, name)).decode() for name in ("before", "after")}
    order = json.dumps({"now": now, "what": {**asdict(what), **texts}})  # by a pipe: the key may hold a phone number
    try:
        done = run_module(__name__, order.encode(), quiet=True, patience=patience)
    except subprocess.TimeoutExpired:
        return Written("unknown", "no_answer", f"the process that writes has not answered for {patience:g} s")
    except OSError as error:
        return Written("refused", "no_process", f"no process could be started to write: {error.strerror}")
    try:
        return Written(**json.loads(done.stdout))
    except (ValueError, TypeError):
        return Written("unknown", "no_answer", f"the process that writes has ended with {done.returncode}")


def _main() -> None:
    from app.openclaw.database_write import replace_entry  # noqa: PLC0415  (it brings an SQLite of its own)

    order: dict[str, Any] = json.load(sys.stdin)
    what = order["what"]
    texts = {name: base64.b64decode(what[name]) for name in ("before", "after")}
    json.dump(asdict(replace_entry(Replacement(**{**what, **texts}), order["now"])), sys.stdout)


if __name__ == "__main__":
    _main()
