"""What a repair that could not be put in place says of itself: the person who reads the audit has nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from app.openclaw import lease, stepping_back, swap
from app.openclaw import publish as protocol
from app.openclaw.folder import FileProblem
from tests.integration.test_crossings import TEMP, after_each_exchange, writes
from tests.integration.test_publish import (
    LIMIT,
    NAME,
    Store,
    before_each_exchange,
    fail,
    store,
    without_exchange,
)

__all__ = ["store"]

Patch = pytest.MonkeyPatch
Arranged = Callable[[Store, Patch], None]


def raising(number: int) -> Callable[[], None]:
    def moment() -> None:
        raise OSError(number, os.strerror(number))

    return moment


def already_open(_: Store, patch: Patch) -> None:
    def hold_shut(_: int) -> bool:
        raise lease.AlreadyOpen

    patch.setattr(lease, "hold_shut", hold_shut)


def no_rename(_: Store, patch: Patch) -> None:
    without_exchange(patch)
    fail(patch, "rename", errno.EIO)


def unlink_fails(_: Store, patch: Patch) -> None:
    without_exchange(patch)
    fail(patch, "unlink", errno.EROFS)


@pytest.mark.parametrize(
    ("arrange", "allow_rename", "words"),
    [
        (already_open, False, "another process has opened the new version before it was in place"),
        (
            lambda _, patch: before_each_exchange(patch, raising(errno.EIO)),
            False,
            "the store could not be exchanged: Input/output error",
        ),
        (no_rename, True, "the store could not be replaced: Input/output error"),
        (
            lambda _, patch: fail(patch, "open", errno.EROFS),
            False,
            "no file could be made beside the store: Read-only file system",
        ),
        (
            lambda _, patch: fail(patch, "write", errno.ENOSPC),
            False,
            "the new version could not be written: No space left on device",
        ),
        (unlink_fails, False, f"the disk fails, and {TEMP} may come back: Read-only file system"),
    ],
    ids=["open already", "exchange", "rename", "open", "write", "unlink"],
)
def test_a_write_that_failed_says_what_failed_and_why(
    store: Store, arrange: Arranged, allow_rename: bool, words: str, monkeypatch: Patch
) -> None:
    change = store.change()
    with monkeypatch.context() as patch:
        arrange(store, patch)
        with pytest.raises(swap.WriteFailed) as raised:
            store.publish(change, allow_rename=allow_rename)
    assert str(raised.value) == words
    assert store.path.read_bytes() == change.base.data


def test_a_file_system_that_is_too_weak_says_which_setting_allows_less(store: Store, monkeypatch: Patch) -> None:
    without_exchange(monkeypatch)
    with pytest.raises(protocol.NoExchange) as raised:
        store.publish()
    assert str(raised.value) == (
        "this file system has no exchange of names or no leases (CLAWMEND_WEAK_STORES=rename allows less)"
    )


def test_a_disk_that_does_not_confirm_says_so(store: Store, monkeypatch: Patch) -> None:
    fail(monkeypatch, "fsync", errno.EIO, lambda fd: fd == store.folder.fd)
    with pytest.raises(protocol.NotDurable) as raised:
        store.publish()
    assert str(raised.value) == "the folder could not be synced: Input/output error"


def test_a_crossing_that_fails_says_in_which_file_a_gateway_version_may_lie(store: Store, monkeypatch: Patch) -> None:
    before_each_exchange(monkeypatch, writes(store, updatedAt=21), raising(errno.EIO))
    with pytest.raises(stepping_back.VersionsKept) as raised:
        store.publish()
    assert str(raised.value) == f"a gateway version may lie in {TEMP}*: [Errno 5] Input/output error"


def test_a_version_that_is_kept_says_where_and_why(store: Store, monkeypatch: Patch) -> None:
    real, taken = lease.hold_shut, 0

    def only_ours(fd: int) -> bool:
        nonlocal taken
        taken += 1
        return real(fd) if taken == 1 else False

    monkeypatch.setattr(lease, "hold_shut", only_ours)
    before_each_exchange(monkeypatch, writes(store, first=1), writes(store, second=2))
    after_each_exchange(monkeypatch, None, writes(store, third=3))
    with pytest.raises(stepping_back.VersionsKept) as raised:
        store.publish()
    assert str(raised.value) == f"a gateway version is kept in {TEMP}, since another took its place meanwhile"
    assert list(store.ours()) == [TEMP]


def test_a_store_that_must_not_be_replaced_says_why(store: Store, monkeypatch: Patch) -> None:
    owner = store.path.stat().st_uid
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: owner + 1)
        with pytest.raises(FileProblem) as foreign:
            protocol.read_for_writing(store.folder, NAME, LIMIT)
    store.path.with_name("second").hardlink_to(store.path)
    with pytest.raises(FileProblem) as linked:
        protocol.read_for_writing(store.folder, NAME, LIMIT)
    assert foreign.value.detail == "it belongs to another user; run Clawmend as the gateway's user"
    assert linked.value.detail == "it has a second name; replacing one would part the two"
