"""What a look makes of an outcome, when it is taken, and what is left of a crash: each with its words."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt
from app.domain.describe import rfc3339
from app.reconcile.asking import Ask
from app.reconcile.looks import AFTER_SECONDS, MOST_LOOKS, Looker
from app.reconcile.reconciler import Reconciler
from tests.integration.test_publish import fail
from tests.world import STUCK_KEY, World, attempts, finding_of, run_pass


class Repaired:
    """A repair of a person, decided at this moment; its looks are taken by hand."""

    def __init__(self, world: World) -> None:
        world.stuck()
        self.world = world
        self.before = world.store().read_bytes()
        self.reconciler: Reconciler = world.reconciler(auto_repair=False)
        finding = finding_of(run_pass(self.reconciler))
        self.attempt = self.reconciler.repairer.settle(finding, Ask("cli", "a person", "it is over"))
        self.after = world.store().read_bytes()
        self.at = world.clock.now()
        self.looker = Looker(world.clock, self.reconciler.audit, 1 << 30)

    def was(self, **columns: Any) -> None:
        """Let the audit say something else of the attempt."""
        self.reconciler.audit.change(self.attempt.id, **columns)

    def now_is(self) -> Attempt:
        found = self.reconciler.audit.get(self.attempt.id)
        assert found is not None
        return found

    def look(self, after: float) -> list[Attempt]:
        self.world.clock.advance(after - (self.world.clock.now() - self.at) / 1000)
        return self.looker.take_due()

    def beside(self, name: str, data: bytes) -> Path:
        """A file as this attempt would have left it."""
        path = self.world.sessions() / f".clawmend-{self.attempt.id}{name}"
        path.write_bytes(data)
        return path

    def left_open(self) -> Attempt:
        """As a crash would leave it, then resolved."""
        self.was(outcome=None, outcome_reason=None, mode=None, decided_at=None)
        assert self.looker.resolve_left_open() == 1
        return self.now_is()


@pytest.fixture
def repaired(world: World) -> Repaired:
    return Repaired(world)


# --- when ---


def test_the_next_look_is_due_so_long_after_the_decision_and_after_the_intent_where_there_was_none(
    repaired: Repaired,
) -> None:
    due = [
        repaired.looker.next_due(attempt) - repaired.at
        for looks in range(5)
        for attempt in [replace(repaired.attempt, looks=[{}] * looks, decided_at=repaired.at)]
    ]
    assert due == [1_000, 5_000, 60_000, 120_000, 240_000]
    assert AFTER_SECONDS == (1, 5, 60)
    undecided = replace(repaired.attempt, decided_at=None, opened_at=repaired.at - 7)
    assert repaired.looker.next_due(undecided) == repaired.at - 7 + 1_000


@pytest.mark.parametrize(("jump", "taken"), [(-0.001, 1), (0.0, 0)])
def test_a_clock_that_was_set_back_does_not_put_the_looks_off(repaired: Repaired, jump: float, taken: int) -> None:
    repaired.world.clock.jump(jump)
    repaired.looker.take_due()
    assert len(repaired.now_is().looks) == taken


def test_a_clock_that_was_set_back_before_it_was_decided_does_not_put_the_looks_off(repaired: Repaired) -> None:
    repaired.was(decided_at=None)
    repaired.world.clock.jump(-0.001)
    repaired.looker.take_due()
    assert len(repaired.now_is().looks) == 1


def test_one_attempt_that_is_not_due_does_not_keep_the_others_waiting(repaired: Repaired) -> None:
    world = repaired.world
    repaired.was(decided_at=repaired.at + 1)
    world.clock.advance(5)
    undone = repaired.reconciler.repairer.undo(repaired.attempt, Ask("cli", "a person", "not over"))
    repaired.was(decided_at=world.clock.now())
    world.clock.advance(0.5)
    repaired.reconciler.audit.change(undone.id, decided_at=world.clock.now() - 1_000)
    repaired.looker.take_due()
    looks = {a.id: len(a.looks) for a in attempts(repaired.reconciler)}
    assert looks == {repaired.attempt.id: 0, undone.id: 1}


def test_a_store_at_which_another_Clawmend_is_is_looked_at_later_and_the_others_now(repaired: Repaired) -> None:
    fd = os.open(repaired.world.sessions(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert repaired.look(1) == []
        assert not repaired.looker.finds_overwritten(repaired.now_is())
        assert repaired.now_is().looks == []
        assert repaired.world.clock.now() == repaired.at + 1_000, "nobody waits for it"
    finally:
        os.close(fd)
    repaired.look(1.1)
    assert len(repaired.now_is().looks) == 1


def test_a_look_that_another_Clawmend_has_just_taken_is_not_taken_twice(repaired: Repaired) -> None:
    stale = repaired.now_is()
    repaired.look(1)
    repaired.world.write_store(repaired.before)
    assert not repaired.looker.finds_overwritten(stale)
    assert [look["found"] for look in repaired.now_is().looks] == ["as_written"]


def test_an_attempt_whose_last_look_was_taken_elsewhere_is_left_alone(repaired: Repaired) -> None:
    stale = repaired.now_is()
    repaired.was(finished_at=repaired.at)
    repaired.world.write_store(repaired.before)
    assert not repaired.looker.finds_overwritten(stale)
    assert repaired.now_is().looks == []


# --- what a look makes of an outcome ---


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


# --- what is put away ---


@pytest.mark.parametrize("version", ["before", "after", "nothing", "torn"])
def test_what_is_ours_or_an_ancestor_of_what_is_live_is_put_away(repaired: Repaired, version: str) -> None:
    data = {"before": repaired.before, "after": repaired.after, "nothing": b"", "torn": repaired.after[:50]}[version]
    if version == "torn":
        repaired.world.write_store(repaired.before)  # ours never came to be live
        repaired.was(outcome="unknown")
    left = repaired.beside(".tmp", data)
    repaired.look(1)
    assert not left.exists()


def test_a_version_that_is_live_is_put_away_whoever_wrote_it(repaired: Repaired) -> None:
    repaired.world.edit_row(label="a")
    left = repaired.beside(".tmp", repaired.world.store().read_bytes())
    repaired.look(1)
    assert not left.exists()


@pytest.mark.parametrize("name", [".tmp.kept", ".tmp"])
def test_a_version_that_only_the_gateway_can_have_written_is_kept_and_said_at_the_last_look(
    repaired: Repaired, name: str
) -> None:
    left = repaired.beside(name, b'{"agent:main:other": {}}')
    if name == ".tmp":
        repaired.world.edit_row(label="a")  # built on ours: ours is not live any more
    for moment in (1, 5):
        repaired.look(moment)
        assert repaired.now_is().outcome == "applied"
    repaired.look(60)
    now = repaired.now_is()
    assert left.read_bytes() == b'{"agent:main:other": {}}'
    assert (now.outcome, now.outcome_reason, now.finished_at) == (
        "unknown",
        f"a version that the gateway wrote is kept in .clawmend-{now.id}{name}",
        repaired.at + 60_000,
    )


def test_a_gateway_version_that_ours_displaced_is_put_back_while_ours_is_live(repaired: Repaired) -> None:
    left = repaired.beside(".tmp", b'{"agent:main:other": {}}')
    repaired.look(1)
    assert (repaired.world.store().read_bytes(), left.exists()) == (b'{"agent:main:other": {}}', False)


def test_a_gateway_version_that_was_torn_is_never_put_back(repaired: Repaired) -> None:
    left = repaired.beside(".tmp", b'{"agent:main:other')
    repaired.look(1)
    assert (repaired.world.store().read_bytes(), left.exists()) == (repaired.after, True)


def test_files_of_another_attempt_or_of_nobody_of_ours_are_left(repaired: Repaired) -> None:
    others = [repaired.world.sessions() / n for n in (".clawmend-0.tmp", "x.tmp", f"{repaired.attempt.id}.tmp")]
    for other in others:
        other.write_bytes(b"{}")
    repaired.look(1)
    assert [other.read_bytes() for other in others] == [b"{}"] * 3
    assert repaired.now_is().outcome == "applied"


def test_each_of_several_files_is_judged_by_itself(repaired: Repaired) -> None:
    kept = repaired.beside("-a.tmp", b'{"agent:main:other": {}}')
    ours = repaired.beside("-b.tmp", repaired.before)
    repaired.world.edit_row(label="a")
    repaired.look(1)
    assert (kept.exists(), ours.exists()) == (True, False)


@pytest.mark.parametrize("call", ["unlink", "fsync"])
def test_what_cannot_be_taken_away_is_come_back_to_ever_later_and_given_up_after_twelve_looks(
    repaired: Repaired, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = repaired.beside(".tmp", repaired.before)
    fail(monkeypatch, call, errno.EROFS)
    moments = [1, 5, 60, *(60 * 2**n for n in range(1, 10))]
    for taken, moment in enumerate(moments, 1):
        repaired.look(moment - 0.001)
        assert len(repaired.now_is().looks) == taken - 1
        repaired.look(moment)
        now = repaired.now_is()
        assert (len(now.looks), now.outcome) == (taken, "applied")
        assert now.finished_at == (None if taken < MOST_LOOKS else repaired.world.clock.now())
    assert (left.exists(), MOST_LOOKS) == (True, 12)


def test_what_tells_an_outcome_is_not_taken_away_before_a_look_has_written_it_down(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = repaired.beside(".tmp", repaired.before)
    repaired.was(outcome="unknown", outcome_reason="the disk failed")
    repaired.world.write_store(repaired.before)

    def no_room(*_: object, **__: object) -> None:
        raise AuditUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "add_look", no_room)
        with pytest.raises(AuditUnavailable):
            repaired.look(1)
    assert left.exists()
    repaired.look(1.1)
    assert (repaired.now_is().outcome, left.exists()) == ("overwritten", False)


def test_what_could_not_be_taken_away_at_first_is_taken_away_later_and_then_it_is_over(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = repaired.beside(".tmp", repaired.before)
    with monkeypatch.context() as patch:
        fail(patch, "unlink", errno.EROFS)
        for moment in (1, 5, 60):
            repaired.look(moment)
    repaired.look(120)
    assert not left.exists()
    assert repaired.now_is().finished_at == repaired.at + 120_000


def test_a_file_of_ours_that_cannot_be_read_now_is_not_put_away_by_guess(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = repaired.beside(".tmp", repaired.before)
    with monkeypatch.context() as patch:
        fail(patch, "pread", errno.EIO)
        for moment in (1, 5, 60):
            repaired.look(moment)
    assert left.read_bytes() == repaired.before
    now = repaired.now_is()
    assert ([look["found"] for look in now.looks], now.finished_at) == (["unreadable"] * 3, None)
    assert (now.outcome, now.outcome_reason) == ("applied", None)
    repaired.look(120)
    assert (left.exists(), repaired.now_is().finished_at) == (False, repaired.at + 120_000)


def test_one_found_overwritten_is_over_unless_something_of_ours_is_still_there(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired.beside(".tmp", repaired.after)
    repaired.world.write_store(repaired.before)
    with monkeypatch.context() as patch:
        fail(patch, "unlink", errno.EROFS)
        assert [a.id for a in repaired.look(1)] == [repaired.attempt.id]
        assert repaired.now_is().finished_at is None
    assert repaired.look(5) == []
    assert (repaired.now_is().outcome, len(repaired.now_is().looks)) == ("overwritten", 2)


# --- after a crash ---


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
    audit = repaired.reconciler.audit
    undone = repaired.reconciler.repairer.undo(repaired.attempt, Ask("cli", "a person", "not over"))
    for attempt in (repaired.attempt, undone):
        audit.change(attempt.id, outcome=None, decided_at=None)
    first, second = sorted(audit.left_open(), key=lambda attempt: attempt.id)
    if held_up == "resolved":
        repaired.was(outcome="applied", outcome_reason="by another")
    fd = os.open(repaired.world.sessions(), os.O_RDONLY)

    def left_open() -> Iterator[Attempt]:
        if held_up == "busy":
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield first
        fcntl.flock(fd, fcntl.LOCK_UN)
        yield second

    monkeypatch.setattr(audit, "left_open", left_open)
    try:
        assert repaired.looker.resolve_left_open() == (2 if held_up == "by nothing" else 1)
    finally:
        os.close(fd)
    resolved = audit.get(undone.id)
    assert resolved is not None
    assert resolved.outcome == "applied"


def test_a_look_knows_a_row_that_was_changed_by_a_later_repair(repaired: Repaired) -> None:
    repaired.world.clock.advance(0.5)
    repaired.reconciler.repairer.undo(repaired.attempt, Ask("cli", "a person", "not over"))
    repaired.look(1)
    now = repaired.now_is()
    assert ([look["found"] for look in now.looks], now.outcome) == (["changed_again"], "applied")
    assert STUCK_KEY in repaired.world.rows()
