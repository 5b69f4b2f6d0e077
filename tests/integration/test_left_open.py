"""What a crash left open is resolved from the disk, each with its words."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace

import pytest

from app.reconcile.asking import Ask
from tests.repaired import Repaired


@pytest.mark.parametrize(
    ("store", "left", "outcome", "why"),
    [
        ("after", None, "applied", "found open at start; the disk shows that it was written"),
        ("after", "before", "applied", "found open at start; the disk shows that it was written"),
        ("before", None, "unknown", "found open at start; the disk does not tell whether it was written (as_before)"),
        ("before", "after", "refused", "found open at start; the disk shows that nothing was written (as_before)"),
        (
            "another turn",
            "before",
            "applied",
            "found open at start; ours was live, and the row has moved on (moved_on)",
        ),
        (
            "another turn",
            "after",
            "superseded",
            "found open at start; the disk shows that nothing was written (moved_on)",
        ),
        (
            "before again",
            "before",
            "overwritten",
            "found open at start; ours was live, and a gateway write has put the row back",
        ),
        ("torn", None, "unknown", "found open at start; the disk does not tell whether it was written (unreadable)"),
        ("gone", None, "unknown", "found open at start; the disk does not tell whether it was written (gone)"),
        (
            "another turn",
            None,
            "unknown",
            "found open at start; the disk does not tell whether it was written (moved_on)",
        ),
        (
            "another turn",
            "another",
            "unknown",
            "found open at start; a version that the gateway wrote is kept in {left}",
        ),
    ],
)
def test_what_a_crash_left_open_is_resolved_from_the_disk_in_these_words(
    repaired: Repaired, store: str, left: str | None, outcome: str, why: str
) -> None:
    world = repaired.world
    match store:
        case "before":
            world.write_store(repaired.before)
        case "before again":
            world.write_store(repaired.before)
            world.edit_row(label="a")
        case "torn":
            world.write_store(b"{")
        case "gone":
            world.store().unlink()
        case "another turn":
            world.edit_row(startedAt=7)
    versions = {"before": repaired.before, "after": repaired.after, "another": b'{"agent:main:other": {}}'}
    if left is not None:
        why = why.format(left=repaired.beside(".tmp", versions[left]).name)

    now = repaired.left_open()

    assert (now.outcome, now.outcome_reason) == (outcome, why)
    assert (now.decided_at, now.finished_at, now.looks) == (world.clock.now(), None, [])


def test_a_folder_that_is_gone_leaves_it_unknown_and_the_others_are_resolved(repaired: Repaired) -> None:
    world = repaired.world
    world.sessions().rename(world.sessions().with_name("elsewhere"))
    now = repaired.left_open()
    assert (now.outcome, now.outcome_reason) == (
        "unknown",
        "found open at start; the store's folder: it is not there",
    )
    assert now.decided_at == world.clock.now()


@pytest.mark.parametrize("open_", [False, True], ids=["look", "left open"])
def test_a_folder_that_became_a_link_is_not_followed_and_nothing_behind_it_is_touched(
    repaired: Repaired, open_: bool
) -> None:
    left, sessions = repaired.beside(".tmp", repaired.after), repaired.world.sessions()
    elsewhere = sessions.with_name("elsewhere")
    sessions.rename(elsewhere)
    sessions.symlink_to(elsewhere)
    if open_:
        now = repaired.left_open()
        assert (now.outcome, now.outcome_reason) == (
            "unknown",
            "found open at start; the store's folder: it is a symbolic link, which is not followed",
        )
    else:
        repaired.look(1)
        assert [look["found"] for look in repaired.now_is().looks] == ["unreadable"]
    assert (elsewhere / left.name).exists()


@pytest.mark.parametrize(("outcome", "moments"), [("applied", [1, 5, 60]), ("overwritten", [1])])
def test_a_folder_that_is_gone_has_no_more_looks_than_another(
    repaired: Repaired, outcome: str, moments: list[int]
) -> None:
    repaired.was(outcome=outcome)
    repaired.world.sessions().rename(repaired.world.sessions().with_name("elsewhere"))
    for moment in moments:
        assert repaired.now_is().finished_at is None
        repaired.look(moment)
    now = repaired.now_is()
    assert ([look["found"] for look in now.looks], now.outcome) == (["gone"] * len(moments), outcome)
    assert now.finished_at == repaired.at + moments[-1] * 1_000


def test_nothing_open_is_nothing_to_resolve(repaired: Repaired) -> None:
    assert repaired.looker.resolve_left_open() == 0
    assert repaired.now_is() == repaired.attempt


def test_what_another_process_is_at_is_not_resolved_and_one_that_it_resolved_meanwhile_is_not_changed(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired.was(outcome=None)
    audit = repaired.reconciler.audit
    stale = audit.left_open()
    fd = os.open(repaired.world.sessions(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert repaired.looker.resolve_left_open() == 0
        assert repaired.world.clock.now() == repaired.at, "nobody waits for it"
    finally:
        os.close(fd)
    repaired.was(outcome="applied", outcome_reason="by another")
    monkeypatch.setattr(audit, "left_open", lambda: stale)
    assert repaired.looker.resolve_left_open() == 0
    assert repaired.now_is().outcome_reason == "by another"


@pytest.mark.parametrize("held_up", ["busy", "resolved", "by nothing"])
def test_one_that_is_not_resolved_here_does_not_keep_the_others_open(
    repaired: Repaired, held_up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, world = repaired.reconciler.audit, repaired.world
    undone = repaired.reconciler.repairer.undo(repaired.attempt, Ask("cli", "a person", "not over"))
    for attempt in (repaired.attempt, undone):
        audit.change(attempt.id, outcome=None, decided_at=None)
    first, second = sorted(audit.left_open(), key=lambda attempt: attempt.id)
    world.write_store(world.store().read_bytes(), agent="another")
    elsewhere = replace(first, store_path=str(world.store("another")))
    monkeypatch.setattr(audit, "left_open", lambda: [elsewhere, second])
    if held_up == "resolved":
        repaired.was(outcome="applied", outcome_reason="by another")
    fd = os.open(world.sessions("another"), os.O_RDONLY)
    if held_up == "busy":
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert repaired.looker.resolve_left_open() == (2 if held_up == "by nothing" else 1)
    finally:
        os.close(fd)
    resolved = audit.get(undone.id)
    assert resolved is not None
    assert resolved.outcome == "applied"
