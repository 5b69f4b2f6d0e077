"""Which sessions are settled side by side, and which one behind the other.

What a settlement takes is mostly waiting for the disk, and the disk serves several at once. In one folder they stay one
behind the other: its lock lets one write at a time, and whoever finds it taken puts his session off.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from app.reconcile.report import Finding

LARGE = 4 << 20
"""Bytes of a store above which it is not settled beside another such."""


def lanes(due: Sequence[Finding]) -> list[list[Finding]]:
    """`due`, the oldest first, parted into lanes that need not wait for each other; each in the order of `due`.

    All sessions that another hand may write than the one for files are in one lane: each write to a database is a
    process of its own, and each order to the plugin a link of its own to one gateway. So are those of large stores: a
    repair holds several copies of its store in memory.
    """
    # What is locked is the folder itself: two stores may lie in one, and two names lead to it.
    real = {folder: os.path.realpath(folder) for folder in {finding.target.folder for finding in due}}
    by_folder: dict[str, list[Finding]] = {}
    for finding in due:
        by_folder.setdefault(real[finding.target.folder], []).append(finding)
    names = {folder: _lane(folder, found) for folder, found in by_folder.items()}
    by_lane: dict[str, list[Finding]] = {}
    for finding in due:
        by_lane.setdefault(names[real[finding.target.folder]], []).append(finding)
    return list(by_lane.values())


def _lane(folder: str, found: list[Finding]) -> str:
    if any(finding.hand.name != "file" for finding in found):
        return "other hands"
    return "large stores" if any(_size(path) > LARGE for path in {f.target.path for f in found}) else folder


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # the repair says what is wrong


def side_by_side(walk: Callable[[list[Finding]], bool], found: Sequence[list[Finding]], most: int) -> bool:
    """`walk` each lane, `most` at once, and wait for all of them; whether any walk gave True. A single lane is walked
    by the caller's own thread. Raises the first error of a walk, once all have ended.
    """
    if len(found) <= 1:
        return bool(found) and walk(found[0])
    waiting = deque(found)
    changed: list[bool] = []
    errors: list[BaseException] = []
    # Not a pool: a disk that does not answer must not keep the process from ending, which waits for a pool's threads.
    threads = [
        threading.Thread(target=partial(_walk_all, walk, waiting, changed, errors), name="settling", daemon=True)
        for _ in range(min(most, len(found)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return any(changed)


def _walk_all(
    walk: Callable[[list[Finding]], bool],
    waiting: deque[list[Finding]],
    changed: list[bool],
    errors: list[BaseException],
) -> None:
    while True:
        try:
            lane = waiting.popleft()
        except IndexError:
            return
        try:
            changed.append(walk(lane))
        except BaseException as error:  # noqa: BLE001  (it is raised again by the thread that waits)
            errors.append(error)
