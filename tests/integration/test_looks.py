"""The looks after a repair: what they find, what they write down, and what they give back."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import Any

import pytest

from app.audit.log import AuditUnavailable
from app.audit.models import Attempt
from app.domain.describe import rfc3339
from app.reconcile.asking import Ask
from app.reconcile.reconciler import Reconciler
from tests.integration.test_publish import before_each_exchange, fail
from tests.world import STUCK_KEY, World, attempts, finding_of, run_for, run_pass

OTHER = "agent:main:other"
Rows = dict[str, Any]


def settled(world: World) -> tuple[Reconciler, Attempt, bytes]:
    """A world whose stuck session was settled at this moment; the bytes are the store before."""
    world.stuck()
    before = world.store().read_bytes()
    reconciler = world.reconciler()
    return reconciler, settle_by_scheduler(world, reconciler), before


def settle_by_scheduler(world: World, reconciler: Reconciler) -> Attempt:
    run_for(reconciler, world.clock, 120, step=30)
    (attempt,) = attempts(reconciler)
    assert attempt.decided_at == world.clock.now()
    return attempt


def look_after(world: World, reconciler: Reconciler, *seconds: float) -> Attempt:
    """Passes so many seconds after the first repair was decided; gives that repair as it is then."""
    first = attempts(reconciler)[0]
    for moment in seconds:
        world.clock.advance(((first.decided_at or 0) - world.clock.now()) / 1000 + moment)
        run_pass(reconciler)
    return attempts(reconciler)[0]


def writes(world: World, change: Callable[[Rows], None], on: bytes | None = None) -> None:
    """A gateway write built on what is live, or on a version that was read earlier."""
    rows = json.loads(on or world.store().read_bytes())
    change(rows)
    world.write_store(json.dumps(rows, indent=2, ensure_ascii=False).encode())


def litter(world: World) -> list[str]:
    return sorted(p.name for p in world.sessions().glob(".clawmend*"))


def crossed(world: World, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> tuple[Reconciler, Attempt]:
    """Settled after so many gateway writes to another row had crossed ours."""
    world.stuck()
    writes(world, lambda rows: rows.update({OTHER: {"sessionId": "o", "updatedAt": 1, "label": "a"}}))
    reconciler = world.reconciler()
    numbers = iter(range(times))

    def slip_in() -> None:
        number = next(numbers)
        writes(world, lambda rows: rows[OTHER].update({f"field{number}": 1, "updatedAt": 2 + number}))

    with monkeypatch.context() as patch:
        before_each_exchange(patch, *[slip_in, None] * times)
        attempt = settle_by_scheduler(world, reconciler)
    return reconciler, attempt


def test_three_looks_are_taken_after_1_5_and_60_seconds_and_then_no_more(world: World) -> None:
    reconciler, attempt, _ = settled(world)
    decided_at = attempt.decided_at or 0

    assert look_after(world, reconciler, 0.5, 0.999).looks == []
    after = look_after(world, reconciler, 1, 2, 4.999, 5, 59.999)
    assert after.finished_at is None
    after = look_after(world, reconciler, 60, 61, 3_600)

    assert after.looks == [{"at": rfc3339(decided_at + s * 1000), "found": "as_written"} for s in (1, 5, 60)]
    assert (after.outcome, after.finished_at) == ("applied", decided_at + 60_000)
    assert len(attempts(reconciler)) == 1


def test_the_next_pass_is_wanted_when_the_next_look_is_due(world: World) -> None:
    reconciler, attempt, _ = settled(world)
    assert reconciler.wake_at == (attempt.decided_at or 0) + 1_000
    look_after(world, reconciler, 1)
    assert reconciler.wake_at == (attempt.decided_at or 0) + 5_000


def test_a_repair_that_a_stale_gateway_write_put_back_is_overwritten_and_repeated_at_once(world: World) -> None:
    reconciler, _, before = settled(world)
    writes(world, lambda rows: rows[STUCK_KEY].update(totalTokens=1), on=before)

    first = look_after(world, reconciler, 1)

    assert (first.outcome, [look["found"] for look in first.looks]) == ("overwritten", ["as_before"])
    _, again = attempts(reconciler)
    assert (again.outcome, again.retry_of, again.trigger) == ("applied", first.id, "scheduler")
    assert (world.row()["status"], world.row()["totalTokens"]) == ("failed", 1)


def test_a_repair_that_is_overwritten_again_and_again_is_put_off_loudly(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler, _, before = settled(world)
    for _ in range(6):
        world.write_store(before)
        world.clock.advance(1)
        run_pass(reconciler)
    assert [a.outcome for a in attempts(reconciler)] == ["overwritten"] * 3
    assert finding_of(reconciler.report).put_off_until is not None
    assert "keeps overwriting" in caplog.text


def test_a_pass_settles_nothing_where_the_repair_before_the_overwritten_one_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, first, before = settled(world)
    get = reconciler.audit.get

    def all_but_the_first(attempt_id: str) -> Attempt | None:
        if attempt_id == first.id and len(attempts(reconciler)) == 2:
            raise AuditUnavailable("a test says so")
        return get(attempt_id)

    monkeypatch.setattr(reconciler.audit, "get", all_but_the_first)
    for _ in range(2):
        world.write_store(before)
        world.clock.advance(1)
        run_pass(reconciler)
    assert reconciler.audit_problem == "a test says so"
    assert world.store().read_bytes() == before
    assert [a.outcome for a in attempts(reconciler)] == ["overwritten"] * 2


def test_a_repair_of_a_person_that_is_undone_between_the_looks_stays_undone(world: World) -> None:
    reconciler, attempt, before = settled(world)
    look_after(world, reconciler, 1)
    undone = reconciler.repairer.undo(attempt, Ask("api", "a person", "it works on"))
    after = look_after(world, reconciler, 5, 60, 4_000)
    assert world.store().read_bytes() == before
    assert (after.outcome, len(attempts(reconciler))) == ("applied", 2)
    assert finding_of(reconciler.report).held_by == undone.id


def test_an_undo_that_a_stale_gateway_write_put_back_is_said_to_be_overwritten(world: World) -> None:
    reconciler, attempt, _ = settled(world)
    ours = world.store().read_bytes()
    world.clock.advance(0.5)
    undone = reconciler.repairer.undo(attempt, Ask("api", "a person", "it works on"))
    world.write_store(ours)
    look_after(world, reconciler, 1, 5, 60)
    assert [(a.id, a.outcome) for a in attempts(reconciler)] == [(attempt.id, "applied"), (undone.id, "overwritten")]
    assert world.store().read_bytes() == ours


@pytest.mark.parametrize(
    ("happens", "found"),
    [
        (lambda world: world.edit_row(startedAt=world.clock.now(), status="running", endedAt=None), "moved_on"),
        (lambda world: world.edit_row(endedAt=1), "moved_on"),
        (lambda world: writes(world, lambda rows: rows.pop(STUCK_KEY)), "gone"),
        (lambda world: world.store().unlink(), "gone"),
        (lambda world: world.write_store(b"{"), "unreadable"),
    ],
    ids=["another turn", "the gateway's own end", "row deleted", "store deleted", "store torn"],
)
def test_what_happened_to_a_row_meanwhile_is_written_down_and_left_alone(
    world: World, happens: Callable[[World], None], found: str
) -> None:
    reconciler, _, _ = settled(world)
    happens(world)
    there = world.store().read_bytes() if world.store().exists() else None
    after = look_after(world, reconciler, 1, 5, 60)
    assert [look["found"] for look in after.looks] == [found] * 3
    assert (after.outcome, len(attempts(reconciler))) == ("applied", 1)
    assert (world.store().read_bytes() if world.store().exists() else None) == there


@pytest.mark.parametrize("times", [1, 2])
def test_a_crossed_repair_is_applied_in_a_later_try_and_says_how_often_it_crossed(
    world: World, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, attempt = crossed(world, monkeypatch, times)
    assert (attempt.outcome, attempt.crossings, attempt.outcome_reason) == ("applied", times, None)
    assert {f for f in world.row(OTHER) if f.startswith("field")} == {f"field{n}" for n in range(times)}
    look_after(world, reconciler, 1, 5, 60)
    assert litter(world) == []


def test_what_cannot_be_taken_away_now_is_taken_away_by_a_later_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, "unlink", errno.EROFS, lambda name: str(name).startswith(".clawmend"))
        reconciler, _, before = settled(world)
        after = look_after(world, reconciler, 1)
        assert [(world.sessions() / name).read_bytes() for name in litter(world)] == [before]
    assert (after.looks[0]["found"], after.outcome) == ("as_written", "applied")
    look_after(world, reconciler, 5)
    assert litter(world) == []
