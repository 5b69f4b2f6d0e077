"""What we ask a gateway about one session, and the one call that tells it of a repair (spec 2026.5.18, section 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from app.domain.model import Liveness, Row
from app.openclaw.gateway_frames import SessionRow, session_row
from app.openclaw.gateway_link import Link, Refused
from app.openclaw.gateway_plugin import ask_plugin, has_plugin
from app.openclaw.parse import whole
from app.openclaw.paths import StoreTarget, is_store

ASK_SECONDS = 1.0
"""For an answer that somebody waits for; a gateway that prepares a turn may be silent for longer."""
BACKGROUND_SECONDS = 10.0
"""For one that nobody waits for."""
TELL_SECONDS = 5.0
_MOST_OF_ONE_ID = 20
_MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Told:
    """What came of telling the gateway; `answer` is one of docs/explanation/gateway.md."""

    answer: str
    """`as_repaired`, `otherwise` (it answered with another row) or `not_told`."""
    why: str | None = None


class Elsewhere(Exception):
    """This gateway does not keep the row that was asked about, or has it otherwise."""


async def find_row(link: Link, target: StoreTarget, row: Row, agent_id: str) -> SessionRow:
    """The row as the gateway has it. Raises Elsewhere, LinkFailed, Refused."""
    return _found(await _list(link, agent_id, {"search": row.session_id, "limit": _MOST_OF_ONE_ID}), target, row)


async def ask_liveness(link: Link, asked: list[tuple[StoreTarget, Row]], agent_id: str, now: int) -> list[Liveness]:
    """For each row whether a run of it is active; `now` (epoch ms) is when this was asked.

    One question for many rows: while a gateway prepares a turn, each costs it two seconds. The companion plugin, where
    it is there and knows, goes before all else. Raises LinkFailed, Refused.
    """
    told = await _by_plugin(link, asked, agent_id, now)
    if told is not None:
        return told
    many = {"limit": _MOST_AT_ONCE} if len(asked) > 1 else None
    listed = await _list(link, agent_id, many or {"search": asked[0][1].session_id, "limit": _MOST_OF_ONE_ID})
    answers = [_liveness(listed, target, row, now) for target, row in asked]
    if any(answer.active is False for answer in answers):
        preflight = await link.call("gateway.restart.preflight", {}, BACKGROUND_SECONDS)
        if _nothing_counted(preflight.get("counts")):
            return [_idle(answer) if answer.active is False else answer for answer in answers]
    return answers


async def _by_plugin(
    link: Link, asked: list[tuple[StoreTarget, Row]], agent_id: str, now: int
) -> list[Liveness] | None:
    """None where there is no plugin, or where it does not know of one of them."""
    targets = {target for target, _ in asked}
    if not has_plugin(link) or len(targets) != 1:
        return None
    try:
        said = await ask_plugin(link, [row for _, row in asked], agent_id, targets.pop(), BACKGROUND_SECONDS)
    except Refused:
        return None
    if None in said:
        return None
    words = {True: "the plugin says that a run is active", False: "the plugin says that no run is active"}
    return [Liveness(each, False, now, words[each], by_plugin=True) for each in said if each is not None]


@dataclass(frozen=True, slots=True)
class _Listed:
    path: object
    rows: dict[tuple[str, str | None], SessionRow]


async def _list(link: Link, agent_id: str, which: dict[str, Any]) -> _Listed:
    asked = {"agentId": agent_id, "includeGlobal": True, "includeUnknown": True, **which}
    listed = await link.call("sessions.list", asked, BACKGROUND_SECONDS)
    sessions = listed.get("sessions")
    rows = [r for r in map(session_row, sessions if isinstance(sessions, list) else []) if r is not None]
    return _Listed(listed.get("path"), {(r.key.lower(), r.session_id): r for r in reversed(rows)})


def _found(listed: _Listed, target: StoreTarget, row: Row) -> SessionRow:
    found = listed.rows.get((row.key.lower(), row.session_id))
    if found is None:
        raise Elsewhere("the gateway does not list this session")
    if not is_store(listed.path, target):
        raise Elsewhere("the gateway that answers keeps its sessions elsewhere")
    return found


def _liveness(listed: _Listed, target: StoreTarget, row: Row, now: int) -> Liveness:
    try:
        found = _found(listed, target, row)
    except Elsewhere as error:
        return Liveness(why=str(error))
    if found.active is True:
        return Liveness(True, False, now, "hasActiveRun is true", runs=found.runs)
    if found.active is None:
        return Liveness(why="the gateway does not say whether a run of it is active")
    if found.started_at != row.started_at:
        return Liveness(why="the gateway knows of another turn in this session")
    return Liveness(False, False, now, "hasActiveRun is false", runs=found.runs)


def _idle(answer: Liveness) -> Liveness:
    return replace(answer, idle=True, why=f"{answer.why}, and nothing at all runs there")


async def tell(link: Link, target: StoreTarget, key: str, repaired: dict[str, Any]) -> Told:
    """The patch that changes nothing: the gateway reads the row anew, and tells all who watch. It would make a row that
    is gone, so the caller has just looked. Raises LinkFailed, Refused.
    """
    answer = await link.call("sessions.patch", {"key": key}, TELL_SECONDS)
    entry = session_row(answer.get("entry"))
    if not is_store(answer.get("path"), target) or entry is None:
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
