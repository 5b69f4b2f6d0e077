"""With the companion plugin in its gateway a row is settled by the gateway itself; where that cannot be, by us."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.audit.models import Attempt, Outcome, Trigger
from app.domain.model import Code
from app.openclaw import gateway_place, gateway_plugin
from app.reconcile.asking import Ask, CannotUndo, NotStuck
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Finding
from tests.api.conftest import wait_until
from tests.integration.conftest import up
from tests.peer import Hangup, Peer, Refuse, Silence
from tests.world import PERSON, STUCK_KEY, STUCK_SESSION_ID, World, attempts, by_a_person, finding_of, run_pass

FORCE = Ask(Trigger.API, "a person", "a test", force=True, target_status="failed")
Beside = Callable[..., Reconciler]


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    world.stuck(ended_ago=3_600)
    made = Peer(world.store())
    made.load_plugin()
    yield made
    made.stop()


def settled_by_scheduler(world: World, reconciler: Reconciler) -> Attempt:
    run_pass(reconciler)
    world.clock.advance(121)
    run_pass(reconciler)
    return attempts(reconciler)[-1]


def answered(reconciler: Reconciler) -> Finding:
    """The stuck session as a pass sees it when the plugin has answered in the background."""
    wait_until(lambda: finding_of(run_pass(reconciler)).evidence.liveness.by_plugin, "the answer")
    return finding_of(reconciler.report)


def orders(peer: Peer, method: str = "clawmend.settle") -> list[dict[str, Any]]:
    return [a.params for a in peer.asked if a.method == method]


def refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise Refuse("INVALID_REQUEST", "unknown method: clawmend.settle")


def later(world: World, reconciler: Reconciler, *seconds: float) -> Attempt:
    """The first attempt, after passes so many seconds from each other."""
    for each in seconds:
        world.clock.advance(each)
        run_pass(reconciler)
    return attempts(reconciler)[0]


# --- settling ---


def test_the_row_is_settled_by_the_plugin_and_the_audit_says_so(world: World, peer: Peer, beside: Beside) -> None:
    before = world.row()
    attempt = settled_by_scheduler(world, beside(peer))

    assert (attempt.outcome, attempt.hand, attempt.mode) == (Outcome.APPLIED, "plugin", None)
    (order,) = orders(peer)
    end = attempt.evidence["trajectories"][0]["end"]
    assert order == {
        "key": STUCK_KEY,
        "agentId": "main",
        "expectedSessionId": STUCK_SESSION_ID,
        "expectedStartedAt": before["startedAt"],
        "status": "failed",
        "endedAt": attempt.after["endedAt"],
        "runId": end["run_id"],
    }
    assert world.row() == {**before, **attempt.after}
    assert (attempt.told or {})["answer"] == "as_repaired"
    assert "sessions.patch" not in peer.methods(), "the plugin has told everybody itself"


def test_orders_go_over_connections_of_their_own_with_the_one_scope_that_they_take(
    world: World, peer: Peer, beside: Beside
) -> None:
    settled_by_scheduler(world, beside(peer))
    (order,) = [a for a in peer.asked if a.method == "clawmend.settle"]
    assert order.scopes == ("operator.admin",)
    assert [a.method for a in peer.asked if a.connection == order.connection] == ["connect", "clawmend.settle"]


def test_the_intent_and_the_plan_are_in_the_audit_before_the_order_is_given(
    world: World, peer: Peer, beside: Beside
) -> None:
    reconciler = beside(peer, auto_repair=False)
    seen: list[Attempt] = []

    def look(params: dict[str, Any]) -> dict[str, Any]:
        seen.extend(attempts(reconciler))
        return peer.settle_row(params)

    peer.on["clawmend.settle"] = look
    by_a_person(reconciler)
    (intent,) = seen
    assert (intent.outcome, intent.hand, intent.after["status"]) == (None, "plugin", "failed")
    assert [c["name"] for c in intent.edit] == ["status", "endedAt", "runtimeMs"]


def test_it_is_judged_again_before_the_order_and_a_turn_that_has_begun_ends_the_attempt(
    world: World, peer: Peer, beside: Beside
) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = answered(reconciler)
    world.clock.advance(3)  # what was answered counts for two seconds

    def a_turn_begins(_c: Any, method: str, _f: dict[str, Any]) -> None:
        if method == "clawmend.live":
            world.edit_row(startedAt=world.clock.now())

    peer.before = a_turn_begins
    attempt = reconciler.repairer.settle(finding, PERSON)
    assert (attempt.outcome, orders(peer), world.row()["status"]) == (Outcome.SUPERSEDED, [], "running")


def test_a_store_that_is_never_quiet_is_no_reason_to_wait(world: World, peer: Peer, beside: Beside) -> None:
    reconciler = beside(peer)
    answered(reconciler)
    world.clock.advance(31)
    os.utime(world.store(), ns=(0, world.clock.now() * 1_000_000))
    run_pass(reconciler)
    assert world.row()["status"] == "failed"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("missing", Outcome.SUPERSEDED),
        ("session-id", Outcome.SUPERSEDED),
        ("started-at", Outcome.SUPERSEDED),
        ("not-running", Outcome.SUPERSEDED),
        ("active-run", Outcome.SUPERSEDED),
        ("has-ended-at", Outcome.REFUSED),
        ("recovering", Outcome.REFUSED),
        ("unknown-shape", Outcome.REFUSED),
        (None, Outcome.REFUSED),
    ],
)
def test_what_the_plugin_does_not_settle_nobody_settles(
    world: World, peer: Peer, beside: Beside, reason: str | None, outcome: Outcome
) -> None:
    peer.on["clawmend.settle"] = lambda _: {"applied": False, "reason": reason, "detail": "a word"}
    attempt = by_a_person(beside(peer, auto_repair=False))
    assert (attempt.outcome, attempt.hand, world.row()["status"]) == (outcome, "plugin", "running")
    assert (reason or "(a word)") in (attempt.outcome_reason or "")
    assert attempt.finished_at is not None


# --- who may do it ---


def test_without_the_plugin_nobody_asks_for_it_and_the_file_is_written(
    world: World, peer: Peer, beside: Beside
) -> None:
    for name in [n for n in peer.on if n.startswith("clawmend.")]:
        del peer.on[name]
    attempt = settled_by_scheduler(world, beside(peer))
    assert (attempt.outcome, attempt.hand, attempt.mode) == (Outcome.APPLIED, "file", "exchange")
    assert [m for m in peer.methods() if m.startswith("clawmend.")] == []


def test_a_plugin_that_has_gone_since_it_was_asked_leaves_the_row_to_the_file(
    world: World, peer: Peer, beside: Beside
) -> None:
    peer.on["clawmend.settle"] = refuse
    attempt = by_a_person(beside(peer, auto_repair=False))
    assert (attempt.outcome, attempt.hand, attempt.mode) == (Outcome.APPLIED, "file", "exchange")
    assert world.row()["status"] == "failed"


def test_a_gateway_that_starts_again_without_it_leaves_the_row_to_the_file(
    world: World, peer: Peer, beside: Beside
) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = answered(reconciler)
    for name in [n for n in peer.on if n.startswith("clawmend.")]:
        del peer.on[name]
    connections = peer.connections
    peer.hang_up()
    wait_until(lambda: peer.connections > connections and up(reconciler.links), "the link is up again")
    attempt = reconciler.repairer.settle(finding, PERSON)
    assert (attempt.outcome, attempt.hand) == (Outcome.APPLIED, "file")


@pytest.mark.parametrize(
    "answer",
    [
        {"active": [None]},
        {"active": ["no"]},
        {"active": []},
        {"active": None},
        {"store": "/another/sessions.json"},
        {"store": None},
    ],
)
def test_a_plugin_that_does_not_know_is_as_good_as_none(
    world: World, peer: Peer, beside: Beside, answer: dict[str, Any]
) -> None:
    peer.on["clawmend.live"] = lambda params: {**peer.live(params), **answer}
    attempt = by_a_person(beside(peer, auto_repair=False))
    assert (attempt.outcome, attempt.hand, orders(peer)) == (Outcome.APPLIED, "file", [])
    assert attempt.evidence["liveness"]["reason"] == "hasActiveRun is false"


# --- what it says of active runs ---


@pytest.mark.parametrize("ask", [PERSON, FORCE])
def test_an_active_run_is_a_veto_to_everybody(world: World, peer: Peer, beside: Beside, ask: Ask) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = answered(reconciler)
    world.clock.advance(3)
    peer.active = {STUCK_KEY}
    with pytest.raises(NotStuck, match="a run of it is active"):
        reconciler.repairer.settle(finding, ask)
    assert (orders(peer), world.row()["status"]) == ([], "running")


def test_no_active_run_brings_an_unsuccessful_end_to_thirty_seconds_also_for_a_run_that_is_not_registered(
    world: World, peer: Peer, beside: Beside
) -> None:
    lines = world.trajectory().read_bytes()
    world.trajectory().write_bytes(lines.replace(b'"webchat"', b'"a-channel"'))
    reconciler = beside(peer, auto_repair=False)
    answered(reconciler)
    world.clock.advance(31)
    found = finding_of(run_pass(reconciler))
    assert not found.evidence.trails[0].registered
    assert (found.verdict.code, found.verdict.ripe) == (Code.STUCK, True)


def test_where_reading_is_not_enough_scope_it_is_asked_with_more_and_remembered(
    world: World, peer: Peer, beside: Beside
) -> None:
    peer.admin_only |= {"clawmend.live"}
    reconciler = beside(peer, auto_repair=False)
    finding = finding_of(run_pass(reconciler))
    links = reconciler.links
    assert links is not None
    assert links.ask(finding.target, finding.evidence.row, "main").by_plugin

    def refused() -> int:
        asked = [a.scopes for a in peer.asked if a.method == "clawmend.live"]
        assert ("operator.admin",) in asked
        return asked.count(("operator.read",))

    before = refused()
    world.clock.advance(5)
    assert links.ask(finding.target, finding.evidence.row, "main").by_plugin
    assert refused() == before


# --- no answer ---


def silent(_: dict[str, Any]) -> dict[str, Any]:
    raise Silence


def gone(_: dict[str, Any]) -> dict[str, Any]:
    raise Hangup


def failed(_: dict[str, Any]) -> dict[str, Any]:
    raise Refuse("CLAWMEND_FAILED", "the store answers with another row than was written")


def nonsense(_: dict[str, Any]) -> dict[str, Any]:
    return {"applied": "yes"}


def another_row(_: dict[str, Any]) -> dict[str, Any]:
    return {"applied": True, "before": {"status": "running"}, "after": {"status": "done"}, "told": None}


NO_ANSWERS = pytest.mark.parametrize("answer", [silent, gone, failed, nonsense, another_row])


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gateway_plugin, gateway_place):
        monkeypatch.setattr(module, "CHANGE_SECONDS", 0.3)


@NO_ANSWERS
def test_an_order_without_an_answer_is_unknown_and_what_was_written_is_found_by_the_next_look(
    world: World, peer: Peer, beside: Beside, hurried: None, answer: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    def write_and_do_not_say(params: dict[str, Any]) -> dict[str, Any]:
        peer.settle_row(params)
        return answer(params)

    peer.on["clawmend.settle"] = write_and_do_not_say
    reconciler = beside(peer, auto_repair=False)
    attempt = by_a_person(reconciler)
    assert (attempt.outcome, attempt.hand, attempt.finished_at) == (Outcome.UNKNOWN, "plugin", None)
    found = later(world, reconciler, 1)
    assert (found.outcome, found.looks[-1]["found"]) == (Outcome.APPLIED, "as_written")
    undone = reconciler.repairer.undo(found, PERSON)
    assert (undone.outcome, world.row().get("endedAt")) == (Outcome.APPLIED, None)


@NO_ANSWERS
def test_an_order_that_was_not_carried_out_is_refused_only_after_the_last_look_since_it_may_still_be(
    world: World, peer: Peer, beside: Beside, hurried: None, answer: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    peer.on["clawmend.settle"] = answer
    reconciler = beside(peer, auto_repair=False)
    by_a_person(reconciler)
    assert later(world, reconciler, 1, 4).outcome == Outcome.UNKNOWN
    found = later(world, reconciler, 55)
    assert (found.outcome, world.row()["status"]) == (Outcome.REFUSED, "running")
    assert found.finished_at is not None


def test_an_order_that_is_carried_out_late_is_found_all_the_same(
    world: World, peer: Peer, beside: Beside, hurried: None
) -> None:
    held: list[dict[str, Any]] = []

    def keep(params: dict[str, Any]) -> dict[str, Any]:
        held.append(params)
        raise Silence

    peer.on["clawmend.settle"] = keep
    reconciler = beside(peer, auto_repair=False)
    by_a_person(reconciler)
    later(world, reconciler, 1)
    peer.settle_row(held[0])
    assert later(world, reconciler, 4).outcome == Outcome.APPLIED


@pytest.mark.parametrize(("written", "outcome"), [(True, Outcome.APPLIED), (False, Outcome.UNKNOWN)])
def test_an_order_that_a_crash_left_open_is_resolved_from_the_disk_and_never_called_refused_at_once(
    world: World, peer: Peer, beside: Beside, written: bool, outcome: Outcome
) -> None:
    class Crash(BaseException):
        pass

    reconciler = beside(peer, auto_repair=False)
    change = reconciler.links.change if reconciler.links else None
    assert change is not None

    def crash(*order: Any) -> Any:
        if written:
            change(*order)
        raise Crash

    reconciler.links.change = crash  # type: ignore[union-attr, method-assign]
    with pytest.raises(Crash):
        by_a_person(reconciler)
    assert attempts(reconciler)[0].outcome is None
    after = world.reconciler(auto_repair=False)
    run_pass(after)
    assert attempts(after)[0].outcome == outcome
    later(world, after, 1, 4)
    assert later(world, after, 55).outcome == (outcome if written else Outcome.REFUSED)


# --- afterwards ---


def test_a_row_that_is_put_back_is_found_overwritten_and_settled_again(
    world: World, peer: Peer, beside: Beside
) -> None:
    stale = world.store().read_bytes()
    reconciler = beside(peer)
    settled_by_scheduler(world, reconciler)
    world.write_store(stale)
    world.clock.advance(2)
    run_pass(reconciler)
    first, second = attempts(reconciler)
    assert (first.outcome, second.outcome, second.hand) == (Outcome.OVERWRITTEN, Outcome.APPLIED, "plugin")
    assert second.retry_of == first.id
    assert world.row()["status"] == "failed"


def test_an_undo_goes_through_the_plugin_and_takes_away_what_was_not_there(
    world: World, peer: Peer, beside: Beside
) -> None:
    before = world.row()
    reconciler = beside(peer, auto_repair=False)
    repair = by_a_person(reconciler)
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, undo.hand, world.row()) == (Outcome.APPLIED, "plugin", before)
    (order,) = orders(peer, "clawmend.undo")
    ended = repair.after["endedAt"]
    assert order["fields"][:2] == [
        {"name": "status", "before": "running", "after": "failed"},
        {"name": "endedAt", "after": ended},
    ]
    run_pass(reconciler)
    assert finding_of(reconciler.report).held_by == undo.id
    with pytest.raises(CannotUndo):
        reconciler.repairer.undo(repair, PERSON)


def test_a_repair_by_one_hand_is_undone_by_the_other(world: World, peer: Peer, beside: Beside) -> None:
    before = world.row()
    with_plugin, without = beside(peer, auto_repair=False), world.reconciler(auto_repair=False)
    for first, second, hands in (
        (with_plugin, without, ("plugin", "file")),
        (without, with_plugin, ("file", "plugin")),
    ):
        repair = by_a_person(first)
        undo = second.repairer.undo(repair, PERSON)
        assert (repair.hand, undo.hand) == hands
        assert (undo.outcome, world.row()) == (Outcome.APPLIED, before)


def test_an_undo_beside_a_gateway_that_has_lost_the_plugin_is_done_in_the_file(
    world: World, peer: Peer, beside: Beside
) -> None:
    reconciler = beside(peer, auto_repair=False)
    repair = by_a_person(reconciler)
    peer.on["clawmend.live"] = refuse
    world.clock.advance(3)
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, undo.hand, orders(peer, "clawmend.undo")) == (Outcome.APPLIED, "file", [])
    assert world.row()["status"] == "running"


def test_an_undo_that_the_plugin_refuses_changes_nothing(world: World, peer: Peer, beside: Beside) -> None:
    reconciler = beside(peer, auto_repair=False)
    repair = by_a_person(reconciler)
    peer.on["clawmend.undo"] = lambda _: {"applied": False, "reason": "active-run"}
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, world.row()["status"]) == (Outcome.SUPERSEDED, "failed")


def test_what_a_database_has_besides_is_kept_for_the_undo(world: World, peer: Peer, beside: Beside) -> None:
    def with_runs(params: dict[str, Any]) -> dict[str, Any]:
        answer = peer.settle_row(params)
        before = {**answer["before"], "lifecycleRunId": "r"}
        return {**answer, "before": before, "after": {**answer["after"], "lastRunId": "r"}}

    peer.on["clawmend.settle"] = with_runs
    attempt = by_a_person(beside(peer, auto_repair=False))
    kept = {c["name"]: (c["before"], c["after"]) for c in attempt.edit}
    assert kept["lifecycleRunId"] == ('"r"', None)
    assert kept["lastRunId"] == (None, '"r"')
    assert kept["status"] == ('"running"', '"failed"')


def test_the_link_says_that_the_plugin_is_there(world: World, peer: Peer, beside: Beside) -> None:
    reconciler = beside(peer)
    assert reconciler.links is not None
    assert [s.plugin for s in reconciler.links.states().values()] == [True]
    assert json.loads(world.store().read_bytes())
