"""Putting the gateway's version back where a write of it crossed ours, as though we had never been there.

What lies in our hand then is a gateway version that may be nowhere else: it gets a second name before its first one
goes, and what has been taken back is known by its name.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

from app.domain.model import FileIdentity
from app.openclaw import lease, swap
from app.openclaw.folder import FileProblem, Folder, identity_of
from app.openclaw.swap import WriteFailed

_ANY_SIZE = 1 << 40
_TRIES_TO_HOLD = 1_000
"""Who opened a store while it was live reads it for less time than so many tries take."""


class VersionsKept(Exception):
    """A crossing could not be brought to an end: a gateway version lies in a file of ours, for the next look."""


def step_back(folder: Folder, name: str, temp: str, ours: int) -> None:
    """Put the gateway's newest version back, as though we had never been there, and take ours away.

    `temp` is the version that we displaced. Whatever the gateway writes after it is built on it, since nobody could
    read ours. Raises VersionsKept, and WriteFailed where nothing is lost, but there is to be no later try.
    """
    with ExitStack() as stack:
        shut = [ours]
        try:
            kept, second_names = _put_back(folder, name, temp, shut, stack)
            past = _named_as_past(folder, temp, shut)
            swap.sync(folder, name)  # no power cut may give the store's name back to a file that is written over now
            if swap.is_a_file(folder, name):
                newest = folder.read(name, _ANY_SIZE)[0]
                for fd in shut:
                    lease.say_instead(fd, newest)
        except (OSError, FileProblem) as error:
            raise VersionsKept(f"a gateway version may lie in {temp}*: {error}") from error
        unneeded = [each for each in second_names if each not in kept]
        still_there = [each for each in unneeded if not swap.unlink(folder, each)]  # nobody will read ours any more
        for fd in shut:
            lease.let_in(fd)
    if kept:
        if temp not in kept:
            swap.unlink(folder, temp)
        raise VersionsKept(f"a gateway version is kept in {', '.join(kept)}, since another took its place meanwhile")
    if still_there:  # a look sees by `past` that they may go
        raise WriteFailed(f"the disk fails, and {still_there[0]} cannot be taken away")
    swap.unlink_for_good(folder, past)


def _put_back(folder: Folder, name: str, temp: str, shut: list[int], stack: ExitStack) -> tuple[list[str], list[str]]:
    """Exchange until what comes out is what we had put there, or somebody has written over that, or deleted it.

    The gateway may write between our look and our exchange; then an older version of its own has the name until the
    next exchange, and is held shut for so long as well: `shut` gets what is to be given the newest version's content.
    One that could not be held shut may have been read, and what is built on it may still come and lack all that is
    newer: that is kept, and none of it held shut, since what is held is written over.

    Gives the names of what has to stay, and the second names of all that was given the store's name, which a reader may
    write over. Raises OSError, FileProblem.
    """
    second_names: list[str] = []
    newer: list[str] = []
    placed, read = identity_of(os.fstat(shut[0])), None
    while _lies(folder, name) == placed:
        placing = _lies(folder, temp)
        held = _hold_shut_too(folder, temp, stack) if read is None else None
        second_names.append(kept_name(temp, len(second_names)))
        with suppress(OSError):  # should we fail or be killed now, who waits reads what is taken back, and writes on it
            os.link(temp, second_names[-1], src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
            newer += second_names[-1:] if read is not None else []
        try:
            swap.exchange(folder, temp, name)
        except FileNotFoundError:
            break
        if placing is None or _lies(folder, temp) == placed:
            if held is not None:
                lease.let_in(held)
            break
        placed = placing
        if held is not None:
            shut.append(held)
        elif read is None:
            read = placing
    moved_away = not second_names and os.fstat(shut[0]).st_nlink > 0  # neither written over nor deleted
    doubtful = read is not None and _lies(folder, temp) != read
    return [temp] * (moved_away or doubtful) + newer, second_names


def _lies(folder: Folder, name: str) -> FileIdentity | None:
    """What has this name, be it a link or a folder. Raises OSError."""
    try:
        return identity_of(os.stat(name, dir_fd=folder.fd, follow_symlinks=False))
    except FileNotFoundError:
        return None


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


def put_back(folder: Folder, name: str, temp: str) -> None:
    """Give the store's name back to the gateway version in `temp`, for good. Raises OSError, FileProblem."""
    swap.exchange(folder, temp, name)
    swap.sync(folder, name)
