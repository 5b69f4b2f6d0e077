"""What lies beside a store after a repair: what a look puts away, puts back, keeps or comes back to."""

from __future__ import annotations

import errno

import pytest

from app.audit.log import AuditLog, AuditUnavailable
from app.reconcile.looks import MOST_LOOKS
from tests.integration.test_publish import fail
from tests.repaired import Repaired


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


def test_of_several_versions_that_a_crossing_has_left_those_stay_that_are_not_live(repaired: Repaired) -> None:
    repaired.was(outcome="unknown")
    repaired.world.edit_row(label="a")  # built on what another one lacks
    live = repaired.world.store().read_bytes()
    beside = {".tmp": b'{"a": {}}', ".tmp.kept1": live, ".tmp.kept2": b'{"b": {}}', ".tmp.kept3": b'{"c": {}}'}
    left = [repaired.beside(name, data) for name, data in beside.items()]
    for moment in (1, 5, 60):
        repaired.look(moment)
        assert [each.exists() for each in left] == [True, False, True, True]
    now = repaired.now_is()
    names = ", ".join(f".clawmend-{now.id}{name}" for name in (".tmp", ".tmp.kept2", ".tmp.kept3"))
    assert (now.outcome, now.outcome_reason) == ("unknown", f"a version that the gateway wrote is kept in {names}")


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


def test_what_cannot_be_read_for_days_is_put_away_when_it_can_be_and_few_looks_are_written(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found on 22 November 2026 by the model: after nine hours nobody came back for it, and it stayed for ever."""
    left = repaired.beside(".tmp", repaired.before)
    with monkeypatch.context() as patch:
        fail(patch, "pread", errno.EIO)
        for hour in range(1, 80):
            repaired.look(hour * 3_600)
    now = repaired.now_is()
    assert ([look["found"] for look in now.looks], now.finished_at) == (["unreadable"] * MOST_LOOKS, None)
    assert left.read_bytes() == repaired.before
    repaired.look(80 * 3_600)
    now = repaired.now_is()
    assert (left.exists(), now.looks[-1]["found"], now.finished_at) == (False, "as_written", repaired.at + 288_000_000)


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
