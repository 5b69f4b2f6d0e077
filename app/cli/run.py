"""A run of the command: its first words, what an error becomes, and its exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from functools import partial

from app.cli.exits import COULD_NOT_TELL
from app.cli.failures import KINDS, failure_of, is_of_our_output, problem
from app.cli.screen import make_room, say_at_once, say_json, warn

PROGRAM = "clawmend"
COMPLETE = f"_{PROGRAM.upper()}_COMPLETE"
"""Typer's variable by which a shell asks for the words that may follow."""
_STOPPED = 130
"""Ctrl-C, as Typer and shells have it."""


def run(argv: list[str]) -> int:
    """Run the command that `argv` names; gives its exit code. It is asked for help where it names none."""
    os.umask(0o077)  # whatever we write is nobody else's to read
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    if _takes_a_while(argv):
        say_at_once()
    try:
        code = _scan(as_json="--json" in argv) if _is_plain_scan(argv) else _read_by_typer(argv)
    finally:
        make_room()
    return code if argv else COULD_NOT_TELL


def guarded(command: Callable[[], int], *, as_json: bool, but: tuple[type[Exception], ...] = ()) -> int:
    """The exit code that `command` gives, or the one of its error, which is told. It raises what is one of `but`."""
    try:
        code = command()
        sys.stdout.flush()
    except but:
        raise
    except Exception as error:  # noqa: BLE001  (the last place where it can become one line and an exit code)
        if os.environ.get("CLAWMEND_LOG_LEVEL", "").lower() == "debug":
            import traceback

            traceback.print_exc()
        return failed(error, as_json=as_json)
    return code


def failed(error: Exception, *, as_json: bool) -> int:
    """Tell of `error`; gives its exit code."""
    failure = failure_of(error)
    if is_of_our_output(error):
        _write_no_more()
    elif as_json:
        say_json(problem(failure))
    if not isinstance(error, BrokenPipeError):  # who has gone away need not be told
        warn(failure.detail)
    return KINDS[failure.code].exit_code


def _read_by_typer(argv: list[str]) -> int:
    from app.cli.root import call

    return call(argv)


def _is_plain_scan(argv: list[str]) -> bool:
    """A scan with nothing to parse. It is asked for over and over, and without Typer it loads in half the time."""
    return argv in (["scan"], ["scan", "--json"]) and COMPLETE not in os.environ


def _scan(*, as_json: bool) -> int:
    collects = gc.isenabled()
    gc.disable()  # all that it makes it keeps to its end
    try:
        from app.cli.findings import scan_once

        return guarded(partial(scan_once, as_json=as_json), as_json=as_json)
    except KeyboardInterrupt:
        return _STOPPED
    finally:
        if collects:
            gc.enable()


def _takes_a_while(argv: list[str]) -> bool:
    """Whether a command is named whose first words come late: Typer loads pydantic for its options already."""
    quick = {"serve", "-h", "--help", "--version"}
    return bool(argv) and not quick & set(argv) and COMPLETE not in os.environ


def _write_no_more() -> None:
    """What is still to be written would fail again, at the latest when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
