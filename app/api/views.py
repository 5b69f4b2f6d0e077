"""Findings, problems and attempts as values for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from app.domain.describe import describe_evidence, rfc3339
from app.domain.model import Code, Policy
from app.domain.verdict import judge
from app.reconcile.report import Change, Finding, Report
from app.reconcile.resting import BY_TIME_ONLY

if TYPE_CHECKING:  # a scan on the command line needs no database library
    from app.audit.models import Attempt
    from app.audit.openings import Opening
    from app.audit.webhooks import Message
    from app.reconcile.bulk import Came, Choice

STUCK_EXTRAS = (Code.ENDING, Code.ORPHANED, Code.SILENT, Code.NEVER_STARTED, Code.UNPROVABLE)
"""What `?include=` may add to the stuck sessions."""


def name_finding(finding: Finding) -> dict[str, Any]:
    """Which session it is."""
    return {
        "session_key": finding.key,
        "session_id": finding.session_id,
        "agent_id": finding.agent_id,
        "state_dir": finding.target.state_dir,
    }


def describe_finding(finding: Finding, policy: Policy, now: int, *, evidence: bool = True) -> dict[str, Any]:
    """One session."""
    row, verdict, age = finding.evidence.row, finding.verdict, finding.age(now)
    item: dict[str, Any] = {
        **name_finding(finding),
        "verdict": verdict.code,
        "reason": _reason_at(finding, policy, now),
        "status": row.status,
        "target_status": verdict.settlement.status if verdict.settlement else None,
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(verdict.settlement.ended_at if verdict.settlement else row.ended_at),
        "stuck_for_seconds": round(age, 3) if age is not None else None,
        "due_at": rfc3339(verdict.due_at) if not (finding.held_by or finding.unwritable) else None,
        "held_by": finding.held_by,
        "put_off_until": rfc3339(finding.put_off_until),
        "unwritable": finding.unwritable,
        "flapping": _flapping(finding),
        "fingerprint": finding.fingerprint,
    }
    if evidence:
        item["evidence"] = describe_evidence(finding.evidence, policy)
    return item


def _reason_at(finding: Finding, policy: Policy, now: int) -> str:
    """Of a session that rests (app.reconcile.resting) the sentence tells an age that has grown since it was judged."""
    again = judge(finding.evidence, policy, now) if finding.verdict.code in BY_TIME_ONLY else finding.verdict
    return again.reason if again.code is finding.verdict.code else finding.verdict.reason


def _flapping(finding: Finding) -> dict[str, Any] | None:
    flap, issue = finding.flapping, finding.known_issue
    if flap is None:
        return None
    return {
        "times": flap.times,
        "since": rfc3339(flap.since),
        "until": rfc3339(flap.until),
        "issue": {"number": issue.number, "url": issue.url, "says": issue.says} if issue else None,
    }


def describe_change(change: Change, policy: Policy, now: int) -> dict[str, Any]:
    """A session that is found to be something else than before, without its evidence."""
    finding = change.finding
    if not change.gone:
        return {**describe_finding(finding, policy, now, evidence=False), "was": change.was}
    return {**name_finding(finding), "verdict": None, "was": change.was}


def describe_bulk(
    choice: Choice,
    came: list[Came],
    stopped: Exception | None,
    told: Callable[[Exception], dict[str, Any]],
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """A bulk repair: what came of each session, and what was left; `told` makes a problem (RFC 9457) of an error."""

    def described(each: Came) -> dict[str, Any]:
        record = {**describe_attempt(each.attempt, dry_run=dry_run), "evidence": None} if each.attempt else None
        return {**name_finding(each.finding), "repair": record, "problem": told(each.error) if each.error else None}

    def word(each: Came) -> str:
        if each.error is not None:
            return str(told(each.error)["type"]).rpartition("/")[2]
        return (each.attempt.outcome if each.attempt else None) or "planned"

    return {
        "dry_run": dry_run,
        "items": [described(each) for each in came],
        "summary": Counter(map(word, came)),
        "not_tried": [name_finding(f) for f in choice.taken[len(came) :]],
        "stopped": told(stopped) if stopped else None,
        "left_out": [{**name_finding(f), "why": why} for f, why in choice.left_out],
        "more": choice.more,
    }


def describe_attempt(attempt: Attempt, *, dry_run: bool = False) -> dict[str, Any]:
    """One row of the audit; a dry run is none, and has no id."""
    return {
        "id": None if dry_run else attempt.id,
        "dry_run": dry_run,
        "kind": attempt.kind,
        "session_key": attempt.session_key,
        "session_id": attempt.session_id,
        "agent_id": attempt.agent_id,
        "state_dir": attempt.state_dir,
        "store_path": attempt.store_path,
        "outcome": attempt.outcome,
        "outcome_reason": attempt.outcome_reason,
        "trigger": attempt.trigger,
        "actor": attempt.actor,
        "reason": attempt.reason,
        "forced": attempt.forced,
        "verdict": attempt.verdict,
        "verdict_reason": attempt.verdict_reason,
        "before": attempt.before,
        "after": attempt.after,
        "hand": attempt.hand,
        "mode": attempt.mode,
        "crossings": attempt.crossings,
        "opened_at": rfc3339(attempt.opened_at),
        "decided_at": rfc3339(attempt.decided_at),
        "finished_at": rfc3339(attempt.finished_at),
        "looks": attempt.looks,
        "told": attempt.told,
        "undo_of": attempt.undo_of,
        "retry_of": attempt.retry_of,
        "evidence": attempt.evidence,
    }


def describe_opening(opening: Opening | None) -> dict[str, Any]:
    """The breaker as it stands, or as it was closed last; None: it was never open."""
    return {
        "open": opening is not None and opening.is_open,
        "opened_at": rfc3339(opening.opened_at) if opening else None,
        "reason": opening.reason if opening else None,
        "waiting": opening.waiting if opening else 0,
        "closed_at": rfc3339(opening.closed_at) if opening else None,
        "closed_by": opening.closed_by if opening else None,
        "close_reason": opening.close_reason if opening else None,
    }


def describe_message(message: Message) -> dict[str, Any]:
    """One message to a webhook. Of its receiver only the host: the rest of a URL may be a secret."""
    return {
        "id": message.id,
        "type": message.type,
        "host": message.host,
        "made_at": rfc3339(message.made_at),
        "tries": message.tries,
        "why": message.why,
        "payload": orjson.loads(message.body),
    }


def describe_scan(report: Report) -> dict[str, Any]:
    started, finished = report.started_at, report.finished_at
    return {
        "number": report.number,
        "started_at": rfc3339(started),
        "finished_at": rfc3339(finished),
        "duration_seconds": (finished - started) / 1000 if started is not None and finished is not None else None,
        "stores": len(report.stores),
        "problems": len(report.problems()),
    }


def describe_problems(report: Report) -> list[dict[str, Any]]:
    """Every store and state dir that cannot be judged, and why."""
    found = [
        {"state_dir": path, "store": None, "code": p.code, "detail": p.detail} for path, p in report.state_problems
    ]
    for store in report.stores:
        if store.problem is not None:
            where = {"state_dir": store.target.state_dir, "store": store.target.path}
            found.append({**where, "code": store.problem.code, "detail": store.problem.detail})
    return found
