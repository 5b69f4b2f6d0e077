"""Rows, evidence and verdicts as plain values for JSON: times in RFC 3339 UTC with milliseconds (design, section 6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from app.domain.model import End, Evidence, FileIdentity, Policy, Row, Trail

LATEST = 253_402_300_799_999
"""The last millisecond of the year 9999: what RFC 3339 can say."""


def rfc3339(ms: int | None) -> str | None:
    """`2026-11-22T06:05:58.006Z`; None for None and for what has no such form."""
    if ms is None or not 0 <= ms <= LATEST:
        return None
    return f"{datetime.fromtimestamp(ms // 1000, UTC).isoformat()[:19]}.{ms % 1000:03d}Z"


def describe_fields(row: Row) -> dict[str, Any]:
    """The four fields as the row has them (epoch ms, as OpenClaw stores them)."""
    return {
        "status": row.status,
        "endedAt": row.ended_at,
        "runtimeMs": row.runtime_ms,
        "abortedLastRun": row.aborted_last_run,
    }


def describe_evidence(evidence: Evidence, policy: Policy) -> dict[str, Any]:
    """All that a verdict rested on."""
    row = evidence.row
    return {
        "row": {
            "status": row.status,
            "started_at": rfc3339(row.started_at),
            "ended_at": rfc3339(row.ended_at),
            "updated_at": rfc3339(row.updated_at),
            "recovery": [*row.recovery, *row.guards],
            "family": list(row.family),
        },
        "trajectories": [_trail(t) for t in evidence.trails],
        "trajectory_problem": evidence.trail_problem,
        "transcript": _file(evidence.transcript),
        "lock": {"pid": evidence.lock.pid, "live": evidence.lock.live} if evidence.lock else None,
        "children": list(evidence.children),
        "gateway": {
            "state": evidence.gateway.state,
            "since": rfc3339(evidence.gateway.since),
            "reason": evidence.gateway.reason,
        },
        "liveness": {
            "active_run": evidence.liveness.active,
            "active_run_ids": list(evidence.liveness.runs) if evidence.liveness.runs is not None else None,
            "gateway_idle": evidence.liveness.idle,
            "asked_at": rfc3339(evidence.liveness.asked_at),
            "reason": evidence.liveness.why,
            "by_plugin": evidence.liveness.by_plugin,
        },
        "claims": [claim.table for claim in evidence.claims],
        "claims_problem": evidence.claims_problem,
        "watched_seconds": round(evidence.watched, 3),
        "calm_seconds": None if evidence.calm is None else round(min(evidence.calm, evidence.watched), 3),
        "windows": {
            "success": policy.stale_after,
            "error": policy.error_quiet,
            "compaction": policy.compaction_quiet,
        },
    }


def _trail(trail: Trail) -> dict[str, Any]:
    return {
        "path": trail.path,
        "session_id": trail.session_id,
        "file": _file(trail.identity),
        "last_events": [{"type": e.type, "ts": rfc3339(e.ts), "run_id": e.run_id} for e in trail.events],
        "end": _end(trail.end),
        "registered": trail.registered,
        "torn": trail.torn,
        "full": trail.full,
        "problem": trail.problem,
    }


def _end(end: End | None) -> dict[str, Any] | None:
    if end is None:
        return None
    return {
        "ts": rfc3339(end.ts),
        "status": end.status,
        "aborted": end.aborted,
        "external_abort": end.external_abort,
        "timed_out": end.timed_out,
        "compaction": end.compaction,
        "run_id": end.run_id,
        "error": end.error,
    }


def _file(identity: FileIdentity | None) -> dict[str, Any] | None:
    if identity is None:
        return None
    return {"inode": identity.ino, "size": identity.size, "modified_at": rfc3339(identity.mtime)}
