"""Which of our hands writes to a store (design, section 5); a hand for databases gets its place here."""

from __future__ import annotations

from app.openclaw.paths import StoreTarget


def why_no_hand(target: StoreTarget) -> str | None:
    """Why nobody of us writes to this store; None where the hand for files does."""
    if target.kind == "database":
        return "its rows live in a database, which Clawmend reads and does not write to yet"
    return None
