"""A `sessions.json` on the disk: read whole at first, and after that only what is another than it was.

What is as it was is read too, slice by slice, but neither kept nor decoded: that takes less time than to have the whole
in memory, which the system has to give anew each time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from app.domain.json_text import PIECE, NotJson
from app.domain.model import FileIdentity
from app.openclaw.folder import Folder, stretch
from app.openclaw.marks import SLICE, mark_of
from app.openclaw.sessions_json import Piece, named_once, pieces_in, read_pieces


@dataclass(frozen=True, slots=True)
class _Version:
    """A store, seen from the one before: with which pieces it still begins, and still ends, and what lies between."""

    head: tuple[Piece, ...]
    middle: bytes
    tail: tuple[Piece, ...]


def read_store(
    folder: Folder, name: str, limit: int, before: tuple[Piece, ...] = (), size: int = PIECE
) -> tuple[tuple[Piece, ...], FileIdentity]:
    """What the store `name` says, in pieces of about `size` bytes. What is, byte for byte, as it was in the version
    that was read `before` is not decoded again. Raises FileProblem, and StoreProblem as though that had not been read.
    """
    if before:
        version, identity = folder.read_by(name, limit, partial(_compared, before))
        try:
            between = pieces_in(version.middle, size, begins=not version.head, ends=not version.tail)
        except NotJson:
            pass  # a member goes on where one used to end, or something is wrong: the whole tells
        else:
            return named_once((*version.head, *between, *version.tail)), identity
    data, identity = folder.read(name, limit)
    return read_pieces(data, size), identity


def _compared(before: tuple[Piece, ...], fd: int, size: int) -> _Version | None:
    """None where the file does not have `size` bytes."""
    head: list[Piece] = []
    tail: list[Piece] = []
    start, end = 0, size
    for each in before[:-1]:
        if start + each.size > size or _mark(fd, start, each) != each.mark:
            break
        head.append(each)
        start += each.size
    for each in reversed(before[max(len(head), 1) :]):
        if end - each.size < start or _mark(fd, end - each.size, each) != each.mark:
            break
        tail.append(each)
        end -= each.size
    middle = stretch(fd, start, end)
    return _Version(tuple(head), middle, tuple(tail[::-1])) if middle is not None else None


def _mark(fd: int, start: int, piece: Piece) -> int:
    """Of as many bytes as `piece` has, from `start` on."""
    end = start + piece.size
    return mark_of(os.pread(fd, min(SLICE, end - at), at) for at in range(start, end, SLICE))
