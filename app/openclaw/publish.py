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

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from app.domain.model import FileIdentity
from app.openclaw import lease
from app.openclaw.folder import FileProblem, Folder, identity_of

OWN_PREFIX = ".clawmend-"
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_ANY_SIZE = 1 << 40
_TRIES_TO_HOLD = 1_000
"""Who opened a store while it was live reads it for less time than so many tries take."""


class StoreChanged(Exception):
    """The store is no longer the file that was read: judge again."""


class NoExchange(Exception):
    """This file system cannot exchange two names or knows no leases, and the weaker way is not allowed."""


class WriteFailed(Exception):
    """The new version could not be written; the store is untouched."""


class NotDurable(Exception):
    """The new version is in place, but the disk did not confirm it."""


class VersionsKept(Exception):
    """A crossing could not be brought to an end: a gateway version lies in a file of ours, for the next look."""


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
            _unlink_for_good(folder, temp)
            raise
        if mode == "exchange":
            if not _is_the_one_read(folder, temp, change.base):
                _step_back(folder, name, temp, ours)
                return Crossed()
            lease.let_in(ours)
        inode = _inode(ours)
        _make_durable(folder, ours)
    _unlink(folder, temp)
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
            exchange(folder, temp, name)
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


def _step_back(folder: Folder, name: str, temp: str, ours: int) -> None:
    """Put the gateway's newest version back, as though we had never been there, and take ours away.

    `temp` is the version that we displaced. Whatever the gateway writes after it is built on it, since nobody could
    read ours. Raises VersionsKept, and WriteFailed where nothing is lost, but there is to be no later try.
    """
    with ExitStack() as stack:
        shut = [ours]
        try:
            certain, second_names = _put_back(folder, name, temp, shut, stack)
            past = _named_as_past(folder, temp, shut)
            _sync(folder, name)  # no power cut may give the store's name back to a file that is written over now
            if _is_a_file(folder, name):
                newest = folder.read(name, _ANY_SIZE)[0]
                for fd in shut:
                    lease.say_instead(fd, newest)
        except (OSError, FileProblem) as error:
            raise VersionsKept(f"a gateway version may lie in {temp}*: {error}") from error
        still_there = [each for each in second_names if not _unlink(folder, each)]  # nobody will read ours any more
        for fd in shut:
            lease.let_in(fd)
    if not certain:
        raise VersionsKept(f"a gateway version is kept in {temp}, since another took its place meanwhile")
    if still_there:  # a look sees by `past` that they may go
        raise WriteFailed(f"the disk fails, and {still_there[0]} cannot be taken away")
    _unlink_for_good(folder, past)


def _put_back(folder: Folder, name: str, temp: str, shut: list[int], stack: ExitStack) -> tuple[bool, list[str]]:
    """Exchange until what comes out is what we had put there, or somebody has written over that, or deleted it.

    The gateway may write between our look and our exchange; then an older version of its own has the name until the
    next exchange, and is held shut for so long as well: `shut` gets what is to be given the newest version's content.
    Gives whether what is in `temp` then is known to be an ancestor of what is live, and the second names of all that
    was given the store's name, which a reader may write over. Raises OSError, FileProblem.
    """
    second_names: list[str] = []
    placed, certain = identity_of(os.fstat(shut[0])), True
    while _lies(folder, name) == placed:
        placing = _lies(folder, temp)
        held = _hold_shut_too(folder, temp, stack)
        second_names.append(kept_name(temp, len(second_names)))
        with suppress(OSError):  # should we fail or be killed now, who waits reads what is taken back, and writes on it
            os.link(temp, second_names[-1], src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
        try:
            exchange(folder, temp, name)
        except FileNotFoundError:
            break
        if placing is None or _lies(folder, temp) == placed:
            if held is not None:
                lease.let_in(held)
            return True, second_names
        placed, certain = placing, held is not None
        if held is not None:
            shut.append(held)
    moved_away = not second_names and os.fstat(shut[0]).st_nlink > 0  # neither written over nor deleted
    return certain and not moved_away, second_names


def _lies(folder: Folder, name: str) -> FileIdentity | None:
    """What has this name, be it a link or a folder. Raises OSError."""
    try:
        return identity_of(os.stat(name, dir_fd=folder.fd, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _is_a_file(folder: Folder, name: str) -> bool:
    """Raises FileProblem where that cannot be told."""
    try:
        return folder.identity(name) is not None
    except FileProblem as problem:
        if problem.code in ("symlink", "not_a_file"):
            return False
        raise


def _hold_shut_too(folder: Folder, temp: str, stack: ExitStack) -> int | None:
    """A descriptor of the gateway version in `temp`, held shut; None when it cannot be had, or somebody reads on."""
    try:
        fd = os.open(temp, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    except OSError:
        return None
    stack.callback(os.close, fd)
    for _ in range(_TRIES_TO_HOLD):
        with suppress(lease.AlreadyOpen):
            return fd if lease.hold_shut(fd) else None
    return None


def _named_as_past(folder: Folder, temp: str, shut: list[int]) -> str:
    """Give what has been taken back a name that tells so, whatever it says from now on; what its name is then."""
    try:
        if _lies(folder, temp) not in [identity_of(os.fstat(fd)) for fd in shut]:
            return temp
        os.rename(temp, back_name(temp), src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    except OSError:  # who waits for it is to be given its content all the same
        return temp
    return back_name(temp)


def kept_name(temp: str, number: int = 0) -> str:
    """A second name of a gateway version that we put back."""
    return f"{temp}.kept{number or ''}"


def back_name(temp: str) -> str:
    """What was live for an instant, and is given the content of what stands in its place: nobody needs it."""
    return f"{temp}.back"


def _sync(folder: Folder, name: str) -> None:
    """Bring a gateway version that we have exchanged to the disk, and its name: the gateway syncs nothing, and a name
    must not outlast its bytes (xfs would give a file of 0 bytes). Raises OSError, FileProblem.
    """
    if _is_a_file(folder, name):
        with folder.opened(name) as (fd, _):
            os.fsync(fd)
    os.fsync(folder.fd)


def put_back(folder: Folder, name: str, temp: str) -> None:
    """Give the store's name back to the gateway version in `temp`, for good. Raises OSError, FileProblem."""
    exchange(folder, temp, name)
    _sync(folder, name)


def exchange(folder: Folder, one: str, other: str) -> None:
    """Swap two names of one folder in one instant. Raises OSError."""
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(folder.fd, os.fsencode(one), folder.fd, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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
            _unlink_for_good(folder, temp)
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


def _unlink(folder: Folder, name: str) -> bool:
    """Take away a file of ours; False for one that cannot be taken away now: a later look does it."""
    try:
        os.unlink(name, dir_fd=folder.fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _unlink_for_good(folder: Folder, name: str) -> None:
    """Take away a file of ours so that no power cut brings it back: beside a later try's version that is live, it would
    be taken for one that the gateway wrote. Raises WriteFailed: then there is to be no later try.
    """
    try:
        os.unlink(name, dir_fd=folder.fd)
        os.fsync(folder.fd)
    except OSError as error:
        raise WriteFailed(f"the disk fails, and {name} may come back: {error.strerror}") from None


def _load_renameat2() -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function


_renameat2 = _load_renameat2()
