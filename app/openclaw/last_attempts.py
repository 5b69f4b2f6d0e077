"""More of a trajectory than its tail: the last attempts, read when a person looks at one session and in no pass."""

from __future__ import annotations

import os

from app.domain.model import Event, Trail
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.trajectory import LONGEST_LINE, event_at

MOST_BYTES = 4 << 20
_BLOCK = 64 << 10


def last_attempts(trail: Trail, most: int) -> tuple[Event, ...]:
    """The events of the `most` newest attempts in the file of `trail`, oldest first, as far as MOST_BYTES go back.

    Those of its tail, where it is kept in a database, or is not the file any more that the pass has seen.
    """
    folder, name = os.path.split(trail.path)
    if not name.endswith(".jsonl"):
        return trail.events
    try:
        with Folder(folder) as opened, opened.opened(name) as (fd, st):
            if (st.st_dev, st.st_ino) != (trail.identity.dev, trail.identity.ino):
                return trail.events
            return _read(fd, trail.identity.size, most) or trail.events
    except (FileProblem, OSError):
        return trail.events


def _read(fd: int, size: int, most: int) -> tuple[Event, ...]:
    found: list[Event] = []
    begun, at, rest, spent = 0, size, b"", 0
    while at > 0 and spent < MOST_BYTES and len(rest) <= LONGEST_LINE:
        start = max(0, at - _BLOCK)
        data = os.pread(fd, at - start, start) + rest
        spent += at - start
        first, *lines = data.split(b"\n")
        for line in reversed(lines if start > 0 else [first, *lines]):
            event = event_at(line)
            if event is not None:
                found.append(event)
                begun += event.type == "session.started"
                if begun == most:
                    return tuple(reversed(found))
        at, rest = start, first
    return tuple(reversed(found))
