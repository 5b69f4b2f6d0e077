"""What the companion plugin inside a gateway is asked, and the change that it makes (app/companion/README.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from app.domain.model import Row
from app.openclaw.gateway_frames import ADMIN
from app.openclaw.gateway_link import Link, Refused, open_link
from app.openclaw.parse import word
from app.openclaw.paths import StoreTarget, is_store

LIVE, SETTLE, UNDO = "clawmend.live", "clawmend.settle", "clawmend.undo"
CHANGE_SECONDS = 5.0
_FAILED = "CLAWMEND_FAILED"
"""The plugin's own word for a failure in the middle of its work."""


class NotReached(Exception):
    """The plugin did not get the order: nothing was changed, and another hand may do it."""


class Unanswered(Exception):
    """The plugin may have got the order, and nobody knows what came of it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the plugin is to do with one row, if it still is what `expected` says."""

    method: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Changed:
    """The plugin's answer to an order."""

    applied: bool
    reason: str = ""
    """Why not, in the plugin's words."""
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    """Fields that are absent in the row are absent here too."""
    told: bool = False
    """Everybody who watches was told."""


def has_plugin(link: Link) -> bool:
    return {LIVE, SETTLE, UNDO} <= link.methods


def order_to_settle(row: Row, agent_id: str, status: str, ended_at: int, run_id: str | None) -> Order | None:
    """`run_id` is the run whose end the sending tab waits for. None for a row that the plugin cannot be sure of."""
    expected = _expected(row, agent_id)
    if expected is None:
        return None
    run = {} if run_id is None else {"runId": run_id}
    return Order(SETTLE, {**expected, "status": status, "endedAt": ended_at, **run})


def order_to_undo(row: Row, agent_id: str, fields: list[dict[str, Any]]) -> Order | None:
    """`fields`: name, and the values before and after the repair; one that was absent has no such member."""
    expected = _expected(row, agent_id)
    return None if expected is None else Order(UNDO, {**expected, "fields": fields})


def _expected(row: Row, agent_id: str) -> dict[str, Any] | None:
    if row.session_id is None or row.started_at is None:
        return None
    return {
        "key": row.key,
        "agentId": agent_id,
        "expectedSessionId": row.session_id,
        "expectedStartedAt": row.started_at,
    }


async def ask_plugin(
    link: Link, rows: list[Row], agent_id: str, target: StoreTarget, seconds: float
) -> list[bool | None]:
    """For each row of the store `target` whether a run of it is active; None where the plugin does not know, or where
    this gateway keeps another store. Raises LinkFailed, Refused.
    """
    params = {"agentId": agent_id, "sessions": [{"key": r.key, "sessionId": r.session_id} for r in rows]}
    answer = await _with_enough_scope(link, params, seconds)
    said = answer.get("active")
    if not is_store(answer.get("store"), target) or not isinstance(said, list) or len(said) != len(rows):
        return [None] * len(rows)
    return [each if isinstance(each, bool) else None for each in said]


async def _with_enough_scope(link: Link, params: dict[str, Any], seconds: float) -> dict[str, Any]:
    """2026.5.18 asks for `operator.admin` as soon as a turn has run (spec/companion-plugin.md, "Scope")."""
    if LIVE not in link.too_small_for:
        try:
            return await link.call(LIVE, params, seconds)
        except Refused as error:
            if not error.missing_scope:
                raise
            link.too_small_for.add(LIVE)
    admin = await open_link(link.access, ADMIN)
    try:
        return await admin.call(LIVE, params, seconds)
    finally:
        await admin.close()


async def carry_out(admin: Link, order: Order) -> Changed:
    """Give the plugin an order, on a connection with `operator.admin`. Raises NotReached, Unanswered, LinkFailed."""
    if order.method not in admin.methods:
        raise NotReached("the gateway has no plugin of ours any more")
    try:
        answer = await admin.call(order.method, order.params, CHANGE_SECONDS)
    except Refused as error:
        if error.code == _FAILED:
            raise Unanswered(f"the plugin failed at it ({error})") from None
        raise NotReached(str(error)) from None
    applied, before, after, told = (answer.get(name) for name in ("applied", "before", "after", "told"))
    if applied is False:
        detail = word(answer.get("detail"))
        return Changed(False, " ".join(w for w in (word(answer.get("reason")), detail and f"({detail})") if w))
    if applied is not True or not isinstance(before, dict) or not isinstance(after, dict):
        raise Unanswered("the plugin's answer is not one that we know")
    return Changed(True, "", before, after, isinstance(told, dict) and told.get("sessions") is True)
