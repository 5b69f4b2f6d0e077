"""The hand `database` beside a gateway that runs: only where that itself says that nothing runs; it is told after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.audit.models import Attempt, Outcome
from app.openclaw.replacement import Replacement, Written
from app.reconcile import database_hand
from app.reconcile.asking import NotStuck, StoreUnfit
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Finding
from tests.api.conftest import wait_until
from tests.database_peer import DatabasePeer
from tests.databases import LOCKED_OUT
from tests.peer import Refuse, Silence
from tests.stuck_rows import Stuck, stuck
from tests.world import PERSON, UNKNOWN, World, attempts, by_a_person, finding_of, run_pass, running_since

Beside = Callable[..., Reconciler]


@pytest.fixture
def row(world: World, monkeypatch: pytest.MonkeyPatch) -> Stuck:
    monkeypatch.setattr(database_hand, "_HOLD_LIVE", 60.0)  # a machine that is busy is none of a test's affair
    world.gateway = running_since(world.clock.now() - 86_400_000)
    return stuck(world)


@pytest.fixture
def peer(row: Stuck) -> Iterator[DatabasePeer]:
    made = DatabasePeer(row.database)
    yield made
    made.stop()


def writable(reconciler: Reconciler) -> Finding:
    """The row as a pass sees it when the gateway has answered in the background."""
    wait_until(lambda: finding_of(run_pass(reconciler), LOCKED_OUT).unwritable is None, "the answer")
    return finding_of(reconciler.report, LOCKED_OUT)


def settled(world: World, reconciler: Reconciler) -> Attempt:
    """By the scheduler, as soon as it is due."""
    writable(reconciler)
    world.clock.advance(31)
    wait_until(lambda: bool(run_pass(reconciler) and attempts(reconciler)), "the repair")
    return attempts(reconciler)[0]


def test_a_gateway_that_says_that_nothing_runs_has_its_row_settled_and_is_told_once(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside
) -> None:
    attempt = settled(world, beside(peer))
    assert (attempt.outcome, attempt.hand) == (Outcome.APPLIED, "database")
    assert attempt.evidence["liveness"]["active_run_ids"] == []
    assert (attempt.told or {})["answer"] == "as_repaired"
    assert [a.params for a in peer.asked if a.method == "sessions.patch"] == [{"key": LOCKED_OUT}]
    assert row.database.entry()["status"] == "failed"


def test_what_the_telling_changes_in_the_row_is_no_reason_to_call_it_changed(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside
) -> None:
    before = row.database.entry()
    reconciler = beside(peer, auto_repair=False)
    repair = by_a_person(reconciler, LOCKED_OUT)
    for seconds in (1, 4, 55):
        world.clock.advance(seconds)
        run_pass(reconciler)
    (looked,) = attempts(reconciler)
    assert [look["found"] for look in looked.looks] == ["as_written"] * 3
    undo = reconciler.repairer.undo(repair, PERSON)
    after = row.database.entry()
    assert (undo.outcome, undo.hand, (undo.told or {})["answer"]) == (Outcome.APPLIED, "database", "as_repaired")
    assert {**after, "updatedAt": 0} == {**before, "updatedAt": 0}


@pytest.mark.parametrize(
    "says",
    [
        {"activeRunIds": None},
        {"activeRunIds": "none"},
        {"activeRunIds": [None]},
        {"activeRunIds": ["a-run"]},
        {"hasActiveRun": None},
        {"sessionId": "another"},
        {"startedAt": 1},
        {},
    ],
)
def test_anything_less_than_that_leaves_the_row_alone(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside, says: dict[str, Any]
) -> None:
    peer.says = says
    reconciler = beside(peer)
    finding = finding_of(run_pass(reconciler), LOCKED_OUT)
    with pytest.raises(StoreUnfit, match="gateway_"):
        reconciler.repairer.settle(finding, PERSON)
    world.clock.advance(61)
    run_pass(reconciler)
    assert (attempts(reconciler), row.is_untouched()) == ([], True)


def test_an_active_run_is_a_veto(world: World, row: Stuck, peer: DatabasePeer, beside: Beside) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = writable(reconciler)
    peer.active = {LOCKED_OUT}
    with pytest.raises(NotStuck, match="a run of it is active"):
        reconciler.repairer.settle(finding, PERSON)
    judged = reconciler.scanner.judge_entry(finding.target, LOCKED_OUT)
    assert judged is not None
    assert judged[0].unwritable is None, "there is nothing to write"
    assert row.is_untouched()


def test_an_answer_of_a_moment_ago_is_not_enough(world: World, row: Stuck, peer: DatabasePeer, beside: Beside) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = writable(reconciler)
    peer.says = {"activeRunIds": None}  # the clock stands still: that it was idle is no second old
    with pytest.raises(StoreUnfit, match="gateway_unsure"):
        reconciler.repairer.settle(finding, PERSON)
    assert row.is_untouched()


def test_a_gateway_that_does_not_answer_now_keeps_its_row(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside
) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = writable(reconciler)

    def silent(_: dict[str, Any]) -> dict[str, Any]:
        raise Silence

    peer.on["sessions.list"] = silent
    with pytest.raises(StoreUnfit, match="gateway_unsure"):
        reconciler.repairer.settle(finding, PERSON)
    assert row.is_untouched()


def test_a_run_that_the_gateway_begins_between_the_two_judgements_ends_the_attempt(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = writable(reconciler)
    opened = reconciler.audit.open

    def then_it_runs(attempt: Attempt) -> None:
        opened(attempt)
        peer.says = {"activeRunIds": ["a-run"]}

    monkeypatch.setattr(reconciler.audit, "open", then_it_runs)
    attempt = reconciler.repairer.settle(finding, PERSON)
    assert (attempt.outcome, row.is_untouched()) == (Outcome.REFUSED, True)
    assert "gateway_active" in (attempt.outcome_reason or "")


def test_where_only_a_stopped_gateway_may_be_written_beside_this_one_is_not(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside
) -> None:
    reconciler = beside(peer, database_writes="stopped")
    finding = finding_of(run_pass(reconciler), LOCKED_OUT)
    with pytest.raises(StoreUnfit, match="gateway_live"):
        reconciler.repairer.settle(finding, PERSON)
    assert row.is_untouched()


def test_a_gateway_that_is_not_in_sight_is_believed_when_it_answers(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside
) -> None:
    world.gateway = UNKNOWN
    assert by_a_person(beside(peer, auto_repair=False), LOCKED_OUT).outcome == Outcome.APPLIED


def test_the_order_to_write_says_that_the_gateway_runs_and_how_long_it_may_wait(
    world: World, row: Stuck, peer: DatabasePeer, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    orders: list[Replacement] = []

    def keep(what: Replacement, _: int) -> Written:
        orders.append(what)
        return Written("refused", "too_slow", "a test says so")

    monkeypatch.setattr(database_hand, "replace_in_a_process", keep)
    attempt = by_a_person(beside(peer, auto_repair=False), LOCKED_OUT)
    assert [(o.live, o.hold_seconds) for o in orders] == [(True, 0.05)]
    assert (attempt.outcome, attempt.outcome_reason) == (Outcome.REFUSED, "a test says so (too_slow)")


# --- with the companion plugin in it ---


@pytest.fixture
def with_plugin(peer: DatabasePeer) -> DatabasePeer:
    peer.load_plugin()
    return peer


def test_the_plugin_goes_first(world: World, row: Stuck, with_plugin: DatabasePeer, beside: Beside) -> None:
    before = row.database.entry()
    reconciler = beside(with_plugin, auto_repair=False)
    repair = by_a_person(reconciler, LOCKED_OUT)
    assert (repair.outcome, repair.hand, row.database.entry()["status"]) == (Outcome.APPLIED, "plugin", "failed")
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, undo.hand) == (Outcome.APPLIED, "plugin")
    assert {**row.database.entry(), "updatedAt": 0} == {**before, "updatedAt": 0}, "telling sets it to now"


def test_a_gateway_is_told_of_what_its_plugin_did_too_since_2026_8_1_remembers_its_lists(
    world: World, row: Stuck, with_plugin: DatabasePeer, beside: Beside
) -> None:
    reconciler = beside(with_plugin, auto_repair=False)
    repair = by_a_person(reconciler, LOCKED_OUT)
    assert (repair.hand, (repair.told or {})["answer"]) == ("plugin", "as_repaired")
    assert with_plugin.methods()[-2:] == ["sessions.list", "sessions.patch"]
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, undo.hand, (undo.told or {})["answer"]) == (Outcome.APPLIED, "plugin", "as_repaired")


def test_the_plugin_writes_also_where_we_may_not(
    world: World, row: Stuck, with_plugin: DatabasePeer, beside: Beside
) -> None:
    assert by_a_person(beside(with_plugin, auto_repair=False, database_writes="off"), LOCKED_OUT).hand == "plugin"


def test_a_repair_by_one_hand_is_undone_by_the_other(
    world: World, row: Stuck, with_plugin: DatabasePeer, beside: Beside
) -> None:
    before = row.database.entry()
    reconciler = beside(with_plugin, auto_repair=False)
    plugin = {name: answer for name, answer in with_plugin.on.items() if name.startswith("clawmend.")}

    def unload(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("INVALID_REQUEST", "unknown method")

    by_hand = {"plugin": plugin, "database": dict.fromkeys(plugin, unload)}
    for first, second in (("plugin", "database"), ("database", "plugin")):
        with_plugin.on |= by_hand[first]
        repair = by_a_person(reconciler, LOCKED_OUT)
        with_plugin.on |= by_hand[second]
        undo = reconciler.repairer.undo(repair, PERSON)
        assert (repair.hand, undo.hand, undo.outcome) == (first, second, Outcome.APPLIED)
        assert {**row.database.entry(), "updatedAt": 0} == {**before, "updatedAt": 0}
    asked = [a.params["agentId"] for a in with_plugin.asked if "agentId" in a.params]
    assert set(asked) == {"main"}, "of no other agent's session was anything asked"


def test_what_the_plugin_refuses_nobody_writes(
    world: World, row: Stuck, with_plugin: DatabasePeer, beside: Beside
) -> None:
    with_plugin.on["clawmend.settle"] = lambda _: {"applied": False, "reason": "recovering"}
    attempt = by_a_person(beside(with_plugin, auto_repair=False), LOCKED_OUT)
    assert (attempt.outcome, attempt.hand, row.is_untouched()) == (Outcome.REFUSED, "plugin", True)
