"""Where a file may be, and what is open while the files of a few rows are looked at."""

from __future__ import annotations

import os
import resource
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import NamedTuple

from app.domain.model import FileIdentity
from app.openclaw.folder import FileProblem, Folder, problem_of, status_of

_MOST_FOLDERS = 8
"""A row's files lie in its store's folder, in the one for trajectories, or in another agent's."""
_LEFT_TO_OTHERS = 64
"""Descriptors, of those that the process may have: the system gives the lowest that is free, so its number tells."""


class Place(NamedTuple):
    """A file that may be there: `name` in `folder`, no link allowed below `root`."""

    root: str
    folder: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.folder}{os.sep}{self.name}"


class OpenPlaces:
    """A context in which each folder is opened once, and each file that the disk is asked for ahead.

    What is open stays what it is: another folder, or file, that takes its name meanwhile is not seen. So it is for a
    look at a few rows, and each proof has one of its own.
    """

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], Folder] = {}
        self._asked: dict[Place, int] = {}
        self._kept_below = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _LEFT_TO_OTHERS

    def __enter__(self) -> OpenPlaces:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._asked.values():
            os.close(fd)
        for folder in self._folders.values():
            folder.close()

    def ask(self, place: Place, last: int) -> None:
        """Have the disk bring the `last` bytes of a file; `opened` finds it open. Leaves every problem to that."""
        if place in self._asked:  # two rows may name one session
            return
        try:
            fd = self._folder(place).open(place.name)
        except FileProblem:
            return
        with suppress(OSError):
            os.posix_fadvise(fd, max(0, os.lseek(fd, 0, os.SEEK_END) - last), last, os.POSIX_FADV_WILLNEED)
        if fd < self._kept_below:
            self._asked[place] = fd
        else:
            os.close(fd)

    def opened(self, place: Place) -> AbstractContextManager[tuple[int, os.stat_result]]:
        """As `Folder.opened` has it. Raises FileProblem, here and below also where there is no such folder."""
        fd = self._asked.get(place)
        return self._folder(place).opened(place.name) if fd is None else _Asked(fd)

    def identity(self, place: Place) -> FileIdentity | None:
        """As `Folder.identity` has it."""
        return self._folder(place).identity(place.name)

    def read(self, place: Place, limit: int) -> tuple[bytes, FileIdentity]:
        """As `Folder.read` has it."""
        return self._folder(place).read(place.name, limit)

    def _folder(self, place: Place) -> Folder:
        key = place.folder, place.root
        folder = self._folders.get(key)
        if folder is None:
            folder = Folder(place.folder, place.root)
            if len(self._folders) == _MOST_FOLDERS:
                self._folders.pop(next(iter(self._folders))).close()
            self._folders[key] = folder
        return folder


class _Asked:
    """The context of a file that is open already, and stays so."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> tuple[int, os.stat_result]:
        return self._fd, status_of(self._fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise problem_of(error) from None
