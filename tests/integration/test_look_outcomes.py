"""What a look makes of an outcome, each with its words."""

from __future__ import annotations

import pytest

from app.domain.describe import rfc3339
from app.reconcile.asking import Ask
from app.reconcile.looks import Looker
from tests.repaired import Repaired
from tests.world import STUCK_KEY


@pytest.mark.parametrize(
    ("was", "store", "outcome", "why"),
    [
        ("unknown", "after", "applied", "found on disk as it was to be written"),
        ("superseded", "after", "applied", "found on disk as it was to be written"),
        ("applied", "after", "applied", "a reason"),
        ("refused", "after", "refused", "a reason"),
        ("unknown", "before", "unknown", "a reason"),
        ("superseded", "before", "superseded", "a reason"),
        ("refused", "before", "refused", "a reason"),
        ("applied", "before", "overwritten", "a gateway write that began before ours has put the row back"),
        ("unknown", "torn", "unknown", "a reason"),
        ("applied", "gone", "applied", "a reason"),
    ],
)
def test_what_is_found_decides_what_the_outcome_becomes(
    repaired: Repaired, was: str, store: str, outcome: str, why: str
) -> None:
    repaired.was(outcome=was, outcome_reason="a reason")
    if store == "gone":
        repaired.world.store().unlink()
    else:
        data = {"after": repaired.after, "before": repaired.before, "torn": b"{"}[store]
        repaired.world.write_store(data)

    overwritten = repaired.look(1)

    now = repaired.now_is()
    assert (now.outcome, now.outcome_reason) == (outcome, why)
    assert [a.id for a in overwritten] == ([repaired.attempt.id] if outcome == "overwritten" else [])
    assert now.finished_at == (repaired.at + 1_000 if outcome == "overwritten" else None)


@pytest.mark.parametrize(
    ("was", "store", "beside", "outcome", "why"),
    [
        ("unknown", "before", "after", "refused", "the disk shows that nothing was written (a reason)"),
        ("unknown", "another turn", "after", "unknown", "a reason"),
        ("superseded", "before", "after", "superseded", "a reason"),
        (
            "unknown",
            "before",
            "before",
            "overwritten",
            "a gateway write that began before ours has put the row back",
        ),
        ("unknown", "another turn", "before", "unknown", "a reason"),
        ("superseded", "before", "before", "superseded", "a reason"),
    ],
)
def test_what_lies_beside_it_decides_what_an_unknown_outcome_becomes(
    repaired: Repaired, was: str, store: str, beside: str, outcome: str, why: str
) -> None:
    repaired.was(outcome=was, outcome_reason="a reason")
    repaired.beside(".tmp", {"before": repaired.before, "after": repaired.after}[beside])
    if store == "before":
        repaired.world.write_store(repaired.before)
    else:
        repaired.world.edit_row(startedAt=7)
    repaired.look(1)
    assert (repaired.now_is().outcome, repaired.now_is().outcome_reason) == (outcome, why)


def test_a_repair_found_overwritten_before_its_look_is_due_is_said_to_be(repaired: Repaired) -> None:
    assert not repaired.looker.finds_overwritten(repaired.now_is())
    repaired.world.write_store(repaired.before)
    assert repaired.looker.finds_overwritten(repaired.now_is())
    found = [look["found"] for look in repaired.now_is().looks]
    assert (found, repaired.now_is().outcome) == (["as_written", "as_before"], "overwritten")


def test_an_undo_is_not_repeated_whatever_became_of_it(repaired: Repaired) -> None:
    repaired.was(kind="undo")
    repaired.world.write_store(repaired.before)
    assert not repaired.looker.finds_overwritten(repaired.now_is())
    assert repaired.now_is().looks == []
    assert repaired.look(1) == []
    assert repaired.now_is().outcome == "overwritten"


def test_one_that_was_overwritten_already_is_not_given_again(repaired: Repaired) -> None:
    repaired.was(outcome="overwritten")
    repaired.world.write_store(repaired.before)
    assert repaired.look(1) == []


@pytest.mark.parametrize(
    ("happens", "found"),
    [
        ("row of another session", "moved_on"),
        ("row of another turn", "moved_on"),
        ("row as before, of another turn", "moved_on"),
        ("no row", "gone"),
        ("no store", "gone"),
        ("no folder", "gone"),
        ("a link", "unreadable"),
        ("a list", "unreadable"),
        ("too large", "unreadable"),
    ],
)
def test_what_stands_there_is_called_by_its_name(repaired: Repaired, happens: str, found: str) -> None:
    world = repaired.world
    match happens:
        case "row of another session":
            world.edit_row(sessionId="another")
        case "row of another turn":
            world.edit_row(startedAt=7)
        case "row as before, of another turn":
            world.write_store(repaired.before)
            world.edit_row(startedAt=7)
        case "no row":
            world.write_store(b'{"another": {}}')
        case "no store":
            world.store().unlink()
        case "no folder":
            world.sessions().rename(world.sessions().with_name("elsewhere"))
        case "a link":
            world.store().rename(world.folder / "elsewhere.json")
            world.store().symlink_to(world.folder / "elsewhere.json")
        case "a list":
            world.write_store(b"[]")
        case "too large":
            repaired.looker = Looker(world.clock, repaired.reconciler.audit, len(repaired.after) - 1)
    repaired.look(1)
    assert repaired.now_is().looks == [{"at": rfc3339(repaired.at + 1_000), "found": found}]


def test_a_store_as_large_as_the_limit_is_read(repaired: Repaired) -> None:
    looker = Looker(repaired.world.clock, repaired.reconciler.audit, len(repaired.after))
    repaired.world.clock.advance(1)
    looker.take_due()
    assert repaired.now_is().looks[0]["found"] == "as_written"


def test_a_look_knows_a_row_that_was_changed_by_a_later_repair(repaired: Repaired) -> None:
    repaired.world.clock.advance(0.5)
    repaired.reconciler.repairer.undo(repaired.attempt, Ask("cli", "a person", "not over"))
    repaired.look(1)
    now = repaired.now_is()
    assert ([look["found"] for look in now.looks], now.outcome) == (["changed_again"], "applied")
    assert STUCK_KEY in repaired.world.rows()
