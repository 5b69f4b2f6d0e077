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
from app.openclaw.sessions_json import StoreProblem, read_rows
from app.openclaw.stepping_back import back_name, put_back
from app.openclaw.swap import OWN_PREFIX

_ANY_SIZE = 1 << 40
_NOTHING = hashlib.sha256(b"").hexdigest()
_BACK = back_name("")


@dataclass(frozen=True, slots=True)
class Left:
    """What lies there, and what it tells."""

    kept: tuple[str, ...] = ()
    """Gateway versions that have to stay."""
    past: tuple[str, ...] = ()
    """What nobody needs, in the order in which it may go."""
    was_live: bool | None = None
    """Ours was live: the version that we had read lay there. Not: ours did, or none was planned. None: who knows."""


def anything_left(folder: Folder, attempt: Attempt) -> bool:
    """Whether a file of this attempt may lie in the folder still."""
    try:
        return bool(_files_of(folder, attempt))
    except FileProblem:
        return True


def find_out(folder: Folder, name: str, attempt: Attempt) -> Left:
    """What `attempt` left beside the store `name`; a gateway version that we were killed with in our hand is put back.
    Nothing is taken away yet: what it tells is to be written down first. Raises FileProblem when a file cannot be read
    now, since nothing is put away by guess.
    """
    was_live = False if attempt.new_sha256 is None else None
    kept: dict[str, str | None] = {}
    past: list[str] = []
    instead: set[str | None] = set()
    for ours in sorted(_files_of(folder, attempt)):  # so that `.back` comes before `.kept`
        lies = _content(folder, ours)
        if lies is None:
            continue
        digest, live, whole = _sha256(lies), None, _is_whole(lies)
        if digest not in (attempt.new_sha256, attempt.base_sha256, _NOTHING):
            live = _sha256(_content(folder, name))
        crossed = ours.endswith(".tmp") and digest not in (attempt.new_sha256, attempt.base_sha256)
        if crossed and whole and live == attempt.new_sha256:
            with suppress(OSError, FileProblem):
                put_back(folder, name, ours)  # killed between the exchange and putting the gateway's version back
                lies = _content(folder, ours) or b""
                digest, live = _sha256(lies), _sha256(_content(folder, name))
        torn_by_us = ours.endswith(".tmp") and not whole and live != attempt.new_sha256
        padded = _sha256(lies.rstrip(b" "))  # app.openclaw.lease.say_instead, broken off at its end
        taken_back = ours.endswith(_BACK)
        if taken_back:
            instead = {digest, padded} - {attempt.new_sha256}
        not_live = bool({digest, padded} & {attempt.new_sha256, live, _NOTHING} - {None}) or torn_by_us or taken_back
        read_instead = bool({digest, live} & instead)  # whoever waited for ours has read it, or what was built on it
        if digest == attempt.base_sha256 and ours.endswith(".tmp"):
            was_live = True
        elif not_live:
            was_live = False
        if digest == attempt.base_sha256 or not_live or read_instead or digest in kept.values():
            past.append(ours)
        else:
            kept[ours] = digest
    return Left(tuple(kept), tuple(reversed(past)), was_live)


def take_away(folder: Folder, left: Left) -> bool:
    """Take away what nobody needs; False when not all of it can be taken away now, or for good."""
    try:
        for ours in left.past:
            os.fsync(folder.fd)
            os.unlink(ours, dir_fd=folder.fd)
        os.fsync(folder.fd)  # nobody comes by for a file that a power cut brings back after the last look
    except OSError:  # the disk fails now: what tells how the others are to be taken has to outlast them
        return False
    return True


def _files_of(folder: Folder, attempt: Attempt) -> list[str]:
    return [n for n in folder.names() if n.startswith(f"{OWN_PREFIX}{attempt.files_named}")]


def _is_whole(lies: bytes) -> bool:
    """Whether a file of ours parses. One that does not was torn while we wrote it; or, where ours is live already, it
    is a gateway version that a power cut took the end of: never put back, and kept.
    """
    try:
        read_rows(lies)
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
