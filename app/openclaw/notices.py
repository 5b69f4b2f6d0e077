"""Whether anything happened in a folder: as the system tells it (inotify), which costs nothing where nothing happens.

A notice says "look", and no more. That there is none is believed of folders on a disk of this machine, below a folder
that is still the same one, and not for long: what is written by another name of a file (a second link to it, another
overlay) is told of nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.clock import Clock
from app.openclaw.processes import is_local

if TYPE_CHECKING:
    from inotify_simple import INotify

BELIEVED_FOR = 30.0
"""Seconds after which all is to be looked at, whatever was told."""
# Of linux/inotify.h.
_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLY_A_FOLDER, _FOLLOW_NO_LINK, _IS_A_FOLDER = 0x1000000, 0x2000000, 0x40000000
_IN_IT = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_WHAT = _IN_IT | _DELETE_SELF | _MOVE_SELF | _ONLY_A_FOLDER | _FOLLOW_NO_LINK
_ENDS_ALL = _IS_A_FOLDER | _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _OVERFLOW | _IGNORED


class Notices:
    """One thread at a time. `begin` comes first in each pass; within a pass nothing changes what was told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pass = 0
        self._inotify: INotify | None = None
        self._close: Callable[[], object] = lambda: None
        self.told_of_nothing = False
        """Whether in this pass every stamp is what it was in the pass before."""
        self._begin_anew()

    def begin(self) -> None:
        """Take in what was told since the pass before. Comes before anything is looked at in this one."""
        self._pass += 1
        self.told_of_nothing = True
        if self._clock.monotonic() >= self._until or not self._take_in():
            self._begin_anew()

    def stamp(self, root: str, folders: tuple[str, ...]) -> int | None:
        """As long as this is the same, nothing has happened in these folders nor in those between `root` and them; None
        where that is not told. To be asked for before that is looked at which it is to stand for.

        A folder that is not there counts as well: it comes in one that is.
        """
        if (root, folders) not in self._ways:
            self._ways[root, folders] = self._watch_all(root, folders)
        ways = self._ways[root, folders]
        return None if ways is None else max(map(self._touched.__getitem__, ways))

    def _begin_anew(self) -> None:
        """All that was told is forgotten, so that everything is looked at."""
        self.told_of_nothing = False
        self._close()
        self._inotify = None
        self._until = self._clock.monotonic() + BELIEVED_FOR
        self._watched: dict[int, str] = {}
        """The folder that each watch is for."""
        self._touched: dict[str, int] = {}
        """By folder: the pass that was told of it last, or that watches it first."""
        self._missing: set[str] = set()
        """Folders that were not there."""
        self._roots: dict[str, tuple[int, int]] = {}
        """Device and inode of the folders that the others lie below."""
        self._ways: dict[tuple[str, tuple[str, ...]], frozenset[str] | None] = {}
        """What must not be touched for a stamp to stay; None where that is not told."""

    def _take_in(self) -> bool:
        """False where nobody can say any more what has happened: a folder came or went, or too much was told."""
        if any(_device_and_inode(root) != seen for root, seen in self._roots.items()):
            return False
        for wd, mask, _, name in self._inotify.read(timeout=0) if self._inotify else ():
            folder = self._watched.get(wd)
            if folder is None or mask & _ENDS_ALL or f"{folder}/{name}" in self._missing:
                return False
            self._touched[folder] = self._pass
            self.told_of_nothing = False
        return True

    def _watch_all(self, root: str, folders: tuple[str, ...]) -> frozenset[str] | None:
        """Have it told what happens in `folders`, and on the way to them, the outermost first."""
        if root not in self._roots:
            seen = _device_and_inode(root)
            if seen is None or not is_local(root):
                return None
            self._roots[root] = seen
        ways: set[str] = set()
        for folder in folders:
            if folder != root and not folder.startswith(f"{root}/"):
                return None
            way = root
            for part in ("", *folder[len(root) + 1 :].split("/")):
                way = f"{way}/{part}" if part else way
                try:
                    self._watch(root, way)
                except FileNotFoundError:
                    self._missing.add(way)
                    break
                except (OSError, AttributeError):  # a link, no more watches, or a system without all this
                    return None
                ways.add(way)
        return frozenset(ways)

    def _watch(self, root: str, folder: str) -> None:
        """Raises OSError, and AttributeError where the system knows no notices."""
        if folder in self._touched:
            return
        if self._inotify is None:
            from inotify_simple import INotify  # noqa: PLC0415  (22 ms that a single scan does without)

            self._inotify = INotify()
            self._close = weakref.finalize(self, self._inotify.close)
        watch = self._inotify.add_watch(folder, _WHAT)
        if watch in self._watched or os.lstat(folder).st_dev != self._roots[root][0]:
            raise OSError(errno.EXDEV, "another disk, or another name of a folder that is watched already")
        self._watched[watch], self._touched[folder] = folder, self._pass


def _device_and_inode(path: str) -> tuple[int, int] | None:
    """Of a folder; None where none is there, or a link to one."""
    try:
        st = os.lstat(path)
    except OSError:
        return None
    return (st.st_dev, st.st_ino) if stat.S_ISDIR(st.st_mode) else None
