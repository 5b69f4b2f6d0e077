"""What each error is to the person at the command line: its code, its exit code, and what to do next.

docs/reference/errors.md is held against this table. The codes that the API has too mean the same there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.cli.exits import COULD_NOT_TELL, NOT_NOW


@dataclass(frozen=True, slots=True)
class Kind:
    """One code of an error."""

    exit_code: int
    title: str
    next: str


KINDS = {
    "usage": Kind(COULD_NOT_TELL, "The command is not written so", "Ask the command itself: --help."),
    "bad_setting": Kind(COULD_NOT_TELL, "A setting is wrong", "docs/reference/settings.md has them all."),
    "cannot_start": Kind(COULD_NOT_TELL, "Clawmend cannot begin", "Mend what `detail` names."),
    "not_found": Kind(COULD_NOT_TELL, "There is no such thing", "`clawmend scan --json` and `clawmend audit` list what there is."),
    "ambiguous": Kind(COULD_NOT_TELL, "Two sessions answer to this id", "Give the session key, and only one CLAWMEND_STATE_DIR that has it."),
    "not_stuck": Kind(COULD_NOT_TELL, "The session may not be settled", "`clawmend explain` shows the evidence; --force settles what cannot be proven."),
    "cannot_undo": Kind(COULD_NOT_TELL, "This repair cannot be taken back", "The row has moved on: look at it with `clawmend explain`."),
    "store_unfit": Kind(COULD_NOT_TELL, "This store is never written to", "`clawmend scan` says what is wrong with it."),
    "token": Kind(COULD_NOT_TELL, "This token cannot be made or revoked", "`clawmend token list` has every name."),
    "not_open": Kind(COULD_NOT_TELL, "The breaker is not open", "The scheduler settles what is due."),
    "plugin": Kind(COULD_NOT_TELL, "OpenClaw did not do it", "Look at what its own command says."),
    "store_busy": Kind(NOT_NOW, "The store is being written to", "Ask again in a few seconds."),
    "audit_unavailable": Kind(COULD_NOT_TELL, "The audit database does not answer", "Nothing is repaired until it does: look at the database."),
    "internal": Kind(COULD_NOT_TELL, "Something went wrong inside Clawmend", "CLAWMEND_LOG_LEVEL=debug shows where."),
}  # fmt: skip

RAISED = {
    "app.settings.SettingsError": "bad_setting",
    "app.building.CannotStart": "cannot_start",
    "app.demo.NotADemo": "cannot_start",
    "app.reconcile.asking.NotStuck": "not_stuck",
    "app.reconcile.asking.CannotUndo": "cannot_undo",
    "app.reconcile.asking.StoreUnfit": "store_unfit",
    "app.reconcile.breaker.NotOpen": "not_open",
    "app.openclaw.quiet.StoreBusy": "store_busy",
    "app.openclaw.plugin_install.PluginProblem": "plugin",
    "app.audit.tokens.TokenRefused": "token",
    "app.audit.log.AuditUnavailable": "audit_unavailable",
}
"""By the name of its class, so that none of them has to be imported to be known."""


class Failure(Exception):
    """Ends the command with the exit code of `code`, a key of KINDS, and one line."""

    def __init__(self, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.more = more
        """More members of the problem object."""


def failure_of(error: Exception) -> Failure:
    """`error` as what it is to the person who asked."""
    if isinstance(error, Failure):
        return error
    for kind in type(error).__mro__:
        code = RAISED.get(f"{kind.__module__}.{kind.__qualname__}")
        if code == "not_stuck":
            return Failure(code, f"not settled: {error}")
        if code is not None:
            return Failure(code, str(error))
    if is_of_our_output(error):
        return Failure("internal", f"what is said here cannot be written: {getattr(error, 'strerror', error)}")
    return Failure("internal", f"something went wrong inside Clawmend: {type(error).__name__}: {error}")


def is_of_our_output(error: Exception) -> bool:
    """Whether what failed is what we print: an error with a file names it, a socket's has a class of its own."""
    return isinstance(error, BrokenPipeError) or (type(error) is OSError and error.filename is None)


def problem(failure: Failure) -> dict[str, Any]:
    """The error as `--json` prints it: the members of RFC 9457 as the API has them, and the exit code."""
    kind = KINDS[failure.code]
    return {
        "type": f"/problems/{failure.code}",
        "title": kind.title,
        "detail": failure.detail,
        "next": kind.next,
        "exit_code": kind.exit_code,
        **failure.more,
    }
