"""The small print of the exchange: what is known of the store afterwards, who waits how long, what stays open."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

import pytest

from app.openclaw import lease, stepping_back, swap
from app.openclaw import publish as protocol
from app.openclaw.publish import Crossed, Published
from tests.integration.test_crossing_others import a_link
from tests.integration.test_crossings import TEMP, writes
from tests.integration.test_publish import (
    NAME,
    OTHER,
    Store,
    before_each_exchange,
    dumped,
    fail,
    store,
    without_exchange,
)

__all__ = ["store"]

Patch = pytest.MonkeyPatch


def when(patch: Patch, call: str, first: object, happens: Callable[[], object]) -> list[object]:
    """Do that before each call of `os.<call>` whose first argument is `first`; gives a list that grows with each."""
    real, seen = getattr(os, call), []

    def called(given: object, *rest: object, **named: object) -> object:
        if given == first:
            seen.append(given)
            happens()
        return real(given, *rest, **named)

    patch.setattr(os, call, called)
    return seen


def can_be_opened(store: Store, name: str) -> Callable[[], None]:
    """Fails where whoever opens it would have to wait."""
    return lambda: os.close(os.open(store.path.with_name(name), os.O_RDONLY | os.O_NONBLOCK))


def same_bytes(store: Store) -> None:
    store.gateway_writes(lambda _: None)


def in_place(store: Store) -> None:
    st = store.path.stat()
    store.path.write_bytes(store.path.read_bytes().replace(b'"done"', b'"gone"'))
    os.utime(store.path, ns=(st.st_atime_ns, st.st_mtime_ns))


def second_name(store: Store) -> None:
    store.path.with_name("second").hardlink_to(store.path)


@pytest.mark.parametrize("crossing", [same_bytes, in_place, second_name])
def test_a_displaced_version_is_the_one_read_only_with_the_same_identity_the_same_bytes_and_no_other_name(
    store: Store, crossing: Callable[[Store], None], monkeypatch: Patch
) -> None:
    stood: list[tuple[int, bytes]] = []

    def crosses() -> None:
        crossing(store)
        stood.append((store.path.stat().st_ino, store.path.read_bytes()))

    before_each_exchange(monkeypatch, crosses)
    assert isinstance(store.publish(), Crossed)
    assert stood == [(store.path.stat().st_ino, store.path.read_bytes())]
    assert store.ours() == {}


@pytest.mark.parametrize(
    "happens",
    [lambda s: writes(s, updatedAt=21)(), lambda s: s.path.unlink(), a_link],
    ids=["written", "deleted", "made a link"],
)
def test_a_store_that_is_another_file_already_is_not_taken_for_ours(
    store: Store, happens: Callable[[Store], None], monkeypatch: Patch
) -> None:
    seen = when(monkeypatch, "unlink", TEMP, lambda: happens(store))
    done = store.publish()
    assert (done, len(seen)) == (Published("exchange", None), 1)


def test_ours_that_cannot_be_asked_about_once_it_is_live_is_not_called_durable(
    store: Store, monkeypatch: Patch
) -> None:
    real, stat, held = lease.hold_shut, os.fstat, [-1]

    def hold_shut(fd: int) -> bool:
        held[0] = fd
        return real(fd)

    def fstat(fd: int) -> os.stat_result:
        if fd == held[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(fd)

    change = store.change()
    monkeypatch.setattr(lease, "hold_shut", hold_shut)
    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(protocol.NotDurable):
        store.publish(change)
    assert store.path.read_bytes() == change.new


def test_who_waits_for_ours_does_not_wait_for_the_disk(store: Store, monkeypatch: Patch) -> None:
    seen = when(monkeypatch, "fsync", store.folder.fd, can_be_opened(store, NAME))
    store.publish()
    assert len(seen) == 1


def test_who_waits_for_the_gateways_version_does_not_wait_for_the_disk(store: Store, monkeypatch: Patch) -> None:
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    seen = when(monkeypatch, "fsync", store.folder.fd, can_be_opened(store, NAME))
    store.publish()
    assert len(seen) == 2


def test_who_waits_in_a_crossing_is_let_in_before_ours_is_taken_away(store: Store, monkeypatch: Patch) -> None:
    back = stepping_back.back_name(TEMP)
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    seen = when(monkeypatch, "unlink", back, can_be_opened(store, back))
    assert isinstance(store.publish(), Crossed)
    assert len(seen) == 1


def test_the_weaker_way_holds_nobody_up(store: Store, monkeypatch: Patch) -> None:
    def none_here() -> None:
        raise OSError(errno.EINVAL, "no exchange here")

    before_each_exchange(monkeypatch, none_here)
    seen = when(monkeypatch, "rename", TEMP, can_be_opened(store, TEMP))
    store.publish(allow_rename=True)
    assert len(seen) == 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_what_a_file_system_without_exchange_says_is_understood(store: Store, number: int, monkeypatch: Patch) -> None:
    def none_here() -> None:
        raise OSError(number, os.strerror(number))

    before_each_exchange(monkeypatch, none_here)
    with pytest.raises(protocol.NoExchange):
        store.publish()
    assert store.ours() == {}


def test_what_a_link_that_crossed_leads_to_is_not_held_shut(store: Store, monkeypatch: Patch) -> None:
    before_each_exchange(monkeypatch, lambda: a_link(store), can_be_opened(store, "elsewhere.json"))
    assert isinstance(store.publish(), Crossed)


def test_no_descriptor_stays_open_after_a_crossing_of_several_writes(store: Store, monkeypatch: Patch) -> None:
    before_each_exchange(monkeypatch, *(writes(store, **{f"field{n}": n}) for n in range(5)))
    change, before = store.change(), os.listdir("/proc/self/fd")
    assert isinstance(store.publish(change), Crossed)
    assert os.listdir("/proc/self/fd") == before
    assert store.path.read_bytes() == dumped(store.own)


def test_the_touch_leaves_the_time_of_the_last_reading(store: Store, monkeypatch: Patch) -> None:
    temp = store.path.with_name(TEMP)
    before_each_exchange(monkeypatch, lambda: os.utime(temp, ns=(7 * 10**9, 10**9)))
    store.publish()
    st = store.path.stat()
    assert (st.st_atime_ns, st.st_mtime_ns) == (7 * 10**9, 10**9 + 10**6)


def test_an_exchange_that_fails_says_what_the_system_says(store: Store, monkeypatch: Patch) -> None:
    ctypes.set_errno(0)  # what an earlier call left there is nothing that this one says
    monkeypatch.setattr(swap, "_renameat2", swap._load_renameat2())
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        swap.exchange(store.folder, "neither", "nor")
    without_exchange(monkeypatch)
    with pytest.raises(OSError, match="Function not implemented") as raised:
        swap.exchange(store.folder, NAME, NAME)
    assert raised.value.errno == errno.ENOSYS


def test_where_the_group_is_right_already_nobody_is_asked_to_change_it(store: Store, monkeypatch: Patch) -> None:
    fail(monkeypatch, "fchown", errno.EPERM)
    assert isinstance(store.publish(), Published)


def test_what_a_look_puts_back_is_on_the_disk_with_its_name(store: Store, monkeypatch: Patch) -> None:
    calls: list[str] = []
    real = os.fsync
    theirs = store.path.with_name("theirs")
    theirs.write_bytes(b"{}")
    inode = theirs.stat().st_ino

    def fsync(fd: int) -> None:
        calls.append({store.folder.fd: "folder"}.get(fd) or ("theirs" if os.fstat(fd).st_ino == inode else "ours"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    stepping_back.put_back(store.folder, NAME, "theirs")
    assert calls == ["theirs", "folder"]
    assert (store.path.read_bytes(), theirs.read_bytes()) == (b"{}", dumped(store.own))
    assert OTHER in store.own
