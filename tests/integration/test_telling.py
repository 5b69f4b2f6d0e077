"""A gateway is told of what was written: once, on a connection of its own, and never of a row that is not there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.audit.models import Attempt, Outcome, Trigger
from app.domain.model import Code
from app.reconcile import gateways
from app.reconcile.answers import JUST_NOW_SECONDS
from app.reconcile.asking import Ask, NotStuck
from app.reconcile.reconciler import Reconciler
from tests.api.conftest import wait_until
from tests.integration.conftest import up
from tests.peer import Peer, Refuse, Silence
from tests.world import PERSON, STUCK_KEY, World, attempts, finding_of, run_for, run_pass


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    world.stuck(ended_ago=3_600)
    made = Peer(world.store())
    yield made
    made.stop()


def settled(world: World, reconciler: Reconciler) -> Attempt:
    """The scheduler's repair of the stuck row, as the audit has it."""
    run_pass(reconciler)
    world.clock.advance(121)
    run_pass(reconciler)
    assert world.row()["status"] == "failed"
    (attempt,) = attempts(reconciler)
    assert attempt.outcome == Outcome.APPLIED
    return attempt


def told(attempt: Attempt) -> str | None:
    return None if attempt.told is None else attempt.told["answer"]


def patches(peer: Peer) -> int:
    return peer.methods().count("sessions.patch")


def test_a_repair_is_told_once_on_a_second_connection_with_the_one_scope_that_it_takes(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    reconciler = beside(peer)
    assert told(settled(world, reconciler)) == "as_repaired"
    for _ in range(5):
        world.clock.advance(5)
        run_pass(reconciler)

    (patch,) = [a for a in peer.asked if a.method == "sessions.patch"]
    assert (patch.params, patch.scopes) == ({"key": STUCK_KEY}, ("operator.admin",))
    others = [a for a in peer.asked if a.connection == patch.connection and a is not patch]
    assert [a.method for a in others] == ["connect"], "nothing else is done with that scope"
    rest = {a.scopes for a in peer.asked if a.connection != patch.connection}
    assert rest == {("operator.read",)}
    before = peer.asked[: peer.asked.index(patch)]
    assert [a.method for a in before if a.method != "connect"][-1] == "sessions.list", "it is looked for just before"


def test_with_the_link_off_nobody_is_asked_or_told(world: World, peer: Peer) -> None:
    attempt = settled(world, world.reconciler())
    assert (told(attempt), peer.connections) == (None, 0)


def test_a_row_that_is_gone_since_is_not_told_of_since_the_call_would_bring_it_back(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    reconciler = beside(peer)
    attempt = settled(world, world.reconciler())
    rows = world.rows()
    del rows[STUCK_KEY]
    world.write_store(json.dumps(rows).encode())
    run_pass(reconciler)
    assert (told(attempts(reconciler)[0]), patches(peer)) == (None, 0)
    assert attempt.outcome == Outcome.APPLIED


@pytest.mark.parametrize(
    "moved", [{"sessionId": "another"}, {"startedAt": 7}, {"status": "running"}, {"status": "done"}, {"endedAt": 7}]
)
def test_a_row_that_has_moved_on_is_not_told_of(
    world: World, peer: Peer, beside: Callable[..., Reconciler], moved: dict[str, Any]
) -> None:
    reconciler = beside(peer, auto_repair=False)
    settled(world, world.reconciler())
    world.edit_row(**moved)
    run_pass(reconciler)
    assert (told(attempts(reconciler)[0]), patches(peer)) == (None, 0)


@pytest.mark.parametrize("lack", ["row", "path"])
def test_a_gateway_that_does_not_keep_the_row_is_not_told(
    world: World, peer: Peer, beside: Callable[..., Reconciler], lack: str
) -> None:
    good = peer.on["sessions.list"]
    peer.on["sessions.list"] = lambda params: {
        **good(params),
        **({"sessions": []} if lack == "row" else {"path": "/another/sessions.json"}),
    }
    attempt = settled(world, beside(peer))
    assert (told(attempt), patches(peer)) == ("not_told", 0)


def test_a_gateway_that_answers_with_another_row_is_written_down_as_that_and_not_told_again(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    peer.on["sessions.patch"] = lambda params: {
        **peer.patch_session(params), "entry": {"key": STUCK_KEY, "status": "running"}
    }  # fmt: skip
    reconciler = beside(peer)
    attempt = settled(world, reconciler)
    assert (told(attempt), attempt.told and attempt.told["why"]) == ("otherwise", "the gateway has the row as running")
    world.clock.advance(5)
    run_pass(reconciler)
    assert patches(peer) == 1


@pytest.mark.parametrize("nonsense", [{}, {"path": 7}, {"entry": []}, {"path": "\ud800", "entry": {}}])
def test_a_nonsensical_answer_to_the_telling_is_written_down_as_another_row(
    world: World, peer: Peer, beside: Callable[..., Reconciler], nonsense: dict[str, Any]
) -> None:
    peer.on["sessions.patch"] = lambda _: nonsense
    assert told(settled(world, beside(peer))) == "otherwise"


def test_what_could_not_be_told_is_told_at_a_later_pass_while_the_looks_last(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("UNAVAILABLE", "later")

    good = peer.on["sessions.patch"]
    peer.on["sessions.patch"] = refuse
    reconciler = beside(peer)
    attempt = settled(world, reconciler)
    assert (told(attempt), attempt.told and attempt.told["why"]) == ("not_told", "UNAVAILABLE: later")
    peer.on["sessions.patch"] = good
    world.clock.advance(2)
    run_pass(reconciler)
    assert told(attempts(reconciler)[0]) == "as_repaired"


def test_after_the_last_look_it_is_let_be(world: World, peer: Peer, beside: Callable[..., Reconciler]) -> None:
    settled(world, world.reconciler())
    late = world.reconciler()
    for seconds in (2, 5, 60):
        world.clock.advance(seconds)
        run_pass(late)
    assert attempts(late)[0].finished_at is not None
    run_pass(beside(peer))
    assert patches(peer) == 0


def test_a_gateway_that_does_not_grant_admin_is_not_told_and_asked_all_the_same(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    peer.grants = lambda scopes: [s for s in scopes if s == "operator.read"]
    reconciler = beside(peer)
    attempt = settled(world, reconciler)
    assert (told(attempt), attempt.told and attempt.told["why"]) == ("not_told", "it does not grant operator.admin")
    assert up(reconciler.links)


def test_a_gateway_that_does_not_answer_when_it_is_told_is_waited_for_once_however_much_there_is_to_tell(
    world: World, peer: Peer, beside: Callable[..., Reconciler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: dict[str, Any]) -> dict[str, Any]:
        raise Silence

    monkeypatch.setattr(gateways, "TELL_SECONDS", 0.2)
    peer.on["sessions.patch"] = silent
    reconciler = beside(peer)
    settled(world, reconciler)
    assert patches(peer) == 1
    wait_until(lambda: up(reconciler.links), "the link is up again")
    for _ in range(4):
        world.clock.advance(2)
        run_pass(reconciler)
    assert patches(peer) == 1
    peer.on["sessions.patch"] = peer.patch_session
    world.clock.advance(30)
    run_pass(reconciler)
    assert told(attempts(reconciler)[0]) == "as_repaired"


def test_a_persons_repair_and_its_undo_are_told_at_once(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    reconciler = beside(peer, auto_repair=False)
    repair = reconciler.repairer.settle(finding_of(run_pass(reconciler)), PERSON)
    assert (told(repair), patches(peer)) == ("as_repaired", 1)
    stored = reconciler.audit.get(repair.id)
    assert stored is not None
    undo = reconciler.repairer.undo(stored, PERSON)
    assert (told(undo), patches(peer), world.row()["status"]) == ("as_repaired", 2, "running")
    run_pass(reconciler)
    assert patches(peer) == 2, "a pass does not tell it again"


def test_the_schedulers_repair_is_told_at_the_end_of_the_pass_and_not_with_each_of_them(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    """Each telling makes the gateway write its store."""
    reconciler = beside(peer, auto_repair=False)
    finding = finding_of(run_for(reconciler, world.clock, 125))
    attempt = reconciler.repairer.settle(finding, Ask(Trigger.SCHEDULER, "clawmend", "its window has passed"))
    assert (attempt.outcome, told(attempt), patches(peer)) == (Outcome.APPLIED, None, 0)
    run_pass(reconciler)
    assert (told(attempts(reconciler)[0]), patches(peer)) == ("as_repaired", 1)


def test_a_person_gets_the_repair_though_what_came_of_telling_cannot_be_written_down(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = finding_of(run_pass(reconciler))
    database = world.folder / "own" / "audit.db"

    def the_audit_goes(params: dict[str, Any]) -> dict[str, Any]:
        database.rename(database.with_name("away"))
        return peer.patch_session(params)

    peer.on["sessions.patch"] = the_audit_goes
    attempt = reconciler.repairer.settle(finding, PERSON)
    database.with_name("away").rename(database)
    assert (attempt.outcome, told(attempts(reconciler)[0]), patches(peer)) == (Outcome.APPLIED, None, 1)


def test_a_dry_run_tells_nobody(world: World, peer: Peer, beside: Callable[..., Reconciler]) -> None:
    reconciler = beside(peer, auto_repair=False)
    dry = Ask(Trigger.API, "a person", "a test", dry_run=True)
    assert told(reconciler.repairer.settle(finding_of(run_pass(reconciler)), dry)) is None
    assert patches(peer) == 0


def test_a_pass_and_a_request_that_come_to_tell_of_one_repair_tell_it_once(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    in_it, go_on = threading.Event(), threading.Event()

    def slow(params: dict[str, Any]) -> dict[str, Any]:
        in_it.set()
        go_on.wait(4)
        return peer.patch_session(params)

    peer.on["sessions.patch"] = slow
    reconciler = beside(peer, auto_repair=False)
    finding = finding_of(run_pass(reconciler))
    person = threading.Thread(target=reconciler.repairer.settle, args=(finding, PERSON))
    person.start()
    assert in_it.wait(10)
    scheduler = threading.Thread(target=reconciler.run_pass)
    scheduler.start()
    wait_until(lambda: not scheduler.is_alive() or reconciler.report.number > 1, "the pass has looked")
    go_on.set()
    person.join(10)
    scheduler.join(10)
    assert patches(peer) == 1


# --- asked before a repair ---


def test_a_repair_of_a_session_with_an_active_run_is_refused_also_by_force(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    reconciler = beside(peer, auto_repair=False)
    finding = finding_of(run_pass(reconciler))
    assert finding.verdict.code is Code.STUCK
    peer.active = {STUCK_KEY}
    world.clock.advance(JUST_NOW_SECONDS + 0.1)  # the pass has asked too, in the background
    for ask in (PERSON, Ask(Trigger.API, "a person", "a test", force=True, target_status="failed")):
        with pytest.raises(NotStuck, match="the gateway says that a run of it is active"):
            reconciler.repairer.settle(finding, ask)
    assert (world.row()["status"], patches(peer)) == ("running", 0)


def test_what_is_silent_on_disk_is_not_forced_while_the_gateway_has_a_run_of_it(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    now = world.clock.now()
    world.edit_row(startedAt=now - 7_200_000, updatedAt=now - 7_200_000)
    world.trajectory().write_bytes(b"")
    world.append(world.event("prompt.submitted", now - 7_000_000))
    for file in world.sessions().glob("*.jsonl"):
        os.utime(file, ns=(0, (now - 7_000_000) * 1_000_000))
    peer.active = {STUCK_KEY}
    reconciler = beside(peer)
    finding = finding_of(run_pass(reconciler))
    assert finding.verdict.code is Code.SILENT
    with pytest.raises(NotStuck, match="a run of it is active"):
        reconciler.repairer.settle(finding, Ask(Trigger.API, "a person", "x", force=True, target_status="failed"))
    assert world.row()["status"] == "running"


def test_the_scheduler_never_writes_while_the_gateway_has_a_run_of_it(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    peer.active = {STUCK_KEY}
    reconciler = beside(peer)
    for _ in range(3):
        world.clock.advance(1_300)
        run_pass(reconciler)
    assert (world.row()["status"], [a.outcome for a in attempts(reconciler)]) == ("running", [])


def test_the_answer_that_a_repair_rests_on_is_kept_with_it(
    world: World, peer: Peer, beside: Callable[..., Reconciler]
) -> None:
    attempt = settled(world, beside(peer))
    assert attempt.evidence["liveness"]["active_run"] is False
    assert attempt.evidence["liveness"]["asked_at"] is not None
