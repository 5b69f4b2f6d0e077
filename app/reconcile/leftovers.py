"""What an attempt left beside the store: its new version, or one that it displaced.

It is taken away only when it is known to live on in what is there: our own versions, the one that we had read (it is an
ancestor of ours), one whose bytes are live. A gateway version of which that is not known stays.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass

from app.audit.models import Attempt
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.publish import OWN_PREFIX, put_back
from app.openclaw.sessions_json import StoreProblem, read_rows

_ANY_SIZE = 1 << 40
_NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Left:
    """What became of it."""

    kept: bool = False
    """A gateway version had to stay."""
    was_live: bool | None = None
    """Ours was live: the version that we had read lay there. Not: ours did, or none was planned. None: who knows."""
    stuck: bool = False
    """Something could not be looked at or taken away now."""


def anything_left(folder: Folder, attempt: Attempt) -> bool:
    """Whether a file of this attempt may lie in the folder still."""
    try:
        return bool(_files_of(folder, attempt))
    except FileProblem:
        return True


def put_away(folder: Folder, name: str, attempt: Attempt) -> Left:
    """Take away what `attempt` left beside the store `name`. Raises FileProblem when a file cannot be read now: nothing
    is put away by guess.
    """
    was_live = False if attempt.new_sha256 is None else None
    stuck = False
    left = _files_of(folder, attempt)
    kept = False
    for ours in sorted(left):
        lies = _content(folder, ours)
        digest, live, whole = _sha256(lies), None, _is_whole(lies)
        if digest not in (attempt.new_sha256, attempt.base_sha256, _NOTHING):
            live = _sha256(_content(folder, name))
        crossed = ours.endswith(".tmp") and digest not in (attempt.new_sha256, attempt.base_sha256)
        if crossed and whole and live == attempt.new_sha256:
            with suppress(OSError, FileProblem):
                put_back(folder, name, ours)  # killed between the exchange and putting the gateway's version back
                lies = _content(folder, ours)
                digest, live = _sha256(lies), _sha256(_content(folder, name))
        torn_by_us = ours.endswith(".tmp") and not whole and live != attempt.new_sha256
        padded = _sha256(lies.rstrip(b" ")) if lies else None  # app.openclaw.lease.say_instead, broken off at its end
        not_live = bool({digest, padded} & {attempt.new_sha256, live, _NOTHING} - {None}) or torn_by_us
        if digest == attempt.base_sha256:
            was_live = True
        elif not_live:
            was_live = False
        if digest == attempt.base_sha256 or not_live:
            try:
                os.fsync(folder.fd)
                os.unlink(ours, dir_fd=folder.fd)
            except OSError:  # of a disk that fails now
                stuck = True
        else:
            kept = True
    try:
        os.fsync(folder.fd)  # nobody comes by for a file that a power cut brings back after the last look
    except OSError:
        stuck = True
    return Left(kept, was_live, stuck)


def _files_of(folder: Folder, attempt: Attempt) -> list[str]:
    return [n for n in folder.names() if n.startswith(f"{OWN_PREFIX}{attempt.id}")]


def _is_whole(lies: bytes | None) -> bool:
    """Whether a file of ours parses. One that does not was torn while we wrote it; or, where ours is live already, it
    is a gateway version that a power cut took the end of: never put back, and kept.
    """
    try:
        read_rows(lies or b"")
    except StoreProblem:
        return False
    return True


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _content(folder: Folder, name: str) -> bytes | None:
    """None when it is gone. Raises FileProblem."""
    try:
        return folder.read(name, _ANY_SIZE)[0]
    except FileProblem as error:
        if error.code == "missing":
            return None
        raise
