"""How an attempt is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.cli.exits import COULD_NOT_TELL, DONE
from app.cli.screen import warn

if TYPE_CHECKING:
    from app.audit.models import Attempt


def change(attempt: Attempt) -> str:
    """What it makes of the four fields."""
    before, after = attempt.before, attempt.after
    changed = [f"{name} {before.get(name)} -> {after[name]}" for name in after if before.get(name) != after[name]]
    return ", ".join(changed) or "nothing changes"


def told_outcome(attempt: Attempt) -> int:
    """The exit code of an attempt that has been made, and a line where the row is not as it was to be."""
    if attempt.outcome == "applied":
        return DONE
    warn(f"{attempt.outcome}: {attempt.outcome_reason}")
    return COULD_NOT_TELL
