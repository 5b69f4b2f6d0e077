"""The looks after a repair: what they find, what they write down, and what they give back."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.audit.models import Attempt
from app.domain.describe import rfc3339
from app.openclaw import publish as protocol
from app.reconcile.reconciler import Reconciler
from app.reconcile.repair import Ask
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


def crossed(world: World, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> tuple[Reconciler, Attempt, bytes]:
    """Settled after gateway writes to another row had crossed ours; the bytes are our first version, as it was live."""
    world.stuck()
    writes(world, lambda rows: rows.update({OTHER: {"sessionId": "o", "updatedAt": 1, "label": "a"}}))
    reconciler = world.reconciler()
    seen: list[bytes] = []

    def slip_in() -> None:
        n = len(seen)
        writes(world, lambda rows: rows[OTHER].update({f"field{n}": 1, "at": n, "updatedAt": 2 + n}))

    def see() -> None:
        seen.append(world.store().read_bytes())

    with monkeypatch.context() as patch:
        before_each_exchange(patch, *[slip_in, see] * times)
        attempt = settle_by_scheduler(world, reconciler)
    return reconciler, attempt, seen[0]


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
    reconciler, attempt, _ = crossed(world, monkeypatch, times)
    assert (attempt.outcome, attempt.crossings, attempt.outcome_reason) == ("applied", times, None)
    assert {f for f in world.row(OTHER) if f.startswith("field")} == {f"field{n}" for n in range(times)}
    look_after(world, reconciler, 1, 5, 60)
    assert litter(world) == []


def test_a_write_that_crossed_ours_and_was_lost_afterwards_is_brought_back_by_a_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, attempt, ours = crossed(world, monkeypatch)
    assert litter(world) == [protocol.base_name(attempt.id), protocol.held_name(attempt.id)]
    writes(world, lambda rows: rows.update({"agent:main:new": {"sessionId": "n"}}), on=ours)
    assert "field0" not in world.row(OTHER)

    after = look_after(world, reconciler, 1)

    assert after.looks[0]["brought_back"] == [OTHER]
    assert world.row(OTHER) == {"sessionId": "o", "updatedAt": 2, "label": "a", "field0": 1, "at": 0}
    assert world.row("agent:main:new") == {"sessionId": "n"}
    assert (world.row()["status"], after.outcome) == ("failed", "applied")


def test_a_field_that_may_have_been_taken_back_by_the_gateway_itself_is_not_brought_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `pendingFinalDelivery` that crossed ours and was delivered since must not rise again."""
    reconciler, _, ours = crossed(world, monkeypatch)
    writes(world, lambda rows: rows[OTHER].update(label="b", updatedAt=9), on=ours)
    look_after(world, reconciler, 1)
    assert world.row(OTHER) == {"sessionId": "o", "updatedAt": 9, "label": "b"}


def test_a_gateway_write_built_on_ours_is_joined_with_the_one_that_crossed_before_the_next_try(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has our edit in it, which was taken back: so it is known to be built on ours, and nothing need be guessed."""
    world.stuck()
    writes(world, lambda rows: rows.update({OTHER: {"sessionId": "o", "updatedAt": 1, "flag": True}}))
    reconciler = world.reconciler()
    ours: list[bytes] = []
    touch = os.utime

    def slip_in() -> None:
        writes(world, lambda rows: (rows[OTHER].update(updatedAt=2, usage=7), rows[OTHER].pop("flag")))

    def touch_and_write(*args: Any, **more: Any) -> None:
        touch(*args, **more)
        if ours:  # the store was touched: the gateway's version is back in place
            writes(world, lambda rows: rows[OTHER].update(updatedAt=3, label="b"), on=ours.pop())

    with monkeypatch.context() as patch:
        before_each_exchange(patch, slip_in, lambda: ours.append(world.store().read_bytes()))
        patch.setattr(os, "utime", touch_and_write)
        attempt = settle_by_scheduler(world, reconciler)

    assert world.row(OTHER) == {"sessionId": "o", "updatedAt": 3, "usage": 7, "label": "b"}
    assert (world.row()["status"], attempt.outcome, attempt.crossings) == ("failed", "applied", 1)


def test_a_row_that_moved_on_after_a_crossing_is_left_as_the_gateway_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, _, _ = crossed(world, monkeypatch)
    writes(world, lambda rows: (rows[OTHER].update(updatedAt=9), rows[OTHER].pop("field0")))
    look_after(world, reconciler, 1, 5, 60)
    assert world.row(OTHER) == {"sessionId": "o", "updatedAt": 9, "label": "a", "at": 0}


def test_the_quarantine_ends_with_the_last_look_also_when_the_repair_was_overwritten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, _, _ = crossed(world, monkeypatch)
    row = world.row()
    writes(world, lambda rows: rows.update({STUCK_KEY: {**row, "status": "running"}}))
    world.edit_row(endedAt=None, runtimeMs=None)
    look_after(world, reconciler, 1)
    assert [a.outcome for a in attempts(reconciler)] == ["overwritten", "applied"]
    run_for(reconciler, world.clock, 120)
    assert litter(world) == []


def test_what_cannot_be_brought_back_stays_in_quarantine_after_the_last_look_and_the_audit_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, attempt, ours = crossed(world, monkeypatch)
    world.write_store(ours)
    held = world.sessions() / protocol.held_name(attempt.id)
    written = held.read_bytes()
    real_write = os.write
    fail(
        monkeypatch,
        "write",
        errno.ENOSPC,
        lambda fd: "sessions/.clawmend" in str(Path(f"/proc/self/fd/{fd}").readlink()),
    )
    after = look_after(world, reconciler, 1, 5, 60)
    monkeypatch.setattr(os, "write", real_write)
    assert held.read_bytes() == written
    assert (after.outcome, "kept" in (after.outcome_reason or "")) == ("unknown", True)


def test_a_disk_that_fails_one_look_does_not_stop_the_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reconciler, _, _ = crossed(world, monkeypatch)
    fail(monkeypatch, "unlink", errno.EROFS, lambda name: str(name).startswith(".clawmend"))
    fail(monkeypatch, "fsync", errno.EIO)
    assert [look["found"] for look in look_after(world, reconciler, 1, 5, 60).looks][1:] == ["as_written", "unreadable"]
