"""What the audit keeps of an order to the plugin, to the letter: a person reads it, and an undo rests on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.audit.models import Attempt, Outcome
from app.domain.describe import rfc3339
from app.reconcile.reconciler import Reconciler
from tests.integration.test_plugin_hand import answered, orders
from tests.peer import Peer, Refuse
from tests.world import PERSON, World, by_a_person

Beside = Callable[..., Reconciler]


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    world.stuck(ended_ago=3_600)
    made = Peer(world.store())
    made.load_plugin()
    yield made
    made.stop()


@pytest.fixture
def reconciler(peer: Peer, beside: Beside) -> Reconciler:
    return beside(peer, auto_repair=False)


def answer(peer: Peer, **payload: Any) -> None:
    peer.on["clawmend.settle"] = lambda _: payload


@pytest.mark.parametrize(
    ("said", "outcome", "why"),
    [
        ({"reason": "recovering", "detail": "a word"}, Outcome.REFUSED, "recovering (a word)"),
        ({"reason": "active-run", "detail": "a word"}, Outcome.SUPERSEDED, "active-run (a word)"),
        ({"reason": "changed"}, Outcome.SUPERSEDED, "changed"),
        ({"reason": "changed-not"}, Outcome.REFUSED, "changed-not"),
        ({}, Outcome.REFUSED, "it does not say why"),
    ],
)
def test_why_the_plugin_changed_nothing(
    world: World, peer: Peer, reconciler: Reconciler, said: dict[str, Any], outcome: Outcome, why: str
) -> None:
    answer(peer, applied=False, **said)
    attempt = by_a_person(reconciler)
    assert (attempt.outcome, attempt.outcome_reason) == (outcome, f"the plugin changed nothing: {why}")
    assert (attempt.hand, attempt.told, attempt.finished_at) == ("plugin", None, world.clock.now())
    assert [c["name"] for c in attempt.edit] == ["status", "endedAt", "runtimeMs"], "the plan stays"


def test_whom_the_plugin_told_is_not_told_again(world: World, peer: Peer, reconciler: Reconciler) -> None:
    attempt = by_a_person(reconciler)
    assert (attempt.outcome, attempt.outcome_reason) == (Outcome.APPLIED, None)
    assert attempt.told == {"at": rfc3339(world.clock.now()), "answer": "as_repaired", "why": "by the plugin"}
    assert "sessions.patch" not in peer.methods()


def test_whom_the_plugin_could_not_tell_is_told_by_us(peer: Peer, reconciler: Reconciler) -> None:
    peer.on["clawmend.settle"] = lambda params: {**peer.settle_row(params), "told": {"sessions": False}}
    attempt = by_a_person(reconciler)
    assert (attempt.told or {})["why"] != "by the plugin"
    assert peer.methods()[-1] == "sessions.patch"


def test_what_it_says_to_have_written_is_compared_with_the_order(peer: Peer, reconciler: Reconciler) -> None:
    peer.on["clawmend.settle"] = lambda params: {**peer.settle_row(params), "after": {"status": "failed"}}
    attempt = by_a_person(reconciler)
    assert attempt.outcome == Outcome.UNKNOWN
    assert attempt.outcome_reason == "the plugin says that it has written something else"
    assert [c["name"] for c in attempt.edit] == ["status", "endedAt", "runtimeMs"]


def test_what_it_did_besides_is_kept_and_what_it_left_alone_is_not(peer: Peer, reconciler: Reconciler) -> None:
    def besides(params: dict[str, Any]) -> dict[str, Any]:
        done = peer.settle_row(params)
        before = {**done["before"], "lifecycleRunId": "r", "same": 1}
        return {**done, "before": before, "after": {**done["after"], "lastRunId": "r", "same": 1}}

    peer.on["clawmend.settle"] = besides
    attempt = by_a_person(reconciler)
    ended, runtime = attempt.after["endedAt"], attempt.after["runtimeMs"]
    assert {c["name"]: (c["before"], c["after"]) for c in attempt.edit} == {
        "status": ('"running"', '"failed"'),
        "endedAt": (None, str(ended)),
        "runtimeMs": (None, str(runtime)),
        "lifecycleRunId": ('"r"', None),
        "lastRunId": (None, '"r"'),
    }


def test_an_order_to_undo_names_every_field_and_leaves_out_what_was_not_there(
    world: World, peer: Peer, reconciler: Reconciler
) -> None:
    before = world.row()
    repair = by_a_person(reconciler)
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, undo.outcome_reason, undo.hand) == (Outcome.APPLIED, None, "plugin")
    (order,) = orders(peer, "clawmend.undo")
    assert order["agentId"] == "main"
    assert {f["name"]: (f.get("before", "absent"), f.get("after", "absent")) for f in order["fields"]} == {
        change["name"]: tuple(
            "absent" if change[side] is None else json.loads(change[side]) for side in ("before", "after")
        )
        for change in repair.edit
    }
    assert {name for field in order["fields"] for name in field} == {"name", "before", "after"}
    assert world.row() == before


def then(reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """It happens as soon as the intent is in the audit."""
    opened = reconciler.audit.open

    def open_and_go_on(attempt: Attempt) -> None:
        opened(attempt)
        happens()

    monkeypatch.setattr(reconciler.audit, "open", open_and_go_on)


def test_a_store_that_is_gone_when_the_order_is_to_be_given_is_refused(
    world: World, peer: Peer, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = answered(reconciler)
    then(reconciler, monkeypatch, world.store().unlink)
    attempt = reconciler.repairer.settle(finding, PERSON)
    assert (attempt.outcome, attempt.outcome_reason) == (Outcome.REFUSED, "it is not there")
    assert orders(peer) == []


def test_a_store_that_is_nonsense_when_the_order_is_to_be_given_is_refused(
    world: World, peer: Peer, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = answered(reconciler)
    then(reconciler, monkeypatch, lambda: world.store().write_bytes(b"nonsense"))
    attempt = reconciler.repairer.settle(finding, PERSON)
    assert attempt.outcome == Outcome.REFUSED
    assert attempt.outcome_reason
    assert orders(peer) == []


def test_a_turn_that_begins_before_the_order_is_given_is_the_reason_why_none_is(
    world: World, peer: Peer, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = answered(reconciler)
    then(reconciler, monkeypatch, lambda: world.edit_row(startedAt=world.clock.now()))
    attempt = reconciler.repairer.settle(finding, PERSON)
    assert (attempt.outcome, orders(peer)) == (Outcome.SUPERSEDED, [])
    assert attempt.outcome_reason == "another turn has begun in this session"


def test_what_the_plugin_failed_at_is_told_in_its_words(peer: Peer, reconciler: Reconciler) -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("CLAWMEND_FAILED", "another row than was written")

    peer.on["clawmend.settle"] = fail
    attempt = by_a_person(reconciler)
    assert attempt.outcome == Outcome.UNKNOWN
    assert attempt.outcome_reason == "the plugin failed at it (CLAWMEND_FAILED: another row than was written)"
