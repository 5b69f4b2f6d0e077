"""Putting a new version of a store in place beside a gateway that takes no lock (design, section 3, steps 5 to 8).

1. write the new version beside the store (`O_EXCL`, 0600, same group), fsync it, hold it shut (app.openclaw.lease);
2. is the store still the file that was read? then exchange the two names (`renameat2(RENAME_EXCHANGE)`);
3. the displaced version is now in our hand. Is it, byte for byte, the one we read? Then it is an ancestor of what is
   live: let in who waits for ours, fsync the folder, touch the store once, unlink the displaced version;
4. if not, a gateway write slipped in: put the gateway's newest version back at once, and let who waits for ours read
   the gateway's version in its place. Nobody has read ours, so the gateway goes on as though we had never been there.

Not guaranteed: a process that is stopped for 45 s between 2 and 4 holds nobody shut out any more. Where exchange or
leases are not to be had, `rename` (only if allowed) loses a gateway write that lands between the check and the rename,
and cannot tell.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.model import FileIdentity
from app.openclaw import lease, swap
from app.openclaw.folder import FileProblem, Folder, identity_of
from app.openclaw.stepping_back import step_back
from app.openclaw.swap import OWN_PREFIX, WriteFailed

_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_ANY_SIZE = 1 << 40


class StoreChanged(Exception):
    """The store is no longer the file that was read: judge again."""


class NoExchange(Exception):
    """This file system cannot exchange two names or knows no leases, and the weaker way is not allowed."""


class NotDurable(Exception):
    """The new version is in place, but the disk did not confirm it."""


@dataclass(frozen=True, slots=True)
class StoreBytes:
    """One version of a store."""

    data: bytes
    identity: FileIdentity


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be published in the place of `base`."""

    base: StoreBytes
    new: bytes
    token: str
    """Names our files: the id of the repair attempt."""


@dataclass(frozen=True, slots=True)
class Published:
    """Ours is live. `mode` is `exchange`, or `rename` for the weaker way."""

    mode: str
    identity: FileIdentity | None
    """The store as we left it; None when the gateway has written since."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A gateway write slipped in; it is live again, and nobody has read ours."""


def read_for_writing(folder: Folder, name: str, limit: int) -> StoreBytes:
    """The store, if it may be replaced. Raises StoreChanged and FileProblem (also `hard_link`, `foreign_owner`)."""
    data, identity = folder.read(name, limit)
    with folder.opened(name) as (_, st):
        if st.st_nlink > 1:
            raise FileProblem("hard_link", "it has a second name; replacing one would part the two")
        if st.st_uid != os.geteuid():
            raise FileProblem("foreign_owner", "it belongs to another user; run Clawmend as the gateway's user")
        if identity_of(st) != identity or not st.st_nlink:
            raise StoreChanged
    return StoreBytes(data, identity)


def publish(folder: Folder, name: str, change: Change, *, allow_rename: bool) -> Published | Crossed:
    """Make `change.new` the store, or leave the gateway's own version there.

    Raises StoreChanged, NoExchange, WriteFailed (nothing of ours is live), NotDurable (ours is) and VersionsKept.
    """
    temp = f"{OWN_PREFIX}{change.token}.tmp"
    with _written_beside(folder, name, temp, change.new) as ours:
        try:
            mode = _go_live(folder, name, temp, ours, change, allow_rename=allow_rename)
        except (StoreChanged, NoExchange, WriteFailed, FileProblem):
            swap.unlink_for_good(folder, temp)
            raise
        if mode == "exchange":
            if not _is_the_one_read(folder, temp, change.base):
                step_back(folder, name, temp, ours)
                return Crossed()
            lease.let_in(ours)
        inode = _inode(ours)
        _make_durable(folder, ours)
    swap.unlink(folder, temp)
    return Published(mode, _while_it_is(folder, name, inode))


def _inode(fd: int) -> int | None:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None


def _while_it_is(folder: Folder, name: str, inode: int | None) -> FileIdentity | None:
    """The store's identity if it still is this file, as far as can be told: ours is live, whatever fails from here."""
    try:
        live = folder.identity(name)
    except FileProblem:
        return None
    return live if live is not None and live.ino == inode else None


def _go_live(folder: Folder, name: str, temp: str, ours: int, change: Change, *, allow_rename: bool) -> str:
    """Give the store's name to our file. Whatever this raises but an interrupt, ours is still `temp`."""
    try:
        held = lease.hold_shut(ours)
    except lease.AlreadyOpen:
        raise WriteFailed("another process has opened the new version before it was in place") from None
    if folder.identity(name) != change.base.identity:
        raise StoreChanged
    try:
        if held:
            swap.exchange(folder, temp, name)
            return "exchange"
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise StoreChanged from None  # deleted meanwhile: a store is never brought back
        if error.errno not in _NO_EXCHANGE:
            raise WriteFailed(f"the store could not be exchanged: {error.strerror}") from None
    if not allow_rename:
        raise NoExchange(
            "this file system has no exchange of names or no leases (CLAWMEND_WEAK_STORES=rename allows less)"
        )
    if held:
        lease.let_in(ours)
    if folder.identity(name) != change.base.identity:
        raise StoreChanged
    try:
        os.rename(temp, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    except OSError as failed:
        raise WriteFailed(f"the store could not be replaced: {failed.strerror}") from None
    return "rename"


def _is_the_one_read(folder: Folder, temp: str, base: StoreBytes) -> bool:
    """Whether the displaced version is `base`; one that cannot be read is not."""
    try:
        with folder.opened(temp) as (_, st):
            only_name = st.st_nlink == 1
        return only_name and folder.identity(temp) == base.identity and folder.read(temp, _ANY_SIZE)[0] == base.data
    except FileProblem:
        return False


@contextmanager
def _written_beside(folder: Folder, name: str, temp: str, data: bytes) -> Iterator[int]:
    """A descriptor of a new file `temp` with the group of `name`, on disk. Raises WriteFailed, leaving none behind."""
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder.fd)
    except OSError as error:
        raise WriteFailed(f"no file could be made beside the store: {error.strerror}") from None
    try:
        try:
            group = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_gid
            if os.fstat(fd).st_gid != group:
                os.fchown(fd, -1, group)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError as error:
            swap.unlink_for_good(folder, temp)
            if error.errno == errno.ENOENT:
                raise StoreChanged from None
            raise WriteFailed(f"the new version could not be written: {error.strerror}") from None
        yield fd
    finally:
        os.close(fd)


def _make_durable(folder: Folder, ours: int) -> None:
    try:
        os.fsync(folder.fd)
        # The gateway may be loading the version before. Not "now": where time goes in steps, the file may have that.
        st = os.fstat(ours)
        os.utime(ours, ns=(st.st_atime_ns, st.st_mtime_ns + 1_000_000))
    except OSError as error:
        raise NotDurable(f"the folder could not be synced: {error.strerror}") from None
