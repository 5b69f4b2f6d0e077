"""The command `clawmend`; docs/reference/cli.md is its page.

A command is a function in a module of its own here, and one line in `root.py`. It takes its options as annotated
arguments, imports what it needs inside (`clawmend --help` may load nothing heavy), prints by `app.cli.screen`, gives
its exit code back, and raises what it cannot do: `app.cli.failures` knows what each error is to the person who asked.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    from app.cli.root import run

    return run(sys.argv[1:] if argv is None else argv)
