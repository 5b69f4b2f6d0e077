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


def lanes(due: Sequence[Finding]) -> list[list[Finding]]:
    """`due`, the oldest first, parted into lanes that need not wait for each other; each in the order of `due`.

    All sessions that another hand may write than the one for files are in one lane: each write to a database is a
    process of its own, and each order to the plugin a link of its own to one gateway.
    """
    by_folder: dict[str, list[Finding]] = {}
    for finding in due:
        by_folder.setdefault(_folder(finding), []).append(finding)
    files = {folder for folder, found in by_folder.items() if all(f.hand.name == "file" for f in found)}
    others = [finding for finding in due if _folder(finding) not in files]
    found = [by_folder[folder] for folder in by_folder if folder in files]
    return [*found, others] if others else found


def _folder(finding: Finding) -> str:
    """The folder that is locked: two stores may lie in one, and two names lead to it."""
    return os.path.realpath(finding.target.folder)


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
