"""What we ask a gateway about one session, and the one call that tells it of a repair (spec 2026.5.18, section 6)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from app.domain.model import Liveness, Row
from app.openclaw.gateway_frames import SessionRow, session_row
from app.openclaw.gateway_link import Link
from app.openclaw.parse import whole, word
from app.openclaw.paths import StoreTarget

ASK_SECONDS = 1.0
"""For an answer that somebody waits for; a gateway that prepares a turn may be silent for longer."""
BACKGROUND_SECONDS = 10.0
"""For one that nobody waits for."""
TELL_SECONDS = 5.0
_MOST_OF_ONE_ID = 20


@dataclass(frozen=True, slots=True)
class Told:
    """What came of telling the gateway; `answer` is one of docs/gateway.md."""

    answer: str
    """`as_repaired`, `otherwise` (it answered with another row) or `not_told`."""
    why: str | None = None


class Elsewhere(Exception):
    """This gateway does not keep the row that was asked about, or has it otherwise."""


async def find_row(link: Link, target: StoreTarget, row: Row, agent_id: str) -> SessionRow:
    """The row as the gateway has it. Raises Elsewhere, LinkFailed, Refused."""
    asked = {
        "agentId": agent_id,
        "search": row.session_id,
        "limit": _MOST_OF_ONE_ID,
        "includeGlobal": True,
        "includeUnknown": True,
    }
    listed = await link.call("sessions.list", asked, BACKGROUND_SECONDS)
    sessions = listed.get("sessions")
    rows = [r for r in map(session_row, sessions if isinstance(sessions, list) else []) if r is not None]
    found = next((r for r in rows if r.key.lower() == row.key.lower() and r.session_id == row.session_id), None)
    if found is None:
        raise Elsewhere("the gateway does not list this session")
    if not _same_file(listed.get("path"), target.path):
        raise Elsewhere("the gateway that answers keeps its sessions elsewhere")
    return found


async def ask_liveness(link: Link, target: StoreTarget, row: Row, agent_id: str, now: int) -> Liveness:
    """Whether a run of this row is active; `now` (epoch ms) is when this was asked. Raises LinkFailed, Refused."""
    try:
        found = await find_row(link, target, row, agent_id)
    except Elsewhere as error:
        return Liveness(why=str(error))
    if found.active is True:
        return Liveness(True, False, now, "hasActiveRun is true")
    if found.active is None:
        return Liveness(why="the gateway does not say whether a run of it is active")
    if found.started_at != row.started_at:
        return Liveness(why="the gateway knows of another turn in this session")
    preflight = await link.call("gateway.restart.preflight", {}, BACKGROUND_SECONDS)
    idle = _nothing_counted(preflight.get("counts"))
    return Liveness(False, idle, now, "hasActiveRun is false" + (", and nothing at all runs there" if idle else ""))


async def tell(link: Link, target: StoreTarget, key: str, repaired: dict[str, Any]) -> Told:
    """The patch that changes nothing: the gateway reads the row anew, and tells all who watch. It would make a row that
    is gone, so the caller has just looked. Raises LinkFailed, Refused.
    """
    answer = await link.call("sessions.patch", {"key": key}, TELL_SECONDS)
    entry = session_row(answer.get("entry"))
    if not _same_file(answer.get("path"), target.path) or entry is None:
        return Told("otherwise", "another store than ours was patched")
    if (entry.status, entry.ended_at) != (repaired.get("status"), repaired.get("endedAt")):
        return Told("otherwise", f"the gateway has the row as {entry.status or 'without a status'}")
    return Told("as_repaired")


async def inject(link: Link, key: str, message: str) -> None:
    """Add a message to the transcript, shown and not sent to any model: the tab that has sent the turn's message lists
    the sessions anew, and its Stop goes (spec/control-ui.md). Raises LinkFailed, Refused.
    """
    await link.call("chat.inject", {"sessionKey": key, "message": message}, TELL_SECONDS)


def _nothing_counted(counts: object) -> bool:
    return isinstance(counts, dict) and len(counts) > 0 and all(whole(n) == 0 for n in counts.values())


def _same_file(path: object, ours: str) -> bool:
    path = word(path)
    return path is not None and "\0" not in path and os.path.realpath(path) == os.path.realpath(ours)
