"""What an attempt left beside the store: what is taken away, what is put back, and what has to stay."""

from __future__ import annotations

import errno
import os

import pytest

from app.openclaw import swap
from app.openclaw.folder import Folder
from tests.integration.test_publish import before_each_exchange, fail, without_exchange
from tests.repaired import Repaired

THEIRS = b'{"agent:main:other": {}}'


def test_a_gateway_version_that_cannot_be_put_back_now_stays_and_ours_stays_live(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, other = repaired.beside(".tmp", THEIRS), repaired.beside(".tmp.kept", repaired.before)
    with monkeypatch.context() as patch:
        without_exchange(patch)
        repaired.look(1)
        assert (left.read_bytes(), repaired.world.store().read_bytes()) == (THEIRS, repaired.after)
        assert not other.exists(), "the others are looked at all the same"
    repaired.look(5)
    assert (left.exists(), repaired.world.store().read_bytes()) == (False, THEIRS)


def test_a_version_that_was_put_back_and_cannot_be_looked_at_then_is_live_and_ours_goes_later(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, other = repaired.beside(".tmp", THEIRS), repaired.beside(".tmp.kept", repaired.before)
    with monkeypatch.context() as patch:
        fail(patch, "stat", errno.EACCES, lambda name: name == "sessions.json")
        repaired.look(1)
        assert (left.read_bytes(), repaired.world.store().read_bytes()) == (repaired.after, THEIRS)
        assert not other.exists(), "the others are looked at all the same"
    repaired.look(5)
    assert (left.exists(), repaired.world.store().read_bytes()) == (False, THEIRS)


@pytest.mark.parametrize("theirs", [THEIRS, THEIRS + b"  "], ids=["to its end", "with blanks at its end"])
def test_what_comes_out_of_a_put_back_goes_when_the_very_same_bytes_are_live(
    repaired: Repaired, theirs: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway writes what it had written before, in the last instant before we put that back."""
    left = repaired.beside(".tmp", theirs)
    before_each_exchange(monkeypatch, lambda: repaired.world.write_store(theirs))
    repaired.look(1)
    assert (left.exists(), repaired.world.store().read_bytes()) == (False, theirs)


def test_a_store_of_no_bytes_that_comes_out_of_a_put_back_goes(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = repaired.beside(".tmp", THEIRS)
    before_each_exchange(monkeypatch, lambda: repaired.world.write_store(b""))
    repaired.look(1)
    assert (left.exists(), repaired.world.store().read_bytes()) == (False, THEIRS)


def test_what_comes_out_of_a_put_back_stays_when_something_else_is_live(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway writes on ours, in the last instant before its version before that is put back."""
    newer = b'{"agent:main:other": {"newer": 1}}'
    left = repaired.beside(".tmp", THEIRS)
    before_each_exchange(monkeypatch, lambda: repaired.world.write_store(newer))
    repaired.look(1)
    assert {left.read_bytes(), repaired.world.store().read_bytes()} == {THEIRS, newer}


def test_the_put_back_is_the_exchange_that_a_repair_uses(repaired: Repaired, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is deleted in its last instant is not brought back by it."""
    left = repaired.beside(".tmp", THEIRS)
    asked: list[tuple[str, str]] = []
    real = swap.exchange

    def exchange(folder: Folder, one: str, other: str) -> None:
        asked.append((one, other))
        repaired.world.store().unlink()
        real(folder, one, other)

    monkeypatch.setattr(swap, "exchange", exchange)
    repaired.look(1)
    assert asked == [(left.name, "sessions.json")]
    assert (left.read_bytes(), repaired.world.store().exists()) == (THEIRS, False)


def test_beside_a_store_that_is_gone_a_gateway_version_stays_and_ours_goes(repaired: Repaired) -> None:
    repaired.world.store().unlink()
    kept, ours = repaired.beside(".tmp.kept", THEIRS), repaired.beside(".tmp", repaired.after)
    repaired.look(1)
    assert (kept.exists(), ours.exists(), repaired.world.store().exists()) == (True, False, False)


# --- what is known by its name, and by what it was given to say ---

NEWER = b'{"agent:main:other": {"newer": 1}}'


def live(repaired: Repaired, data: bytes) -> None:
    repaired.world.write_store(data)


def left_after_a_look(repaired: Repaired) -> set[str]:
    repaired.look(1)
    prefix = f".clawmend-{repaired.attempt.id}"
    return {p.name.removeprefix(prefix) for p in repaired.world.sessions().glob(f"{prefix}*")}


@pytest.mark.parametrize("says", [b"half of", THEIRS, b""], ids=["torn", "a version", "nothing"])
def test_what_was_taken_back_is_put_away_whatever_it_says(repaired: Repaired, says: bytes) -> None:
    live(repaired, NEWER)
    repaired.beside(".tmp.back", says)
    assert left_after_a_look(repaired) == set()


@pytest.mark.parametrize("padding", [b"", b"   "], ids=["whole", "before its end was cut off"])
def test_what_whoever_waited_for_ours_has_read_need_not_be_kept(repaired: Repaired, padding: bytes) -> None:
    live(repaired, NEWER)
    repaired.beside(".tmp.back", THEIRS + b"\n" + padding)
    repaired.beside(".tmp.kept", THEIRS + b"\n")
    assert left_after_a_look(repaired) == set()


@pytest.mark.parametrize("padding", [b"", b"   "], ids=["whole", "before its end was cut off"])
def test_what_came_before_a_version_that_was_read_and_is_live_need_not_be_kept(
    repaired: Repaired, padding: bytes
) -> None:
    live(repaired, NEWER)
    repaired.beside(".tmp.back", NEWER + padding)
    repaired.beside(".tmp.kept", THEIRS)
    assert left_after_a_look(repaired) == set()


def test_what_crossed_is_kept_where_ours_still_says_what_was_ours(repaired: Repaired) -> None:
    live(repaired, NEWER)
    repaired.beside(".tmp.back", repaired.after)
    repaired.beside(".tmp.kept", THEIRS)
    assert left_after_a_look(repaired) == {".tmp.kept"}


def test_what_crossed_is_kept_where_ours_says_something_else_than_is_live_or_than_that(repaired: Repaired) -> None:
    live(repaired, NEWER)
    repaired.beside(".tmp.back", b'{"agent:main:third": {}}')
    repaired.beside(".tmp.kept", THEIRS)
    assert left_after_a_look(repaired) == {".tmp.kept"}


def test_of_the_same_bytes_one_file_is_kept(repaired: Repaired) -> None:
    live(repaired, NEWER)
    repaired.beside(".tmp.kept", THEIRS)
    repaired.beside(".tmp.kept1", THEIRS)
    repaired.beside(".tmp.kept2", b'{"agent:main:third": {}}')
    assert left_after_a_look(repaired) == {".tmp.kept", ".tmp.kept2"}


@pytest.mark.parametrize("found", ["moved_on", "as_before"])
def test_only_the_displaced_version_itself_tells_whether_ours_was_live(repaired: Repaired, found: str) -> None:
    if found == "moved_on":
        repaired.world.edit_row(startedAt=7)
    else:
        live(repaired, repaired.before)
    repaired.beside(".tmp.kept", repaired.before)
    now = repaired.left_open()
    assert (now.outcome, now.outcome_reason) == (
        "unknown",
        f"found open at start; the disk does not tell whether it was written ({found})",
    )


def test_an_attempt_that_was_killed_before_it_knew_what_to_write_has_written_nothing(repaired: Repaired) -> None:
    live(repaired, repaired.before)
    repaired.was(new_sha256=None)
    now = repaired.left_open()
    assert (now.outcome, now.outcome_reason) == (
        "refused",
        "found open at start; the disk shows that nothing was written (as_before)",
    )


def test_every_version_that_is_kept_is_named(repaired: Repaired) -> None:
    live(repaired, NEWER)
    kept = [repaired.beside(".tmp.kept", THEIRS).name, repaired.beside(".tmp.kept1", b'{"agent:main:third": {}}').name]
    said = f"found open at start; a version that the gateway wrote is kept in {kept[0]}, {kept[1]}"
    assert repaired.left_open().outcome_reason == said


def test_what_a_crash_left_is_taken_away_as_soon_as_it_is_known_what_became_of_it(repaired: Repaired) -> None:
    left = repaired.beside(".tmp", repaired.before)
    assert (repaired.left_open().outcome, left.exists()) == ("applied", False)


def test_what_tells_how_another_file_is_to_be_taken_goes_after_it(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(repaired, NEWER)
    for name, data in ((".tmp", repaired.after), (".tmp.back", THEIRS), (".tmp.kept", THEIRS)):
        repaired.beside(name, data)
    gone: list[str] = []
    real = os.unlink

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        gone.append(name.removeprefix(f".clawmend-{repaired.attempt.id}"))
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    repaired.look(1)
    assert gone == [".tmp.kept", ".tmp.back", ".tmp"]


@pytest.mark.parametrize("call", ["fsync", "unlink"])
def test_what_tells_how_another_file_is_to_be_taken_stays_while_that_one_cannot_be_taken_away(
    repaired: Repaired, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found on 22 November 2026: then nobody knew any more that the other may go, and it stayed for ever."""
    live(repaired, NEWER)
    repaired.beside(".tmp.back", THEIRS)
    kept = repaired.beside(".tmp.kept", THEIRS)
    real, failed = getattr(os, call), []

    def once(*args: object, **kwargs: object) -> None:
        if not failed:
            failed.append(call)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, once)
        repaired.look(1)
    assert (failed, kept.exists()) == ([call], True)
    repaired.look(5)
    assert not kept.exists()


def test_it_is_not_over_before_the_disk_confirms_that_what_was_taken_away_is_gone(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = repaired.beside(".tmp", repaired.before)
    for moment in (1, 5):
        repaired.look(moment)
    with monkeypatch.context() as patch:
        fail(patch, "fsync", errno.EIO)
        repaired.look(60)
    assert (left.exists(), repaired.now_is().finished_at) == (False, None)
    repaired.look(120)
    assert repaired.now_is().finished_at == repaired.at + 120_000


def test_a_file_that_goes_while_it_is_looked_at_is_gone_and_the_others_are_looked_at(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(repaired, NEWER)
    left, real = repaired.beside(".tmp.kept", repaired.after), os.listdir
    monkeypatch.setattr(os, "listdir", lambda at: [f".clawmend-{repaired.attempt.id}.tmp", *real(at)])
    repaired.look(1)
    assert not left.exists()
    assert repaired.now_is().looks[0]["found"] == "gone"
