"""Reading OpenClaw's files by descriptor: no link is followed, only regular files are opened, nothing blocks."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from app.domain.model import FileIdentity

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 3
Read = TypeVar("Read")

_WORDS = {
    errno.ENOENT: ("missing", "it is not there"),
    errno.ENOTDIR: ("missing", "a part of its path is not a folder"),
    errno.ELOOP: ("symlink", "it is a symbolic link, which is not followed"),
    errno.EACCES: ("no_permission", "it may not be read by this user"),
    errno.EPERM: ("no_permission", "it may not be read by this user"),
    errno.ENXIO: ("not_a_file", "it is not a regular file"),
}


class FileProblem(Exception):
    """A file that cannot be read as one. `code` is one of docs/reference/errors.md."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def problem_of(error: OSError) -> FileProblem:
    code, detail = _WORDS.get(error.errno or 0, ("io_error", error.strerror or "it cannot be read"))
    return FileProblem(code, detail)


def identity_of(st: os.stat_result) -> FileIdentity:
    return FileIdentity(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns)


def status_of(fd: int) -> os.stat_result:
    """The status of a regular file. Raises FileProblem, also where it is none."""
    try:
        st = os.fstat(fd)
    except OSError as error:
        raise problem_of(error) from None
    _regular(st)
    return st


class Folder:
    """An open folder. Every name is one component; `..`, `/` and links lead nowhere."""

    def __init__(self, path: str, root: str | None = None) -> None:
        """Open `path`; below `root` (a prefix of it) no component may be a link. Raises FileProblem."""
        self.path = path
        try:
            self.fd = _descend(path, root)
        except OSError as error:
            raise problem_of(error) from None

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.fd)

    def identity(self, name: str) -> FileIdentity | None:
        """The identity of the regular file `name`; None when there is none. Raises FileProblem."""
        try:
            st = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise problem_of(error) from None
        _regular(st)
        return identity_of(st)

    def open(self, name: str) -> int:
        """A descriptor of `name`, for the caller to close, who has yet to look what it is of. Raises FileProblem."""
        try:
            try:
                return os.open(name, _FILE, dir_fd=self.fd)
            except BlockingIOError:
                return _wait_and_open(name, self.fd)
        except OSError as error:
            raise problem_of(error) from None

    def opened(self, name: str) -> Opened:
        """A context with a descriptor of the regular file `name` and its status. Entering it raises FileProblem."""
        return Opened(self, name)

    def read(self, name: str, limit: int) -> tuple[bytes, FileIdentity]:
        """All bytes of `name`, from one version of it. Raises FileProblem: also `too_large`, `unsteady`."""
        return self.read_by(name, limit, lambda fd, size: stretch(fd, 0, size))

    def read_by(self, name: str, limit: int, read: Callable[[int, int], Read | None]) -> tuple[Read, FileIdentity]:
        """What `read` makes of one version of `name`, given a descriptor of it and its size in bytes; None where there
        are fewer. It is called again then, and where the file has changed meanwhile. Raises FileProblem.
        """
        for _ in range(_TRIES):
            with self.opened(name) as (fd, before):
                if before.st_size > limit:
                    raise FileProblem("too_large", f"it has {before.st_size} bytes; the limit is {limit}")
                found = read(fd, before.st_size)
                if found is not None and identity_of(os.fstat(fd)) == identity_of(before):
                    return found, identity_of(before)
        raise FileProblem("unsteady", "it is being written in place")

    def names(self) -> list[str]:
        try:
            return os.listdir(self.fd)
        except OSError as error:
            raise problem_of(error) from None


class Opened:
    """A file that is open for as long as this context is; what the system refuses in it becomes a FileProblem."""

    # A class of its own: a generator that contextlib makes a context takes as long as the open and the close do.
    __slots__ = ("_fd", "_folder", "_name")

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name

    def __enter__(self) -> tuple[int, os.stat_result]:
        self._fd = self._folder.open(self._name)
        try:
            return self._fd, status_of(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if isinstance(error, OSError):
            raise problem_of(error) from None


def _descend(path: str, root: str | None) -> int:
    if root is None:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    plain = path.startswith(f"{root}{os.sep}") and os.pardir not in path
    for part in (path[len(root) + 1 :] if plain else os.path.relpath(path, root)).split(os.sep):
        if part in ("", os.curdir):
            continue
        try:
            inner = os.open(part, _DIRECTORY, dir_fd=fd)
        except OSError as error:
            # A link to a folder opened with O_DIRECTORY | O_NOFOLLOW gives ENOTDIR, which says too little.
            if error.errno == errno.ENOTDIR and stat.S_ISLNK(os.lstat(part, dir_fd=fd).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
            raise
        finally:
            os.close(fd)
        fd = inner
    return fd


def _wait_and_open(name: str, folder: int) -> int:
    """Open a file that a repair of ours, in this process or in another, holds shut for an instant (app.openclaw.lease).

    It is opened by the descriptor, so that nothing that has taken its name meanwhile can make us wait for ever.
    """
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        _regular(os.fstat(held))
        return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(held)


def _regular(st: os.stat_result) -> None:
    if not stat.S_ISREG(st.st_mode):
        raise FileProblem(*_WORDS[errno.ELOOP if stat.S_ISLNK(st.st_mode) else errno.ENXIO])


def stretch(fd: int, start: int, end: int) -> bytes | None:
    """The bytes of a file from `start` to `end`; None where it ends before."""
    parts = []
    while start < end:
        part = os.pread(fd, end - start, start)  # all of it, as a rule: to join pieces is to copy them once more
        if not part:
            return None
        parts.append(part)
        start += len(part)
    return b"".join(parts)
