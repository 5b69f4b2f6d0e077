"""From news to what a webhook is told; docs/reference/webhook.schema.json is the shape of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.audit.models import Attempt, Outcome
from app.domain.describe import rfc3339
from app.domain.model import Code
from app.notify.news import News
from app.reconcile.report import Finding

GROUPS = {
    "session.stuck": "findings",
    "session.flapping": "flapping",
    "repair.applied": "repairs",
    "repair.undone": "repairs",
    "repair.failed": "failures",
    "store.unreadable": "failures",
    "audit.unavailable": "failures",
    "breaker.opened": "breaker",
    "breaker.closed": "breaker",
}
"""Every type, and the word in CLAWMEND_WEBHOOK_EVENTS that asks for it."""

_RECENT_MS = 3_600_000
"""Of what was done before the start, so far back is told if nobody has been told of it yet."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell."""

    type: str
    about: str
    """Two of one type about the same are the same news."""
    data: dict[str, Any]


def notices(news: News, now: int, *, names: bool) -> Iterator[Notice]:
    """What is to be told at `now` (epoch ms); `names`: with session keys, which may hold phone numbers."""
    for change in news.changes:
        if change.gone:
            continue
        about = _about(*change.finding.name, change.finding.session_id, change.finding.evidence.row.started_at)
        data = {"session": _session(change.finding, names=names)}
        if change.now is Code.STUCK and change.was is not Code.STUCK:
            yield Notice("session.stuck", about, data)
        if change.flaps_now:
            yield Notice("session.flapping", about, data)
    for attempt in news.decided:
        kind = _kind(attempt)
        if kind is not None and not (news.first and now - attempt.opened_at > _RECENT_MS):
            yield Notice(kind, attempt.id, {"repair": _repair(attempt, names=names)})
    for (state_dir, store), problem in news.problems:
        where = {"state_dir": state_dir, "store": store, "code": problem.code, "detail": problem.detail}
        yield Notice("store.unreadable", _about(state_dir, store, problem.code), {"problem": where})
    if news.audit_problem is not None:
        yield Notice("audit.unavailable", f"{now}", {"detail": news.audit_problem})
    if (opening := news.opening) is not None:
        breaker = {
            "opened_at": rfc3339(opening.opened_at),
            "reason": opening.reason,
            "waiting": opening.waiting,
            "closed_at": rfc3339(opening.closed_at),
            "closed_by": opening.closed_by,
            "close_reason": opening.close_reason,
        }
        yield Notice("breaker.opened" if opening.is_open else "breaker.closed", opening.id, {"breaker": breaker})


def _kind(attempt: Attempt) -> str | None:
    if attempt.outcome == Outcome.APPLIED:
        return "repair.undone" if attempt.kind == "undo" else "repair.applied"
    failed = (Outcome.REFUSED, Outcome.OVERWRITTEN, Outcome.UNKNOWN)
    return "repair.failed" if attempt.outcome in failed else None


def _session(finding: Finding, *, names: bool) -> dict[str, Any]:
    row, verdict, flap, issue = finding.evidence.row, finding.verdict, finding.flapping, finding.known_issue
    settlement = verdict.settlement
    return {
        "session_key": finding.key if names else None,
        "session_id": finding.session_id,
        "agent_id": finding.agent_id,
        "state_dir": finding.target.state_dir,
        "verdict": str(verdict.code),
        "reason": verdict.reason,
        "target_status": settlement.status if settlement else None,
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(settlement.ended_at if settlement else row.ended_at),
        "flapping": {
            "times": flap.times,
            "since": rfc3339(flap.since),
            "until": rfc3339(flap.until),
            "issue": {"number": issue.number, "url": issue.url, "says": issue.says} if issue else None,
        }
        if flap
        else None,
    }


def _repair(attempt: Attempt, *, names: bool) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "kind": attempt.kind,
        "session_key": attempt.session_key if names else None,
        "session_id": attempt.session_id,
        "agent_id": attempt.agent_id,
        "state_dir": attempt.state_dir,
        "outcome": attempt.outcome,
        "outcome_reason": attempt.outcome_reason,
        "trigger": attempt.trigger,
        "actor": attempt.actor,
        "reason": attempt.reason,
        "before": attempt.before,
        "after": attempt.after,
        "opened_at": rfc3339(attempt.opened_at),
        "decided_at": rfc3339(attempt.decided_at),
    }


def _about(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
