"""What is done to names in a store's folder: two are swapped in one instant, ours are taken away for good."""

from __future__ import annotations

import ctypes
import errno
import os

from app.openclaw.folder import FileProblem, Folder

OWN_PREFIX = ".clawmend-"
_RENAME_EXCHANGE = 2


class WriteFailed(Exception):
    """The new version could not be written, or a file of ours not be taken away; what is live is not ours."""


def exchange(folder: Folder, one: str, other: str) -> None:
    """Swap two names of one folder in one instant. Raises OSError."""
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(folder.fd, os.fsencode(one), folder.fd, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_a_file(folder: Folder, name: str) -> bool:
    """Raises FileProblem where that cannot be told."""
    try:
        return folder.identity(name) is not None
    except FileProblem as problem:
        if problem.code in ("symlink", "not_a_file"):
            return False
        raise


def sync(folder: Folder, name: str) -> None:
    """Bring a gateway version that we have exchanged to the disk, and its name: the gateway syncs nothing, and a name
    must not outlast its bytes (xfs would give a file of 0 bytes). Raises OSError, FileProblem.
    """
    if is_a_file(folder, name):
        with folder.opened(name) as (fd, _):
            os.fsync(fd)
    os.fsync(folder.fd)


def unlink(folder: Folder, name: str) -> bool:
    """Take away a file of ours; False for one that cannot be taken away now: a later look does it."""
    try:
        os.unlink(name, dir_fd=folder.fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def unlink_for_good(folder: Folder, name: str) -> None:
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
