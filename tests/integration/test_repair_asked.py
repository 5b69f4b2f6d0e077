"""A repair or an undo that is asked for by name: what is agreed to, what is refused and why, what is written down."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.audit.models import Attempt
from app.domain.describe import describe_evidence
from app.domain.model import Gateway, Verdict
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import Ask, CannotUndo, Changed, NotStuck, StoreUnfit
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Finding
from tests.world import (
    ABSENT,
    STUCK_KEY,
    STUCK_SESSION_ID,
    World,
    attempts,
    finding_of,
    run_for,
    run_pass,
    tree_unchanged,
)

PERSON = Ask("cli", "a person", "it is over")
BY_CLOCK = Ask("scheduler", "clawmend", "its window has passed")
FORCED = replace(PERSON, force=True, target_status="done")


class Case:
    """A stuck session that a pass has seen, and who may settle it."""

    def __init__(self, world: World, **over: Any) -> None:
        self.world = world
        self.reconciler: Reconciler = world.reconciler(auto_repair=False, **over)
        self.repairer = self.reconciler.repairer
        self.seen: Finding = finding_of(run_pass(self.reconciler))

    def settle(self, ask: Ask = PERSON) -> Attempt:
        return self.repairer.settle(self.seen, ask)

    def undo(self, repair: Attempt, ask: Ask = PERSON) -> Attempt:
        self.world.clock.advance(5)
        return self.repairer.undo(repair, ask)

    def recorded(self) -> list[Attempt]:
        return attempts(self.reconciler)


@pytest.fixture
def case(world: World) -> Case:
    world.stuck()
    return Case(world)


@contextmanager
def refused(case: Case, error: type[Exception], why: str) -> Iterator[None]:
    """Refused with these very words; no file is touched and no intent is written."""
    before = case.recorded()
    with tree_unchanged(case.world.state), pytest.raises(error) as raised:
        yield
    assert str(raised.value) == why
    assert case.recorded() == before


def only_as_seen(case: Case) -> Ask:
    return replace(PERSON, only_if=frozenset({case.seen.fingerprint}))


def test_who_asks_only_while_it_is_as_seen_is_told_what_it_is_now(case: Case) -> None:
    ask = only_as_seen(case)
    case.world.append(case.world.event("prompt.submitted", case.world.clock.now()))
    with pytest.raises(Changed) as raised:
        case.settle(ask)
    found = raised.value.finding
    assert found is not None
    words = f"it is working: {found.verdict.reason}"
    assert str(raised.value) == f"its fingerprint is another by now: {words}"
    assert case.world.row()["status"] == "running"


def test_who_asks_only_while_it_is_as_seen_is_told_when_its_row_is_gone(case: Case) -> None:
    ask = only_as_seen(case)
    case.world.write_store(b"{}")
    with refused(case, Changed, "its fingerprint is another by now: its row is gone"):
        case.settle(ask)


@pytest.mark.parametrize("any_is_good", [False, True])
def test_who_asks_only_while_it_is_as_seen_is_obeyed_when_it_is(case: Case, any_is_good: bool) -> None:
    ask = replace(PERSON, only_if=frozenset({"*"})) if any_is_good else only_as_seen(case)
    assert case.settle(ask).outcome == "applied"


# --- what is written down ---


def test_the_record_of_a_repair_says_who_why_what_and_on_which_bytes(case: Case) -> None:
    world, seen, base = case.world, case.seen, case.world.store().read_bytes()
    now = world.clock.now()

    made = case.settle(replace(PERSON, retry_of="an earlier one"))

    row, new = seen.evidence.row, world.store().read_bytes()
    assert seen.verdict.settlement is not None
    expected = Attempt(
        id=made.id,
        kind="settle",
        opened_at=now,
        state_dir=str(world.state),
        store_path=str(world.store()),
        agent_id="main",
        session_key=STUCK_KEY,
        session_id=STUCK_SESSION_ID,
        started_at=row.started_at,
        trigger="cli",
        actor="a person",
        reason="it is over",
        verdict="stuck",
        verdict_reason=seen.verdict.reason,
        before={"status": "running", "endedAt": None, "runtimeMs": None, "abortedLastRun": False},
        after=seen.verdict.settlement.as_fields(),
        evidence=describe_evidence(seen.evidence, world.settings().policy),
        edit=made.edit,
        forced=False,
        base_sha256=hashlib.sha256(base).hexdigest(),
        new_sha256=hashlib.sha256(new).hexdigest(),
        mode="exchange",
        outcome="applied",
        outcome_reason=None,
        crossings=0,
        looks=[],
        undo_of=None,
        retry_of="an earlier one",
        decided_at=now,
        finished_at=None,
    )
    assert made == expected
    assert [f["name"] for f in made.edit] == ["status", "endedAt", "runtimeMs"]
    assert case.recorded() == [made]


def test_the_record_of_an_undo_turns_the_record_of_the_repair_round(case: Case) -> None:
    repair = case.settle()

    undone = case.undo(repair, Ask("api", "another person", "it was not over"))

    now = case.world.clock.now()
    assert undone == replace(
        repair,
        id=undone.id,
        kind="undo",
        opened_at=now,
        decided_at=now,
        trigger="api",
        actor="another person",
        reason="it was not over",
        evidence={},
        before=repair.after,
        after=repair.before,
        undo_of=repair.id,
        base_sha256=repair.new_sha256,
        new_sha256=repair.base_sha256,
        edit=[
            {"name": f["name"], "before": f["after"], "after": f["before"], "inserted": None}
            for f in reversed(repair.edit)
        ],
    )
    assert undone.id > repair.id


def test_what_a_dry_run_gives_is_what_a_repair_would_write_down_first(case: Case) -> None:
    with tree_unchanged(case.world.state):
        planned = case.settle(replace(PERSON, dry_run=True))
    assert case.recorded() == []

    made = case.settle()

    assert planned == replace(
        made, id=planned.id, edit=[], base_sha256=None, new_sha256=None, mode=None, outcome=None, decided_at=None
    )


def test_a_dry_run_of_an_undo_writes_nothing_down(case: Case) -> None:
    repair = case.settle()
    with tree_unchanged(case.world.state):
        planned = case.undo(repair, replace(PERSON, dry_run=True))
    assert (planned.kind, planned.before, planned.after, planned.outcome) == ("undo", repair.after, repair.before, None)
    assert case.recorded() == [repair]


def test_the_record_has_the_evidence_of_the_bytes_that_were_replaced_not_of_those_seen_first(case: Case) -> None:
    """The gateway moves `updatedAt` of the row between the pass and the repair."""
    at = case.world.clock.now() - 60_000
    case.world.edit_row(updatedAt=at)

    made = case.settle()

    assert (
        made.evidence["row"]["updated_at"]
        != describe_evidence(case.seen.evidence, case.world.settings().policy)["row"]["updated_at"]
    )
    assert case.world.row()["updatedAt"] == at


# --- what is refused ---


def test_a_row_that_is_gone_is_not_settled(case: Case) -> None:
    case.world.write_store(b"{}")
    with refused(case, NotStuck, "its row is gone"):
        case.settle()


@pytest.mark.parametrize("moved", [{"startedAt": 1_795_000_000_000}, {"sessionId": "another"}], ids=str)
@pytest.mark.parametrize("ask", [PERSON, FORCED, BY_CLOCK], ids=["person", "force", "scheduler"])
def test_another_turn_than_the_one_that_was_seen_is_not_settled(case: Case, moved: dict[str, Any], ask: Ask) -> None:
    case.world.edit_row(**moved)
    with refused(case, NotStuck, "another turn has begun in this session"):
        case.settle(ask)


def test_what_was_found_goes_with_the_refusal(case: Case) -> None:
    case.world.edit_row(status="done")
    with pytest.raises(NotStuck) as raised:
        case.settle()
    assert raised.value.finding is not None
    assert raised.value.finding.verdict == Verdict(raised.value.finding.verdict.code, "its status is done")
    assert str(raised.value) == "it is settled: its status is done"


@pytest.mark.parametrize(
    ("change", "ask", "why"),
    [
        ({"startedAt": 1_795_000_000_000}, PERSON, "another turn has begun in this session"),
        ({"updatedAt": 1}, BY_CLOCK, "its window has not passed yet"),
        ({"updatedAt": 1}, replace(FORCED, target_status=None), "force must name the status to settle it to"),
    ],
    ids=["another turn", "too early", "no status"],
)
def test_a_refusal_shows_the_row_as_it_is_now(case: Case, change: dict[str, Any], ask: Ask, why: str) -> None:
    case.world.edit_row(**change)
    with pytest.raises(NotStuck, match=why) as raised:
        case.settle(ask)
    assert raised.value.finding is not None
    assert raised.value.finding.evidence.row.session_id == STUCK_SESSION_ID
    assert raised.value.finding.evidence.row != case.seen.evidence.row


def test_the_scheduler_waits_for_the_window_and_a_person_or_a_repetition_does_not(case: Case) -> None:
    with refused(case, NotStuck, "its window has not passed yet"):
        case.settle(BY_CLOCK)
    assert case.settle(replace(BY_CLOCK, retry_of="an overwritten one", dry_run=True)).after["status"] == "failed"
    assert case.settle(replace(PERSON, dry_run=True)).after["status"] == "failed"
    case.seen = finding_of(run_for(case.reconciler, case.world.clock, 120, step=30))
    assert case.settle(BY_CLOCK).outcome == "applied"


@pytest.mark.parametrize("heard", ["by an event", "by startedAt", "never", "in an empty trajectory"])
def test_force_may_settle_what_is_not_proven_at_the_time_at_which_it_was_last_heard_of(
    world: World, heard: str
) -> None:
    ended_at = world.stuck()
    world.gateway = ABSENT
    at = ended_at + 60_000
    if heard == "by an event":
        world.append(world.event("prompt.submitted", at))
    else:
        world.edit_row(startedAt=at)
    if heard == "never":
        world.trajectory().unlink()
    elif heard == "in an empty trajectory":
        world.trajectory().write_bytes(b"")
    case = Case(world)
    assert case.seen.verdict.code == "orphaned"

    made = case.settle(replace(FORCED, target_status="killed"))

    row = world.row()
    assert (made.outcome, made.forced, made.verdict) == ("applied", True, "orphaned")
    assert (row["status"], row["endedAt"], row["abortedLastRun"]) == ("killed", at, True)
    assert row["runtimeMs"] == at - row["startedAt"]


def test_force_on_what_is_proven_takes_the_named_status_and_the_time_of_the_end(case: Case) -> None:
    assert case.seen.verdict.settlement is not None

    made = case.settle(replace(FORCED, target_status="timeout"))

    assert (made.forced, made.after) == (
        True,
        {**case.seen.verdict.settlement.as_fields(), "status": "timeout"},
    )


def test_force_without_a_status_is_refused(case: Case) -> None:
    for ask in (replace(FORCED, target_status=None), Ask("cli", "a person", "it is over", force=True)):
        with refused(case, NotStuck, "force must name the status to settle it to"):
            case.settle(ask)


def test_force_does_not_settle_what_nobody_may(case: Case) -> None:
    case.world.edit_row(abortedLastRun=True)
    with refused(case, NotStuck, "it is recovering: OpenClaw is on it: abortedLastRun"):
        case.settle(FORCED)


def test_without_force_only_a_stuck_session_is_settled(world: World) -> None:
    world.stuck(ended_ago=10)
    case = Case(world)
    with refused(case, NotStuck, f"it is ending: {case.seen.verdict.reason}"):
        case.settle()
    assert case.settle(FORCED).outcome == "applied"


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"{", "the store: it does not parse: "), (b"[]", "the store: ")],
    ids=["torn", "a list"],
)
def test_a_store_that_cannot_be_read_is_unfit_for_settle_and_undo(case: Case, data: bytes, why: str) -> None:
    repair = case.settle()
    case.world.clock.advance(5)
    case.world.write_store(data)
    for ask in (case.settle, lambda: case.repairer.undo(repair, PERSON)):
        with tree_unchanged(case.world.state), pytest.raises(StoreUnfit) as raised:
            ask()
        assert str(raised.value).startswith(why[:11])
    assert case.recorded() == [repair]


def test_a_store_above_the_limit_is_unfit_for_settle_and_undo(world: World) -> None:
    world.stuck()
    case = Case(world)
    repair = case.settle()
    world.clock.advance(5)
    size = world.store().stat().st_size
    small = world.reconciler(auto_repair=False, store_max_bytes=size - 1)
    said = f"the store: it has {size} bytes; the limit is {size - 1}"
    for ask in (lambda: small.repairer.settle(case.seen, PERSON), lambda: small.repairer.undo(repair, PERSON)):
        with refused(case, StoreUnfit, said):
            ask()


def test_a_folder_that_is_gone_or_a_link_is_unfit(case: Case) -> None:
    folder = case.world.sessions()
    folder.rename(folder.with_name("elsewhere"))
    with refused(case, StoreUnfit, "the store's folder: it is not there"):
        case.settle()
    folder.symlink_to("elsewhere")
    with refused(case, StoreUnfit, "the store's folder: it is a symbolic link, which is not followed"):
        case.settle()


# --- what happens between the intent and the write ---


@contextmanager
def after_the_intent(happens: Callable[[], object]) -> Iterator[None]:
    """Once, when the intent stands in the audit and the store has not been read for the write yet."""
    done: list[str] = []

    def insert(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO repair_attempts") and not done:
            done.append(statement)
            happens()

    event.listen(Engine, "after_cursor_execute", insert)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", insert)
    assert len(done) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"startedAt": 1_795_000_000_000}, "another turn has begun in this session"),
        ({"sessionId": "another"}, "another turn has begun in this session"),
        ({"status": "done"}, "it is settled: its status is done"),
        (None, "its row is gone"),
    ],
    ids=str,
)
def test_a_row_that_moves_on_after_the_intent_is_left_as_it_is(
    case: Case, change: dict[str, Any] | None, why: str
) -> None:
    world = case.world
    with after_the_intent(lambda: world.write_store(b"{}") if change is None else world.edit_row(**change)):
        made = case.settle()
    assert (made.outcome, made.outcome_reason, made.finished_at) == ("superseded", why, world.clock.now())
    assert world.rows() == {} if change is None else {**world.row(), **change} == world.row()
    assert "endedAt" not in world.rows().get(STUCK_KEY, {})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"startedAt": 1_795_000_000_000}, "another turn has begun in this session since the repair"),
        ({"status": "done"}, "the row has been changed since the repair"),
        (None, "its row is gone"),
    ],
    ids=str,
)
def test_a_row_that_moves_on_after_the_intent_of_an_undo_is_left_as_it_is(
    case: Case, change: dict[str, Any] | None, why: str
) -> None:
    repair, world = case.settle(), case.world
    with after_the_intent(lambda: world.write_store(b"{}") if change is None else world.edit_row(**change)):
        undone = case.undo(repair)
    assert (undone.outcome, undone.outcome_reason) == ("superseded", why)
    assert world.rows() == {} if change is None else world.row()["endedAt"] == repair.after["endedAt"]


def test_what_is_undone_is_what_stood_there_when_it_was_written(case: Case) -> None:
    """The gateway changed one of the four fields between the pass and the write, in the same turn."""
    world = case.world
    with after_the_intent(lambda: world.edit_row(runtimeMs=7)):
        made = case.settle(FORCED)
    assert (made.outcome, made.outcome_reason) == ("applied", None)
    assert made.before["runtimeMs"] == 7
    assert world.row()["runtimeMs"] == made.after["runtimeMs"] != 7
    case.undo(made)
    assert world.row()["runtimeMs"] == 7


def test_what_is_written_is_what_the_end_says_when_it_is_written(case: Case) -> None:
    world = case.world
    assert case.seen.verdict.settlement is not None
    later = case.seen.verdict.settlement.ended_at + 60_000
    with after_the_intent(lambda: world.append(world.event("session.ended", later, {"status": "success"}))):
        made = case.settle(FORCED)
    assert (made.outcome, made.after["status"], made.after["endedAt"]) == ("applied", "done", later)
    assert (world.row()["status"], world.row()["endedAt"]) == ("done", later)
    assert made.evidence["trajectories"][0]["end"]["status"] == "success"


# --- undo ---


def test_only_a_repair_that_was_applied_can_be_undone(case: Case) -> None:
    repair = case.settle()
    undone = case.undo(repair)
    for attempt in (undone, replace(repair, outcome="unknown"), replace(repair, outcome=None)):
        with refused(case, CannotUndo, f"attempt {attempt.id} did not settle a row, so there is nothing to take back"):
            case.undo(attempt)


def test_a_repair_after_which_the_row_was_changed_again_by_us_cannot_be_undone(case: Case) -> None:
    repair = case.settle()
    undone = case.undo(repair)
    with refused(case, CannotUndo, f"this row has been changed again since, by attempt {undone.id}"):
        case.undo(repair)


def test_a_repair_that_the_audit_does_not_know_as_applied_cannot_be_undone(case: Case) -> None:
    repair = case.settle()
    case.reconciler.audit.change(repair.id, outcome="overwritten")
    with refused(case, CannotUndo, "this row has been changed again since, or found overwritten"):
        case.undo(repair)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"startedAt": 1_795_000_000_000}, "another turn has begun in this session since the repair"),
        ({"sessionId": "another"}, "another turn has begun in this session since the repair"),
        ({"status": "done"}, "the row has been changed since the repair"),
        ({"endedAt": None}, "the row has been changed since the repair"),
        ({"runtimeMs": 7}, "the row has been changed since the repair"),
    ],
    ids=str,
)
def test_a_row_that_has_moved_on_is_not_given_back(case: Case, change: dict[str, Any], why: str) -> None:
    repair = case.settle()
    case.world.edit_row(**change)
    with refused(case, CannotUndo, why):
        case.undo(repair)


def test_a_row_that_is_gone_is_not_given_back(case: Case) -> None:
    repair = case.settle()
    case.world.write_store(b"{}")
    with refused(case, CannotUndo, "its row is gone"):
        case.undo(repair)


def test_the_row_that_is_given_back_is_found_among_others(case: Case) -> None:
    world = case.world
    world.write_store(json.dumps({"agent:main:first": {"sessionId": "f"}, **world.rows()}).encode())
    before = world.store().read_bytes()
    repair = case.settle()
    assert case.undo(repair).outcome == "applied"
    assert world.store().read_bytes() == before


# --- who else is at the store ---


@pytest.mark.parametrize(("trigger", "patience"), [("scheduler", 1.5), ("cli", 3.0), ("api", 3.0)])
def test_a_person_waits_for_another_Clawmend_longer_than_the_scheduler(
    world: World, trigger: str, patience: float
) -> None:
    world.stuck()
    case = Case(world, store_patience_seconds=3)
    repair = case.settle()
    world.clock.advance(5)
    fd = os.open(world.sessions(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for ask in (case.repairer.settle, case.repairer.undo):
            began = world.clock.mono
            with refused(case, StoreBusy, "another Clawmend is writing to this store"):
                ask(case.seen if ask == case.repairer.settle else repair, Ask(trigger, "x", "y"))  # type: ignore[arg-type]
            assert patience <= world.clock.mono - began < patience + 0.1
    finally:
        os.close(fd)


def test_a_gateway_that_has_come_back_since_the_pass_is_seen_before_anything_is_written(world: World) -> None:
    """An unsuccessful end is over after 30 s where nobody is there to try again; where its gateway is, after 120 s."""
    world.stuck()
    world.gateway = ABSENT
    case = Case(world)
    case.seen = finding_of(run_for(case.reconciler, world.clock, 60, step=20))
    assert case.seen.verdict.ripe
    world.gateway = Gateway("running", 1, "process 7")

    with tree_unchanged(world.state):
        made = case.settle(BY_CLOCK)

    assert (made.outcome, made.outcome_reason) == ("superseded", "its window has not passed yet")


def test_who_asks_gets_the_word_of_the_processes_of_this_moment(world: World) -> None:
    world.stuck()
    world.gateway = ABSENT
    case = Case(world)
    world.gateway = Gateway("running", 1, "process 7")

    made = case.settle(replace(PERSON, dry_run=True))

    assert made.evidence["gateway"]["state"] == "running"
