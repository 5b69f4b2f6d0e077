"""Whether so many repairs fall due at once that a person is to look first (docs/decisions/0017)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """As many repairs within so many seconds are done without a person."""

    repairs: int = 250
    seconds: float = 600.0


def why_to_open(fell_due: int, let_through: int, policy: BreakerPolicy) -> str | None:
    """The reason to stop repairing by itself; None: go on.

    `fell_due`: turns that fell due within the window, settled or not, each counted once however often it was tried.
    `let_through`: as many as waited when a person has closed the breaker within the window; they had been seen.
    """
    if fell_due <= policy.repairs + let_through:
        return None
    more = f" besides the {let_through} that a person has let through" if let_through else ""
    return (
        f"{fell_due - let_through} sessions fell due within {policy.seconds / 60:g} min{more}; "
        f"more than {policy.repairs} are not settled without a person"
    )
