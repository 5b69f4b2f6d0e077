"""The one decision: what is this session? Pure: evidence, policy and the time go in, a verdict comes out."""

from __future__ import annotations

from dataclasses import replace

from app.domain.model import RUNNING, Code, End, Evidence, Gateway, Policy, Trail, Verdict
from app.domain.settlement import settle, target_status


def judge(evidence: Evidence, policy: Policy, now: int) -> Verdict:
    """Judge one session at `now` (epoch ms). Asks in the order of docs/reference/verdicts.md; the first one stands."""
    row = evidence.row
    if row.problem:
        return Verdict(Code.UNPROVABLE, row.problem)
    if row.status != RUNNING:
        return Verdict(Code.SETTLED, f"its status is {row.status[:40]}" if row.status else "it has no status yet")
    if row.recovery:
        return Verdict(Code.RECOVERING, f"OpenClaw is on it: {', '.join(row.recovery)}")
    if row.yielded:
        return Verdict(Code.WAITING, "its turn has ended and yielded: it waits for sessions that it has started")
    if evidence.children:
        return Verdict(Code.WAITING, f"{_count(len(evidence.children), 'session')} that work for it still run")
    if row.started_at is None:
        return Verdict(Code.UNPROVABLE, "the row runs without startedAt, so no end can be matched to it")
    if _in_future(max(row.started_at, row.updated_at or 0), policy, now):
        return Verdict(Code.UNPROVABLE, "the row carries a time in the future: a clock is wrong")
    if evidence.lock is not None and evidence.lock.live is not False:
        who = "a process" if evidence.lock.pid is None else f"process {evidence.lock.pid}"
        return Verdict(Code.WORKING, f"{who} holds the lock of its transcript")
    if evidence.liveness.active:
        return Verdict(Code.WORKING, "the gateway says that a run of it is active")
    if evidence.standing_claims:
        (claim, *_) = evidence.standing_claims
        return Verdict(Code.WORKING, f"somebody still works on it, by {claim.table} in the gateway's state database")
    if evidence.claims_problem:
        return Verdict(Code.UNPROVABLE, f"who else works on it cannot be told: {evidence.claims_problem}")
    if evidence.trail_problem:
        return Verdict(Code.UNPROVABLE, evidence.trail_problem)
    return _judge_trails(evidence, policy, now)


def _judge_trails(evidence: Evidence, policy: Policy, now: int) -> Verdict:
    for trail in evidence.trails:
        if trail.problem:
            return Verdict(Code.UNPROVABLE, trail.problem)
        if trail.torn:
            if now - trail.identity.mtime < policy.torn_patience * 1000:
                return Verdict(Code.WORKING, "its trajectory is being written at this moment")
            return Verdict(Code.UNPROVABLE, "its trajectory stops in the middle of a line")
        if any(_in_future(event.ts, policy, now) for event in trail.events):
            return Verdict(Code.UNPROVABLE, "the trajectory carries a time in the future: a clock is wrong")

    spoken = [t for t in evidence.trails if t.last]
    if not spoken:
        return _without_trail(evidence, policy, now)
    latest = max(spoken, key=_last_ts)
    if latest.end is None:
        return _no_end(evidence, latest, policy, now, f"the last event is {latest.last.type}" if latest.last else "")
    return _judge_end(evidence, latest, latest.end, policy, now)


def _judge_end(evidence: Evidence, latest: Trail, end: End, policy: Policy, now: int) -> Verdict:
    row = evidence.row
    started_at = row.started_at or 0
    for other in evidence.trails:
        if other is not latest and other.last and other.end is None and other.last.ts >= started_at:
            return _no_end(evidence, other, policy, now, "another trajectory of this conversation is still open")
    if end.ts < started_at:
        return _no_end(evidence, latest, policy, now, "a turn began after the last end")
    if end.session_id not in (row.session_id, *row.family):
        return Verdict(Code.UNPROVABLE, "the last end in its trajectory belongs to another sessionId")
    if end.session_id != row.session_id and end.session_key is None:
        return Verdict(Code.UNPROVABLE, "the end stands in an earlier trajectory and names no session key")
    if end.session_key is not None and end.session_key.lower() != row.key.lower():
        return Verdict(Code.UNPROVABLE, "the last end in its trajectory belongs to another row with this sessionId")
    if evidence.began_after(latest, end):
        return _no_end(evidence, latest, policy, now, "a newer attempt has begun since the last end")
    for _, last_ts in latest.open_runs or ():
        if not evidence.gateway.gone_since(last_ts) and now - last_ts < policy.silent_after * 1000:
            return _no_end(evidence, latest, policy, now, "another run in its trajectory is still open")
    if latest.full:
        return Verdict(Code.UNPROVABLE, "the trajectory is full: events after its last end may have been dropped")
    if end.yielded:
        return Verdict(Code.WAITING, "the turn yielded: it waits for sessions that it has started")
    if end.for_restart:
        return Verdict(Code.RECOVERING, "its turn was stopped for a restart of the gateway, which takes it up again")
    status = target_status(end)
    if status is None:
        return Verdict(Code.UNPROVABLE, f"the end says {end.status or 'nothing'}, which is no outcome that we know")

    if row.guards:
        return Verdict(Code.RECOVERING, f"its turn ended with {end.status}, and OpenClaw keeps {', '.join(row.guards)}")
    window, watched = _window(evidence, latest, end, policy)
    age = (now - end.ts) / 1000
    if evidence.witnessed:
        age = min(age, evidence.watched)  # we saw it change: a clock that jumped ahead does not make it older
    due_at = max(end.ts + round(window * 1000), now + round((window - watched) * 1000))
    by_person_only = row.is_subagent and not policy.settle_subagents
    verdict = Verdict(
        Code.STUCK,
        f"its turn ended with {end.status} {_age(age)} ago and nothing followed, but the row still says running"
        + ("; a subagent's row is settled by a person only" if by_person_only else ""),
        settlement=settle(row, status, end.ts),
        due_at=None if by_person_only else due_at,
        ripe=not by_person_only and age >= window and watched >= window,
    )
    if age < window:
        return replace(
            verdict,
            code=Code.ENDING,
            reason=f"its turn ended with {end.status} {_age(age)} ago; it may still be settled within {window:g} s",
        )
    return verdict


def _window(evidence: Evidence, trail: Trail, end: End, policy: Policy) -> tuple[float, float]:
    """Seconds that must pass after an end before the gateway can be said to have missed it, and those seen to pass.

    A retry may wait behind other sessions' turns (docs/decisions/0008): they must have come to rest first, unless the
    gateway itself rules a retry out.
    """
    ruled_out = evidence.liveness.rules_out(end, registered=trail.registered)
    if end.status == "success" or ruled_out or evidence.gateway.gone_since(end.ts):
        return policy.stale_after, evidence.watched
    if end.compaction or evidence.calm is None:
        return max(policy.stale_after, policy.error_quiet, policy.compaction_quiet), evidence.watched
    return max(policy.stale_after, policy.error_quiet), min(evidence.watched, evidence.calm)


def _no_end(evidence: Evidence, trail: Trail, policy: Policy, now: int, why: str) -> Verdict:
    """Running, and no end of this turn on disk."""
    if trail.full:
        return Verdict(Code.UNPROVABLE, "the trajectory is full: its end may never have been written")
    signs = [evidence.row.started_at or 0, *(t.last.ts for t in evidence.trails if t.last)]
    if evidence.transcript and not _in_future(evidence.transcript.mtime, policy, now):
        signs.append(evidence.transcript.mtime)
    last_sign = max(signs)
    quiet = (now - last_sign) / 1000
    if evidence.gateway.gone_since(last_sign):
        return Verdict(Code.ORPHANED, f"{why}, and the gateway that ran it {_gone(evidence.gateway)}")
    if quiet >= policy.silent_after:
        return Verdict(Code.SILENT, f"{why}, and nothing has moved for {_age(quiet)}")
    return Verdict(Code.WORKING, f"{why}, {_age(max(0.0, quiet))} ago")


def _without_trail(evidence: Evidence, policy: Policy, now: int) -> Verdict:
    """Running, and no trajectory tells of it (2026.7.x writes the first one only when the first turn ends)."""
    transcript = evidence.transcript
    started_at = evidence.row.started_at or 0
    last_sign = max(started_at, transcript.mtime if transcript else 0)
    quiet = max(0.0, (now - last_sign) / 1000)
    if transcript is None and quiet >= policy.never_started_after:
        return Verdict(Code.NEVER_STARTED, f"set running {_age(quiet)} ago, and no transcript was ever written")
    if evidence.gateway.gone_since(last_sign):
        gone = _gone(evidence.gateway)
        return Verdict(Code.ORPHANED, f"no trajectory tells of its turn, and the gateway that ran it {gone}")
    if transcript is None:
        return Verdict(Code.WORKING, f"set running {_age(quiet)} ago, nothing is written yet")
    if quiet < policy.never_started_after:
        return Verdict(Code.WORKING, f"no trajectory yet; its transcript was written {_age(quiet)} ago")
    if evidence.row.run_id is not None:
        return Verdict(
            Code.UNPROVABLE, "no event of its run is there: it is not over, they were lost with a gateway, or trimmed"
        )
    return Verdict(
        Code.UNPROVABLE, "it has no trajectory (a CLI or ACP backend, or recording is off): nothing to prove by"
    )


def _gone(gateway: Gateway) -> str:
    return "is gone" if gateway.state == "absent" else "has been restarted since"


def _last_ts(trail: Trail) -> int:
    return trail.last.ts if trail.last else 0


def _in_future(ts: int, policy: Policy, now: int) -> bool:
    return ts > now + policy.future_slack * 1000


def _age(seconds: float) -> str:
    """12 s, 4 min, 3 h, 2 d: never more exact than a reader needs."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
