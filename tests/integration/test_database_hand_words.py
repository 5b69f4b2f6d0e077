"""What the hand `database` orders of its process, and what the audit keeps of the answer: to the letter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from app.audit.models import Attempt, Outcome
from app.openclaw.replacement import Replacement, Written
from app.reconcile import database_hand
from app.reconcile.asking import StoreUnfit
from app.reconcile.reconciler import Reconciler
from tests.database_peer import DatabasePeer
from tests.databases import LOCKED_OUT
from tests.peer import Refuse
from tests.stuck_rows import Stuck, stuck
from tests.world import ABSENT, PERSON, World, attempts, by_a_person, finding_of, run_pass


@pytest.fixture
def row(world: World) -> Stuck:
    world.gateway = ABSENT
    return stuck(world)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Written) -> list[tuple[Replacement, int]]:
    """The process is not started; it is as if it had given these answers. What was ordered of it, and when."""
    orders: list[tuple[Replacement, int]] = []
    left = iter(answers)

    def keep(what: Replacement, now: int) -> Written:
        orders.append((what, now))
        return next(left)

    monkeypatch.setattr(database_hand, "replace_in_a_process", keep)
    return orders


def test_what_is_ordered_where_no_gateway_runs(world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = answering(monkeypatch, Written("written"))
    attempt = by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    ((what, now),) = orders
    own, agents, path = str(world.state), str(world.state / "agents"), str(row.database.path)
    assert what == Replacement(own, agents, path, LOCKED_OUT, row.what.before, what.after, live=False, hold_seconds=5.0)
    assert now == world.clock.now()
    assert attempt.base_sha256 == hashlib.sha256(what.before).hexdigest()
    assert attempt.new_sha256 == hashlib.sha256(what.after).hexdigest()
    assert (attempt.outcome, attempt.outcome_reason, attempt.hand) == (Outcome.APPLIED, None, "database")


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (Written("changed", "already", "the row already says so"), Outcome.SUPERSEDED),
        (Written("changed", "another", "a word"), Outcome.SUPERSEDED),
        (Written("refused", "changed", "a word"), Outcome.REFUSED),
        (Written("refused", "busy", "a word"), Outcome.REFUSED),
        (Written("unknown", "no_answer", "a word"), Outcome.UNKNOWN),
    ],
)
def test_an_answer_is_the_outcome_and_its_words_are_the_reason(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch, said: Written, outcome: Outcome
) -> None:
    orders = answering(monkeypatch, said)
    attempt = by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    assert (attempt.outcome, attempt.outcome_reason) == (outcome, f"{said.detail} ({said.code})")
    assert attempt.finished_at == (None if outcome == Outcome.UNKNOWN else world.clock.now())
    assert len(orders) == 1


def test_a_row_that_was_written_in_between_each_time_is_given_up_for_now(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = Written("changed", "changed", "the row has been written since it was judged")
    orders = answering(monkeypatch, changed, changed, changed)
    attempt = by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    assert (attempt.outcome, len(orders)) == (Outcome.REFUSED, 3)
    assert attempt.outcome_reason == "the row was written 3 times in between"


def test_it_is_written_at_the_second_try_where_the_first_came_too_late(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = answering(monkeypatch, Written("changed", "changed", "a word"), Written("written"))
    attempt = by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    assert (attempt.outcome, attempt.outcome_reason, len(orders)) == (Outcome.APPLIED, None, 2)


def then(reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """It happens as soon as the intent is in the audit."""
    opened = reconciler.audit.open

    def open_and_go_on(attempt: Attempt) -> None:
        opened(attempt)
        happens()

    monkeypatch.setattr(reconciler.audit, "open", open_and_go_on)


def gone(row: Stuck) -> None:
    row.database.path.unlink()


def a_link(row: Stuck) -> None:
    row.database.path.rename(row.database.path.with_name("elsewhere"))
    row.database.path.symlink_to("elsewhere")


def another_turn(row: Stuck) -> None:
    row.database.edit(startedAt=row.now, lifecycleRunId="another-run")


@pytest.mark.parametrize(
    ("change", "outcome", "why"),
    [
        (gone, Outcome.SUPERSEDED, "its row is gone"),
        (a_link, Outcome.REFUSED, "it is a symbolic link, which is not followed"),
        (another_turn, Outcome.SUPERSEDED, "another turn has begun in this session"),
    ],
)
def test_what_is_no_longer_to_be_written_is_not_ordered_and_the_audit_says_why(
    world: World,
    row: Stuck,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Stuck], None],
    outcome: Outcome,
    why: str,
) -> None:
    orders = answering(monkeypatch)
    reconciler = world.reconciler(auto_repair=False)
    finding = finding_of(run_pass(reconciler), LOCKED_OUT)
    then(reconciler, monkeypatch, lambda: change(row))
    attempt = reconciler.repairer.settle(finding, PERSON)
    assert (attempt.outcome, attempt.outcome_reason) == (outcome, why)
    assert (orders, attempt.hand, attempt.finished_at) == ([], "database", world.clock.now())
    assert attempts(reconciler) == [attempt]


def test_what_only_the_plugin_may_write_is_refused_where_it_does_not_take_the_order(
    world: World, row: Stuck, beside: Callable[..., Reconciler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: dict[str, object]) -> dict[str, object]:
        raise Refuse("INVALID_REQUEST", "unknown method")

    orders = answering(monkeypatch)
    peer = DatabasePeer(row.database)
    try:
        peer.load_plugin()
        peer.on["clawmend.settle"] = refuse
        attempt = by_a_person(beside(peer, auto_repair=False), LOCKED_OUT)
    finally:
        peer.stop()
    assert (attempt.outcome, attempt.outcome_reason) == (Outcome.REFUSED, "the plugin has not taken the order")
    assert (orders, attempt.hand) == ([], "database")


def test_a_database_that_has_taken_another_shape_since_is_unfit_for_an_undo(world: World, row: Stuck) -> None:
    reconciler = world.reconciler(auto_repair=False)
    repair = by_a_person(reconciler, LOCKED_OUT)
    row.database.run("ALTER TABLE session_nodes RENAME COLUMN entry_valid TO valid")
    with pytest.raises(StoreUnfit) as caught:
        reconciler.repairer.undo(repair, PERSON)
    assert str(caught.value) == "the store: its tables are not as we know them: no such column: entry_valid"
    assert len(attempts(reconciler)) == 1
