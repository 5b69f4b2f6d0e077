"""The command `clawmend`; docs/reference/cli.md is its page.

A command is a function in a module of its own here, and one line in `root.py`. It takes its options as annotated
arguments, imports what it needs inside (`clawmend --help` may load nothing heavy), prints by `app.cli.screen`, gives
its exit code back, and raises what it cannot do: `app.cli.failures` knows what each error is to the person who asked.
"""

from __future__ import annotations

import gc
import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives its exit code. Without `argv` it is the one of this process, which ends with it."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # we have none, and to look for them takes time
    from app.cli.run import run

    if argv is not None:
        return run(argv)
    code = run(sys.argv[1:])
    gc.freeze()  # the memory goes with the process: to search it for cycles at its end takes longer than to start it
    return code
