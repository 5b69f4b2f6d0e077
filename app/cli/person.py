"""Who acts on the command line: what the audit calls its actor."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.reconcile.asking import Ask


def asked(reason: str, *, dry_run: bool = False, status: str | None = None) -> Ask:
    """What this person asks for; `status` forces it."""
    from app.reconcile.asking import Ask

    return Ask("cli", user(), unicode_of(reason), dry_run, status is not None, status)


def user() -> str:
    """The name of the user, as far as the system knows one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def unicode_of(text: str) -> str:
    """`text` as Unicode, whatever bytes the terminal sent."""
    return text.encode("utf-8", "replace").decode("utf-8")
