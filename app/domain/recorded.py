"""The way back from evidence that was written down (app.domain.describe) to evidence that can be judged again.

What was not written down is taken to be as the verdict of then needs it: the end belongs to this session, no newer
attempt had begun, nothing else was open. Who judges again has to compare (app.domain.simulation does).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from app.domain.model import (
    Claim,
    End,
    Event,
    Evidence,
    FileIdentity,
    Gateway,
    Liveness,
    Policy,
    Row,
    Trail,
    TranscriptLock,
)


def epoch_ms(text: str | None) -> int | None:
    """The moment that `rfc3339` has written; None for None. Raises ValueError."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def evidence_of(described: Mapping[str, Any], key: str, session_id: str | None) -> Evidence:
    """The evidence on the session `key`. Raises KeyError, TypeError and ValueError where it is not of our making."""
    row, liveness, gateway = described["row"], described["liveness"], described["gateway"]
    runs, watched, calm = liveness["active_run_ids"], described["watched_seconds"], described["calm_seconds"]
    return Evidence(
        row=Row(
            key=key,
            session_id=session_id,
            status=row["status"],
            started_at=epoch_ms(row["started_at"]),
            ended_at=epoch_ms(row["ended_at"]),
            updated_at=epoch_ms(row["updated_at"]),
            recovery=tuple(row["recovery"]),
            family=tuple(row["family"]),
        ),
        trails=tuple(_trail(t, key) for t in described["trajectories"]),
        trail_problem=described["trajectory_problem"],
        transcript=_file(described["transcript"]),
        lock=TranscriptLock(**described["lock"]) if described["lock"] else None,
        children=tuple(described["children"]),
        gateway=Gateway(gateway["state"], epoch_ms(gateway["since"]), gateway["reason"]),
        liveness=Liveness(
            active=liveness["active_run"],
            idle=liveness["gateway_idle"],
            asked_at=epoch_ms(liveness["asked_at"]),
            why=liveness["reason"],
            by_plugin=liveness["by_plugin"],
            runs=tuple(runs) if runs is not None else None,
        ),
        claims=tuple(Claim(table, outlives=False) for table in described["claims"]),
        claims_problem=described["claims_problem"],
        watched=watched,
        calm=math.inf if calm == watched else calm,
    )


def policy_of(described: Mapping[str, Any], now: Policy) -> Policy:
    """The windows of then; what was not written down is as it is `now`."""
    windows = described["windows"]
    return replace(
        now,
        stale_after=windows["success"],
        error_quiet=windows["error"],
        compaction_quiet=windows["compaction"],
    )


def _trail(described: Mapping[str, Any], key: str) -> Trail:
    identity = _file(described["file"])
    if identity is None:
        raise ValueError("a trajectory without its file")
    session_id = described["session_id"]
    return Trail(
        path=described["path"],
        session_id=session_id,
        identity=identity,
        events=tuple(Event(e["type"], epoch_ms(e["ts"]) or 0, e["run_id"]) for e in described["last_events"]),
        end=_end(described["end"], key, session_id),
        torn=described["torn"],
        full=described["full"],
        problem=described["problem"],
        registered=described["registered"],
    )


def _end(described: Mapping[str, Any] | None, key: str, session_id: str) -> End | None:
    if described is None:
        return None
    return End(
        ts=epoch_ms(described["ts"]) or 0,
        status=described["status"],
        aborted=described["aborted"],
        external_abort=described["external_abort"],
        timed_out=described["timed_out"],
        compaction=described["compaction"],
        run_id=described["run_id"],
        session_id=session_id,
        session_key=key,
        error=described["error"],
    )


def _file(described: Mapping[str, Any] | None) -> FileIdentity | None:
    if described is None:
        return None
    return FileIdentity(0, described["inode"], described["size"], (epoch_ms(described["modified_at"]) or 0) * 1_000_000)
