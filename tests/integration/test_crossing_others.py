"""What crosses ours need not be a file, and not everything can be asked about: it stands again all the same."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.openclaw import lease, stepping_back, swap
from app.openclaw.folder import FileProblem
from app.openclaw.publish import Crossed
from tests.integration.test_crossings import TEMP, after_each_exchange, writes
from tests.integration.test_publish import NAME, Store, before_each_exchange, dumped, fail, store

__all__ = ["store"]

Patch = pytest.MonkeyPatch


def a_link(store: Store) -> None:
    store.path.with_name("elsewhere.json").write_bytes(b"{}")
    store.path.unlink()
    store.path.symlink_to("elsewhere.json")


def a_link_to_nowhere(store: Store) -> None:
    store.path.unlink()
    store.path.symlink_to("nowhere")


def a_pipe(store: Store) -> None:
    store.path.unlink()
    os.mkfifo(store.path)


others = pytest.mark.parametrize("other", [a_link, a_link_to_nowhere, a_pipe])


def kind(store: Store) -> tuple[int, int]:
    st = store.path.lstat()
    return st.st_ino, st.st_mode


@others
def test_what_is_no_file_and_crosses_ours_stands_again_and_nothing_is_left(
    store: Store, other: Callable[[Store], None], monkeypatch: Patch
) -> None:
    crossed: list[tuple[int, int]] = []

    def crossing() -> None:
        other(store)
        crossed.append(kind(store))

    before_each_exchange(monkeypatch, crossing)
    assert isinstance(store.publish(), Crossed)
    assert crossed == [kind(store)]
    assert store.ours() == {}


@others
def test_what_is_no_file_and_comes_in_the_put_back_stands_and_nothing_is_left(
    store: Store, other: Callable[[Store], None], monkeypatch: Patch
) -> None:
    came: list[tuple[int, int]] = []

    def second() -> None:
        other(store)
        came.append(kind(store))

    before_each_exchange(monkeypatch, writes(store, updatedAt=21), second)
    assert isinstance(store.publish(), Crossed)
    assert came == [kind(store)]
    assert store.ours() == {}


def moved_and_linked_to(store: Store) -> None:
    store.path.rename(store.path.with_name("elsewhere.json"))
    store.path.symlink_to("elsewhere.json")


def test_where_ours_is_moved_and_linked_to_in_a_crossing_the_link_stands_and_what_crossed_is_kept(
    store: Store, monkeypatch: Patch
) -> None:
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    after_each_exchange(monkeypatch, lambda: moved_and_linked_to(store))
    with pytest.raises(stepping_back.VersionsKept):
        store.publish()
    assert store.path.readlink() == Path("elsewhere.json")
    assert dumped(store.own) in [path.read_bytes() for path in store.path.parent.iterdir()]


@others
def test_a_store_that_became_something_else_before_the_check_is_called_what_it_is(
    store: Store, other: Callable[[Store], None]
) -> None:
    change = store.change()
    other(store)
    with pytest.raises(FileProblem) as raised:
        store.publish(change)
    assert raised.value.code == ("not_a_file" if other is a_pipe else "symlink")
    assert [name for name in os.listdir(store.path.parent) if name.startswith(".clawmend")] == []


def test_the_second_name_of_a_link_that_crossed_is_of_the_link(store: Store, monkeypatch: Patch) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    before_each_exchange(monkeypatch, lambda: a_link(store), killed)
    with pytest.raises(KeyboardInterrupt):
        store.publish()
    kept = store.path.with_name(stepping_back.kept_name(TEMP))
    assert os.readlink(kept) == "elsewhere.json"
    assert store.path.with_name("elsewhere.json").stat().st_nlink == 1


def test_a_crossing_without_a_second_name_is_taken_back_all_the_same(store: Store, monkeypatch: Patch) -> None:
    """As on a file system that knows no hard links."""
    fail(monkeypatch, "link", errno.EPERM)
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    assert isinstance(store.publish(), Crossed)
    assert store.path.read_bytes() == dumped(store.own)


def test_a_store_that_cannot_be_asked_about_after_the_put_back_keeps_what_crossed(
    store: Store, monkeypatch: Patch
) -> None:
    change = store.change()
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    after_each_exchange(monkeypatch, None, lambda: fail(monkeypatch, "stat", errno.EIO, lambda name: name == NAME))
    with pytest.raises(stepping_back.VersionsKept, match="a gateway version may lie in "):
        store.publish(change)
    assert store.path.read_bytes() == dumped(store.own)
    assert store.ours() == {stepping_back.back_name(TEMP): change.new, stepping_back.kept_name(TEMP): dumped(store.own)}


def test_a_file_that_lies_under_our_name_already_is_not_written_over(store: Store) -> None:
    change, lies = store.change(), store.path.with_name(TEMP)
    lies.write_bytes(b"somebody's")
    with pytest.raises(swap.WriteFailed, match="no file could be made beside the store: File exists"):
        store.publish(change)
    assert (lies.read_bytes(), store.path.read_bytes()) == (b"somebody's", change.base.data)


def test_a_version_that_is_read_for_an_instant_can_be_held_shut_after_it(store: Store, monkeypatch: Patch) -> None:
    """Who had opened the first version while it was live closes it while we try to hold it."""
    real, taken = lease.hold_shut, 0

    def read_for_an_instant(fd: int) -> bool:
        nonlocal taken
        taken += 1
        if 2 <= taken <= 1_000:
            raise lease.AlreadyOpen
        return real(fd)

    monkeypatch.setattr(lease, "hold_shut", read_for_an_instant)
    before_each_exchange(monkeypatch, writes(store, first=1), writes(store, second=2))
    after_each_exchange(monkeypatch, None, writes(store, third=3))
    assert isinstance(store.publish(), Crossed)
    assert taken == 1_001
    assert store.path.read_bytes() == dumped(store.own)
    assert os.listdir(store.path.parent) == [NAME]


def test_a_version_on_which_another_process_has_a_lease_does_not_hold_up_the_put_back(
    store: Store, monkeypatch: Patch
) -> None:
    began, leased = time.monotonic(), list[int]()

    def crossing() -> None:
        writes(store, updatedAt=21)()
        leased.append(os.open(store.path, os.O_RDONLY))
        fcntl.fcntl(leased[0], fcntl.F_SETSIG, signal.SIGURG)  # the kernel's own choice would end us
        fcntl.fcntl(leased[0], fcntl.F_SETLEASE, fcntl.F_RDLCK)

    before_each_exchange(monkeypatch, crossing)
    assert isinstance(store.publish(), Crossed)
    os.close(leased[0])
    assert store.path.read_bytes() == dumped(store.own)
    assert time.monotonic() - began < 20, "the kernel would end that lease after 45 s"
