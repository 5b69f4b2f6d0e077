"""Which of our hands writes to a row (design, section 5), or why none does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.domain.model import Evidence
from app.domain.stand import stand
from app.openclaw.paths import StoreTarget

DatabaseWrites = Literal["idle", "stopped", "off"]
UNKNOWN_SCHEMA = "its database has a schema that is none that we know how to write"
_OFF = "its rows live in a database, and CLAWMEND_DATABASE_WRITES is off"


@dataclass(frozen=True, slots=True)
class Hand:
    """The hand that writes to a row."""

    name: Literal["plugin", "file", "database"] | None
    """None: none does."""
    why_not: str | None = None
    """Why none does; None also where nothing is to be written."""
    live: bool = False
    """The hand `database` writes beside a gateway that runs."""


FILE = Hand("file")
NOTHING_TO_WRITE = Hand(None)


def hand_for(
    target: StoreTarget, evidence: Evidence, writes: DatabaseWrites, *, known_schema: bool, asked: bool
) -> Hand:
    """`asked`: the gateway has been asked of this row, and what it did not say it does not know."""
    if target.kind == "database" and not known_schema:
        return Hand(None, UNKNOWN_SCHEMA)
    if evidence.liveness.by_plugin:
        return Hand("plugin")
    if target.kind == "file":
        return FILE
    if writes == "off":
        return Hand(None, _OFF)
    if not asked:
        return Hand("database", live=True)
    said = evidence.liveness
    found = stand(evidence.gateway, said.active, said.runs, live_allowed=writes == "idle")
    if found.live is None:
        return Hand(None, f"{found.detail} ({found.code})")
    return Hand("database", live=found.live)
