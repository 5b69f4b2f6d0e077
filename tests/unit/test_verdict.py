"""Every verdict, from frozen values: what is asked in which order, and each window at its edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.model import (
    Claim,
    Code,
    End,
    Event,
    Evidence,
    FileIdentity,
    Gateway,
    Policy,
    Row,
    Settlement,
    Trail,
    TranscriptLock,
    Verdict,
)
from app.domain.verdict import judge

NOW = 1_795_400_000_000
STARTED = NOW - 2 * 3_600_000
POLICY = Policy()
WATCHED = 100_000.0
"""Long enough for every window."""

KEY, SESSION = "agent:main:main", "the-session"
EARLIER = "an-earlier-session"
"""A sessionId that the row had before a rotation (`usageFamilySessionIds`)."""

ALIVE = Gateway("running", NOW - 100 * 86_400_000)
ABSENT = Gateway("absent")
UNKNOWN = Gateway("unknown")


def row(**over: Any) -> Row:
    return replace(Row(KEY, SESSION, "running", STARTED, updated_at=STARTED), **over)


def file(ago: float, inode: int = 1) -> FileIdentity:
    return FileIdentity(1, inode, 1_000, (NOW - round(ago * 1000)) * 1_000_000)


def open_trail(ago: float, session_id: str = SESSION, **over: Any) -> Trail:
    """A trajectory whose last event is no end, `ago` seconds old."""
    event = Event("prompt.submitted", NOW - round(ago * 1000), "run", session_id, KEY)
    return Trail(f"{session_id}.trajectory.jsonl", session_id, file(ago), (event,))._replace(**over)


def ended_trail(end: End, **over: Any) -> Trail:
    event = Event("session.ended", end.ts, end.run_id, end.session_id, end.session_key)
    ago = (NOW - end.ts) / 1000
    session_id = end.session_id or SESSION
    return Trail(f"{session_id}.trajectory.jsonl", session_id, file(ago), (event,), end)._replace(**over)


def an_end(ago: float, status: str | None = "success", **over: Any) -> End:
    end = End(NOW - round(ago * 1000), status, run_id="run", session_id=SESSION, session_key=KEY)
    return end._replace(**over)


def evidence(*trails: Trail, **over: Any) -> Evidence:
    return replace(Evidence(row(), trails, gateway=ALIVE, watched=WATCHED), **over)


def verdict(*trails: Trail, policy: Policy = POLICY, now: int = NOW, **over: Any) -> Verdict:
    return judge(evidence(*trails, **over), policy, now)


def test_the_first_answer_stands_in_the_order_of_the_questions() -> None:
    """Everything is wrong with this row at once; one thing after the other is taken away."""
    beyond = NOW + 3_600_000
    held = TranscriptLock(4711, True)
    found = Evidence(
        row(problem="names a field twice", recovery=("abortedLastRun",), started_at=None, updated_at=beyond),
        trails=(open_trail(10, problem="no event"),),
        trail_problem="a link",
        lock=held,
        claims=(Claim("task_runs", outlives=False),),
        claims_problem="damaged",
        children=("agent:main:subagent:x",),
    )

    def takes(code: Code, reason: str, **away: Any) -> None:
        nonlocal found
        judged = judge(found, POLICY, NOW)
        assert (judged.code, judged.settlement, judged.due_at, judged.ripe) == (code, None, None, False)
        assert reason in judged.reason
        fields = {k: v for k, v in away.items() if k in Row.__slots__}
        rest = {k: v for k, v in away.items() if k not in fields}
        found = replace(found, row=replace(found.row, **fields), **rest)

    takes(Code.UNPROVABLE, "names a field twice", problem=None, status="done")
    takes(Code.SETTLED, "done", status="running")
    takes(Code.RECOVERING, "abortedLastRun", recovery=())
    takes(Code.WAITING, "1 session ", children=())
    takes(Code.UNPROVABLE, "without startedAt", started_at=STARTED)
    takes(Code.UNPROVABLE, "future", updated_at=STARTED)
    takes(Code.WORKING, "4711", lock=None)
    takes(Code.WORKING, "task_runs", claims=())
    takes(Code.UNPROVABLE, "damaged", claims_problem=None)
    takes(Code.UNPROVABLE, "a link", trail_problem=None)
    takes(Code.UNPROVABLE, "no event", trails=(open_trail(10, torn=True),))
    takes(Code.WORKING, "being written", trails=(open_trail(10),))
    takes(Code.WORKING, "prompt.submitted")


@pytest.mark.parametrize("status", [None, "done", "failed", "killed", "timeout", "a word of a later version"])
def test_a_status_other_than_running_is_settled(status: str | None) -> None:
    assert verdict(ended_trail(an_end(3_600)), row=row(status=status)).code is Code.SETTLED


RESTARTED_AFTER = "restarted 5.001 s after the end"
RESTARTED_AT_ONCE = "restarted 5 s after the end"


@pytest.mark.parametrize(
    ("end", "gateway", "window"),
    [
        (an_end(0), UNKNOWN, 30),
        (an_end(0), ALIVE, 30),
        (an_end(0, compaction=True), ALIVE, 30),
        (an_end(0, "error"), UNKNOWN, 120),
        (an_end(0, "error"), ALIVE, 120),
        (an_end(0, "error"), Gateway("running", None), 120),
        (an_end(0, "interrupted"), ALIVE, 120),
        (an_end(0, "cleanup"), ALIVE, 120),
        (an_end(0, "error", timed_out=True), ALIVE, 120),
        (an_end(0, "error", compaction=True), UNKNOWN, 1200),
        (an_end(0, "cleanup", compaction=True), ALIVE, 1200),
        (an_end(0, "error"), ABSENT, 30),
        (an_end(0, "interrupted"), ABSENT, 30),
        (an_end(0, "error", compaction=True), ABSENT, 30),
        (an_end(0, "error"), RESTARTED_AFTER, 30),
        (an_end(0, "error", compaction=True), RESTARTED_AFTER, 30),
        (an_end(0, "error"), RESTARTED_AT_ONCE, 120),
        (an_end(0, "error", compaction=True), RESTARTED_AT_ONCE, 1200),
    ],
)
def test_each_window_ends_exactly_at_its_last_millisecond(end: End, gateway: Gateway | str, window: int) -> None:
    end = end._replace(ts=NOW - window * 1000)
    if isinstance(gateway, str):
        gateway = Gateway("running", end.ts + (5_001 if gateway is RESTARTED_AFTER else 5_000))
    due_at = end.ts + window * 1000

    before = verdict(ended_trail(end), gateway=gateway, now=due_at - 1)
    after = verdict(ended_trail(end), gateway=gateway, now=due_at)

    assert (before.code, before.ripe, before.due_at) == (Code.ENDING, False, due_at)
    assert f"within {window} s" in before.reason
    assert (after.code, after.ripe, after.due_at) == (Code.STUCK, True, due_at)
    assert before.settlement == after.settlement is not None


def test_an_unsuccessful_end_is_never_hurried_before_a_successful_one() -> None:
    slow = Policy(stale_after=300)

    assert verdict(ended_trail(an_end(299, "error")), policy=slow).code is Code.ENDING
    assert verdict(ended_trail(an_end(300, "error")), policy=slow).code is Code.STUCK
    assert verdict(ended_trail(an_end(299, "error")), policy=slow, gateway=ABSENT).code is Code.ENDING


@pytest.mark.parametrize(
    ("age", "watched", "witnessed", "code", "ripe", "due_in"),
    [
        (3_600, 0, False, Code.STUCK, False, 30),
        (3_600, 29.999, False, Code.STUCK, False, 0.001),
        (3_600, 30, False, Code.STUCK, True, 0),
        (3_600, 90, False, Code.STUCK, True, -60),
        (60, 3_600, False, Code.STUCK, True, -30),
        (30, 30, False, Code.STUCK, True, 0),
        (29.999, 3_600, False, Code.ENDING, False, 0.001),
        (20, 5, False, Code.ENDING, False, 25),
        (5, 20, False, Code.ENDING, False, 25),
        (-4, 20, False, Code.ENDING, False, 34),
        # Seen to change: by our clock it is no older than that, whatever the wall clock says meanwhile.
        (3_600, 0, True, Code.ENDING, False, 30),
        (3_600, 29.999, True, Code.ENDING, False, 0.001),
        (3_600, 30, True, Code.STUCK, True, 0),
        (20, 40, True, Code.ENDING, False, 10),
    ],
)
def test_the_scheduler_may_act_only_when_both_clocks_have_passed_the_window(
    age: float, watched: float, witnessed: bool, code: Code, ripe: bool, due_in: float
) -> None:
    judged = verdict(ended_trail(an_end(age)), watched=watched, witnessed=witnessed)

    assert (judged.code, judged.ripe) == (code, ripe)
    assert judged.due_at == NOW + round(due_in * 1000)


def test_a_stuck_row_carries_the_four_fields_of_its_end() -> None:
    judged = verdict(ended_trail(an_end(1_800, "error", aborted=True)))

    assert judged.code is Code.STUCK
    assert judged.settlement == Settlement("killed", NOW - 1_800_000, 5_400_000, True)
    assert "ended with error 30 min ago" in judged.reason


@pytest.mark.parametrize("age", [10, 3_600])
def test_a_subagents_row_is_settled_by_a_person_only_unless_a_setting_says_otherwise(age: float) -> None:
    key = "agent:main:subagent:7"
    trail = ended_trail(an_end(age, session_key=key))
    by_person = verdict(trail, row=row(key=key))
    by_setting = verdict(trail, row=row(key=key), policy=Policy(settle_subagents=True))

    assert by_person.code is by_setting.code is (Code.STUCK if age > 30 else Code.ENDING)
    assert (by_person.ripe, by_person.due_at) == (False, None)
    assert (by_setting.ripe, by_setting.due_at) == (age > 30, NOW + round((30 - age) * 1000))
    assert by_person.settlement == by_setting.settlement


def test_a_turn_that_began_after_the_last_end_is_working() -> None:
    """startedAt moves when a turn is accepted; its first event may come minutes later."""
    trail = ended_trail(an_end(600))
    at = NOW - 600_000

    assert verdict(trail, row=row(started_at=at)).code is Code.STUCK
    assert verdict(trail, row=row(started_at=at + 1)).code is Code.WORKING


@pytest.mark.parametrize("by", ["startedAt", "updatedAt", "the last event"])
def test_a_time_in_the_future_proves_nothing(by: str) -> None:
    def judged(at: int) -> Verdict:
        match by:
            case "startedAt":
                return verdict(row=row(started_at=at))
            case "updatedAt":
                return verdict(ended_trail(an_end(60)), row=row(updated_at=at))
        return verdict(ended_trail(an_end(0, ts=at)))

    assert judged(NOW + 5_000).code in (Code.WORKING, Code.STUCK, Code.ENDING), "clocks differ a little"
    assert judged(NOW + 5_001).code is Code.UNPROVABLE
    assert "future" in judged(NOW + 5_001).reason


@pytest.mark.parametrize(
    ("lock", "code"),
    [
        (TranscriptLock(4711, True), Code.WORKING),
        (TranscriptLock(4711, None), Code.WORKING),
        (TranscriptLock(None, None), Code.WORKING),
        (TranscriptLock(4711, False), Code.STUCK),
        (TranscriptLock(None, False), Code.STUCK),
        (None, Code.STUCK),
    ],
)
def test_only_a_lock_that_is_known_to_be_dead_does_not_count(lock: TranscriptLock | None, code: Code) -> None:
    assert verdict(ended_trail(an_end(3_600)), lock=lock).code is code


@pytest.mark.parametrize(("ago", "code"), [(0, Code.WORKING), (59.999, Code.WORKING), (60, Code.UNPROVABLE)])
def test_a_torn_last_line_is_waited_for_with_patience_and_then_proves_nothing(ago: float, code: Code) -> None:
    assert verdict(ended_trail(an_end(3_600), torn=True, identity=file(ago))).code is code


@pytest.mark.parametrize(
    ("trail", "code"),
    [
        (ended_trail(an_end(3_600, yielded=True)), Code.WAITING),
        (ended_trail(an_end(3_600), full=True), Code.UNPROVABLE),
        (open_trail(10, full=True), Code.UNPROVABLE),
        (ended_trail(an_end(3_600, None)), Code.UNPROVABLE),
        (ended_trail(an_end(3_600, "completed")), Code.UNPROVABLE),
    ],
)
def test_a_yield_a_full_trajectory_or_an_unknown_outcome_is_no_proof(trail: Trail, code: Code) -> None:
    judged = verdict(trail)

    assert (judged.code, judged.settlement, judged.ripe) == (code, None, False)


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ({"session_id": "another"}, Code.UNPROVABLE),
        ({"session_id": None}, Code.UNPROVABLE),
        ({"session_key": "agent:main:cron:job:run:1"}, Code.UNPROVABLE),
        ({"session_key": "Agent:Main:MAIN"}, Code.STUCK),
        ({"session_key": None}, Code.STUCK),
    ],
)
def test_an_end_counts_for_the_row_that_it_names(named: dict[str, str | None], code: Code) -> None:
    assert verdict(ended_trail(an_end(3_600, **named))).code is code


@pytest.mark.parametrize("named", [{"session_id": "another"}, {"session_key": "agent:main:cron:job:run:1"}])
def test_a_turn_that_began_after_the_last_end_is_working_whosever_end_it_is(named: dict[str, str]) -> None:
    """docs/reference/verdicts.md asks for an end of this turn (9) before it asks whose the end is (10)."""
    trail = ended_trail(an_end(600, **named))

    assert verdict(trail, row=row(started_at=NOW - 60_000)).code is Code.WORKING


ROTATED = row(family=(EARLIER,))
OLD_END = ended_trail(an_end(3_600, session_id=EARLIER))


def test_after_a_rotation_the_end_in_the_earlier_trajectory_counts_by_its_key() -> None:
    assert verdict(OLD_END, row=ROTATED).code is Code.STUCK
    assert verdict(OLD_END).code is Code.UNPROVABLE, "not of this family"
    nameless = ended_trail(an_end(3_600, session_id=EARLIER, session_key=None))
    assert verdict(nameless, row=ROTATED).code is Code.UNPROVABLE


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("current", "code"),
    [
        (open_trail(600), Code.WORKING),
        (open_trail(3_600), Code.WORKING),
        (open_trail(7_000), Code.WORKING),
        (open_trail(7_200), Code.WORKING),
        (open_trail(7_200.001), Code.STUCK),
        (ended_trail(an_end(3_000)), Code.STUCK),
        (open_trail(600, full=True), Code.UNPROVABLE),
        (open_trail(600, problem="no event"), Code.UNPROVABLE),
        (open_trail(7_300, torn=True), Code.UNPROVABLE),
        (Trail("empty", SESSION, file(7_000)), Code.STUCK),
    ],
)
def test_every_trajectory_of_the_family_must_have_ended(current: Trail, code: Code, turned: bool) -> None:
    """Whichever is the later one: what was written since startedAt and has no end keeps the turn open."""
    trails = (OLD_END, current) if turned else (current, OLD_END)

    judged = verdict(*trails, row=ROTATED, transcript=file(10))

    assert judged.code is code
    if code is Code.STUCK:
        latest = max(t.last.ts for t in trails if t.last)
        assert judged.settlement is not None
        assert judged.settlement.ended_at == latest


@pytest.mark.parametrize(
    ("gateway", "code"),
    [
        (ABSENT, Code.ORPHANED),
        (Gateway("running", NOW - 600_000 + 5_001), Code.ORPHANED),
        (Gateway("running", NOW - 600_000 + 5_000), Code.WORKING),
        (Gateway("running", None), Code.WORKING),
        (ALIVE, Code.WORKING),
        (UNKNOWN, Code.WORKING),
    ],
)
def test_without_an_end_a_row_is_orphaned_when_its_gateway_is_gone_or_restarted(gateway: Gateway, code: Code) -> None:
    judged = verdict(open_trail(600), gateway=gateway)

    assert (judged.code, judged.settlement, judged.due_at, judged.ripe) == (code, None, None, False)


def test_a_transcript_written_after_the_restart_belongs_to_the_new_gateway() -> None:
    assert verdict(open_trail(600), gateway=Gateway("running", NOW - 300_000), transcript=file(10)).code is Code.WORKING


@pytest.mark.parametrize("sign", ["trajectory", "transcript", "startedAt"])
@pytest.mark.parametrize(("ago", "code"), [(3_599.999, Code.WORKING), (3_600, Code.SILENT), (40 * 86_400, Code.SILENT)])
def test_an_hour_without_any_sign_is_silent(sign: str, ago: float, code: Code) -> None:
    long_ago = 60 * 86_400
    trail = open_trail(ago if sign == "trajectory" else long_ago)
    transcript = file(ago if sign == "transcript" else long_ago)
    started_at = NOW - round((ago if sign == "startedAt" else long_ago) * 1000)

    assert verdict(trail, transcript=transcript, row=row(started_at=started_at, updated_at=None)).code is code


def test_a_transcript_from_the_future_is_no_sign_of_life() -> None:
    assert verdict(open_trail(7_000), transcript=file(-3_600)).code is Code.SILENT


@pytest.mark.parametrize("trails", [(), (Trail("empty", SESSION, file(5)),)])
@pytest.mark.parametrize(
    ("started", "transcript", "code"),
    [
        (599.999, None, Code.WORKING),
        (600, None, Code.NEVER_STARTED),
        (40 * 86_400, None, Code.NEVER_STARTED),
        (10, 10, Code.WORKING),
        (7_200, 599.999, Code.WORKING),
        (7_200, 600, Code.UNPROVABLE),
        (7_200, 7_200, Code.UNPROVABLE),
    ],
)
def test_without_a_trajectory_a_row_never_started_or_cannot_be_proven(
    trails: tuple[Trail, ...], started: float, transcript: float | None, code: Code
) -> None:
    at = NOW - round(started * 1000)
    judged = verdict(
        *trails,
        row=row(started_at=at, updated_at=at),
        transcript=None if transcript is None else file(transcript),
    )

    assert (judged.code, judged.settlement, judged.due_at) == (code, None, None)


# --- the SQLite era ---


def test_a_turn_that_yielded_waits_whatever_its_trajectory_says() -> None:
    judged = verdict(ended_trail(an_end(3_600)), row=row(yielded=True))
    assert (judged.code, judged.reason) == (
        Code.WAITING,
        "its turn has ended and yielded: it waits for sessions that it has started",
    )


def test_an_end_for_a_restart_is_the_gateways_own() -> None:
    judged = verdict(ended_trail(an_end(3_600, "interrupted", for_restart=True)))
    assert (judged.code, judged.reason) == (
        Code.RECOVERING,
        "its turn was stopped for a restart of the gateway, which takes it up again",
    )


def test_a_run_that_is_named_and_has_no_event_is_no_proof_and_the_reason_says_so() -> None:
    judged = verdict(row=row(run_id="r"), transcript=file(3_600))
    assert (judged.code, judged.reason) == (
        Code.UNPROVABLE,
        "no event of its run is there: it is not over, they were lost with a gateway, or trimmed",
    )
