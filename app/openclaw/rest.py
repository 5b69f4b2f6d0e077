"""Whether anything was touched since it was looked at: told by files' and folders' times alone, one stat for each.

A folder's time tells of every name that came, went or was replaced in it; so what lies in a folder at rest need not be
looked for again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Mark = tuple[int, int, int, int]
"""Device, inode, size, and the time of the last change in ns: of content, names or rights; nobody can set it back."""

_TICK_NS = 1_000_000_000
"""Two changes within one tick of the file system's clock bear the same time: what is so fresh tells nothing yet."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Files and folders as they stood; a path without a mark was not there."""

    marks: tuple[tuple[str, Mark | None], ...]

    def holds(self) -> bool:
        """Whether all of them stand as they stood."""
        return untouched(self.marks)


def rest_of(paths: Iterable[str]) -> Rest | None:
    """How `paths` stand now; None where that tells nothing: one was changed this very moment, or cannot be seen.

    File times come from the kernel's clock, so it is the kernel's that is asked what "this moment" is.
    """
    try:
        marks = tuple((path, mark_of(path)) for path in paths)
    except (OSError, ValueError):
        return None
    fresh = time.time_ns() - _TICK_NS
    return Rest(marks) if all(mark is None or mark[3] < fresh for _, mark in marks) else None


def mark_of(path: str) -> Mark | None:
    """None where nothing is there. Raises OSError."""
    try:
        st = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return st.st_dev, st.st_ino, st.st_size, st.st_ctime_ns


def untouched(marks: Sequence[tuple[str, Mark | None]]) -> bool:
    try:
        for path, mark in marks:  # a pass with nothing changed consists of this: no call more than there must be
            if mark_of(path) != mark:
                return False
    except OSError:
        return False
    return True
