"""Putting a new version of a store in place beside a gateway that takes no lock (design, section 3, steps 5 to 8).

1. write the new version beside the store (`O_EXCL`, 0600, same group), fsync it;
2. is the store still the file that was read? then exchange the two names (`renameat2(RENAME_EXCHANGE)`);
3. the displaced version is now in our hand. Is it, byte for byte, the one we read? Then it is an ancestor of what is
   live: fsync the folder, touch the store once, unlink it;
4. if not, a gateway write slipped in: put it back at once. Whatever comes out of that exchange and is not ours is a
   gateway write too; all of them are merged and published the same way, until what comes out is what we expected.
   Every version stays on disk until the merged one is live and durable, and the result is kept in quarantine until the
   later looks have seen that nothing of it was lost: the gateway may have read ours in that moment, and still write.

Not guaranteed: where exchange is not to be had, `rename` (only if allowed) loses a gateway write that lands between
the check and the rename, and cannot tell.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from dataclasses import dataclass

from app.domain.json_text import NotJson
from app.domain.merge import made_from, merge
from app.domain.model import FileIdentity
from app.domain.splice import Edit
from app.openclaw.folder import FileProblem, Folder, identity_of

OWN_PREFIX = ".clawmend-"
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_MOST_CROSSINGS = 50
_ANY_SIZE = 1 << 40


class StoreChanged(Exception):
    """The store is no longer the file that was read: judge again."""


class NoExchange(Exception):
    """This file system cannot exchange two names, and the weaker way is not allowed."""


class WriteFailed(Exception):
    """The new version could not be written; the store is untouched."""


class NotDurable(Exception):
    """The new version is in place, but the disk did not confirm it."""


class VersionsKept(Exception):
    """A crossing could not be brought to an end; no version was unlinked, and the next look goes on from there."""


@dataclass(frozen=True, slots=True)
class StoreBytes:
    """One version of a store."""

    data: bytes
    identity: FileIdentity


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be published: `new` is `base` with `edit` done."""

    base: StoreBytes
    new: bytes
    edit: Edit
    token: str
    """Names our files: the id of the repair attempt."""


@dataclass(frozen=True, slots=True)
class Published:
    """Ours is live. `mode` is `exchange`, or `rename` for the weaker way."""

    mode: str
    identity: FileIdentity | None = None
    """The store as we left it; None when the gateway has written since."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A gateway write slipped in and is live again, ours is not; the quarantine holds it for the later looks."""


def read_for_writing(folder: Folder, name: str, limit: int) -> StoreBytes:
    """The store, if it is one that we may replace. Raises FileProblem: also `hard_link`, `foreign_owner`."""
    data, identity = folder.read(name, limit)
    with folder.opened(name) as (_, st):
        if st.st_nlink != 1:
            raise FileProblem("hard_link", "it has a second name; replacing one would part the two")
        if st.st_uid != os.geteuid():
            raise FileProblem("foreign_owner", "it belongs to another user; run Clawmend as the gateway's user")
        if identity_of(st) != identity:
            raise FileProblem("unsteady", "it changed while it was read")
    return StoreBytes(data, identity)


def publish(folder: Folder, name: str, change: Change, *, allow_rename: bool) -> Published | Crossed:
    """Make `change.new` the store, or leave the gateway's own version there.

    Raises StoreChanged, NoExchange, WriteFailed (nothing of ours is live), NotDurable (ours is) and VersionsKept.
    """
    temp = f"{OWN_PREFIX}{change.token}.tmp"
    ours = _write_beside(folder, name, temp, change.new)
    try:
        if folder.identity(name) != change.base.identity:
            raise StoreChanged
        mode = _exchange_or_rename(folder, temp, name, change, allow_rename=allow_rename)
    except BaseException:
        _unlink(folder, temp)
        raise
    if mode == "exchange":
        try:
            displaced, _ = folder.read(temp, _ANY_SIZE)
        except FileProblem as error:
            raise VersionsKept(f"the displaced version is in {temp} and cannot be read: {error.detail}") from error
        if displaced != change.base.data:
            _rescue(folder, name, change, temp, displaced)
            return Crossed()
    _make_durable(folder, name)
    _unlink(folder, temp)
    live = folder.identity(name)
    return Published(mode, live if live is not None and live.ino == ours else None)


def _exchange_or_rename(folder: Folder, temp: str, name: str, change: Change, *, allow_rename: bool) -> str:
    try:
        exchange(folder, temp, name)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise StoreChanged from None  # deleted meanwhile: a store is never brought back
        if error.errno not in _NO_EXCHANGE:
            raise WriteFailed(f"the store could not be exchanged: {error.strerror}") from None
        if not allow_rename:
            raise NoExchange(
                "this file system cannot exchange two names (CLAWMEND_WEAK_STORES=rename allows less)"
            ) from None
        if folder.identity(name) != change.base.identity:
            raise StoreChanged from None
        try:
            os.rename(temp, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except OSError as failed:
            raise WriteFailed(f"the store could not be replaced: {failed.strerror}") from None
        return "rename"
    return "exchange"


def _rescue(folder: Folder, name: str, change: Change, temp: str, displaced: bytes) -> None:
    """Bring every gateway version that crossed ours together and back in place; keep them until that is durable.

    Raises VersionsKept when something stands in the way; every version then stays in a file of ours.
    """
    try:
        _put_back(folder, name, change, temp, displaced)
    except (OSError, FileProblem, NotJson, WriteFailed, StoreChanged, NotDurable) as error:
        raise VersionsKept(f"gateway versions are kept in {OWN_PREFIX}{change.token}.*: {error}") from error


def _put_back(folder: Folder, name: str, change: Change, temp: str, displaced: bytes) -> None:
    live, placing, used = change.new, displaced, [temp]
    lived = [change.new, displaced]
    for number in range(1, _MOST_CROSSINGS):
        exchange(folder, used[-1], name)
        came_out, _ = folder.read(used[-1], _ANY_SIZE)
        if came_out == live:
            break
        live, placing = placing, _joined(change, lived, placing, came_out)
        lived += [came_out, placing]
        if placing == live:
            break
        used.append(f"{OWN_PREFIX}{change.token}.{number}.tmp")
        _write_beside(folder, name, used[-1], placing)
    else:
        raise WriteFailed("the gateway's writes kept crossing ours")
    _write_beside(folder, name, base_name(change.token), change.base.data)
    _write_beside(folder, name, held_name(change.token), placing)
    _make_durable(folder, name)
    for each in used:
        _unlink(folder, each)


def _joined(change: Change, lived: list[bytes], known: bytes, came_out: bytes) -> bytes:
    """`known` with what the gateway changed in `came_out`, but without our own edit. Raises NotJson."""
    source = made_from(change.edit.key, lived, came_out)
    return came_out if source == known else merge(source, known, came_out).data


def held_name(token: str) -> str:
    """The quarantine: what the gateway had written when our writes crossed."""
    return f"{OWN_PREFIX}{token}.held"


def base_name(token: str) -> str:
    """The version from which both had started."""
    return f"{OWN_PREFIX}{token}.base"


def exchange(folder: Folder, one: str, other: str) -> None:
    """Swap two names of one folder in one instant. Raises OSError."""
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(folder.fd, os.fsencode(one), folder.fd, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write_beside(folder: Folder, name: str, temp: str, data: bytes) -> int:
    """A new file `temp` with the group of `name`, on disk; gives its inode. Raises WriteFailed, leaving none behind."""
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
    except OSError as error:
        raise WriteFailed(f"no file could be made beside the store: {error.strerror}") from None
    try:
        group = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_gid
        if os.fstat(fd).st_gid != group:
            os.fchown(fd, -1, group)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
        return os.fstat(fd).st_ino
    except OSError as error:
        _unlink(folder, temp)
        if error.errno == errno.ENOENT:
            raise StoreChanged from None
        raise WriteFailed(f"the new version could not be written: {error.strerror}") from None
    finally:
        os.close(fd)


def _make_durable(folder: Folder, name: str) -> None:
    try:
        os.fsync(folder.fd)
        os.utime(name, dir_fd=folder.fd, follow_symlinks=False)  # the gateway may be loading the version before
    except FileNotFoundError:
        return  # deleted by the gateway meanwhile
    except OSError as error:
        raise NotDurable(f"the folder could not be synced: {error.strerror}") from None


def _unlink(folder: Folder, name: str) -> None:
    """Take away a file of ours; one that cannot be taken away now is put away by a later look."""
    with suppress(OSError):
        os.unlink(name, dir_fd=folder.fd)


def _load_renameat2() -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function


_renameat2 = _load_renameat2()
