"""Where the members of a JSON object stand in its text.

The text is the file's bytes decoded as Latin-1: one character a byte, so every index is a byte offset, and the
structure of JSON (all ASCII) reads the same as in UTF-8. Values are scanned by the standard library's C scanner,
the only one that takes all that Node writes (a lone surrogate, a number of any length).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NamedTuple

_SPACE = re.compile(r"[ \t\n\r]*")
_SPACE_BYTES = re.compile(rb"[ \t\n\r]*")
_OPENING = re.compile(rb"[ \t\n\r]*\{")
PIECE = 1 << 20
"""Bytes. The whole of a store of 80 MB took 66 ms to decode, in which no other thread could run."""


class NotJson(ValueError):
    """The text is not what JSON.parse would accept."""


@dataclass(frozen=True, slots=True)
class Member:
    """`"name": value` of an object, by offsets; `value` as parsed (strings are Latin-1: see `text_of`)."""

    name: str
    name_start: int
    name_end: int
    value_start: int
    value_end: int
    value: Any


class Span(NamedTuple):
    """Where the value of a member stands: offsets, of its first byte and right behind its last."""

    start: int
    end: int


def _refuse_constant(word: str) -> None:
    raise NotJson(f"{word} is not JSON")


def _any_length(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INT else float(digits)


_LONGEST_INT = 400
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_any_length, strict=True)
_SCAN_ANY_LENGTH = _DECODER.scan_once  # type: ignore[attr-defined]
_PAIRS = json.JSONDecoder(object_pairs_hook=list, parse_int=float, strict=True)
_SCAN = json.JSONDecoder(parse_constant=_refuse_constant, strict=True).scan_once  # type: ignore[attr-defined]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def document(text: str) -> Iterator[Member]:
    """The members of the object that is all of `text`, in order. Raises NotJson where JSON.parse would refuse it."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise NotJson("not an object")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        member = _member(text, at)
        yield member
        at = _skip(text, member.value_end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
            if text[at : at + 1] == "}":
                raise NotJson(f"a name is missing at byte {at}")
        elif text[at : at + 1] != "}":
            raise NotJson(f"a comma or a brace is missing at byte {at}")
    if _skip(text, at + 1) != len(text):
        raise NotJson(f"something follows the object at byte {at + 1}")


def document_in(
    data: bytes, piece: int = PIECE, *, begins: bool = True, ends: bool = True
) -> Iterator[tuple[str, Member, int]]:
    """The members of the object that is the whole of `data`, each with the text that its offsets are of, and the offset
    in `data` right behind it. It is decoded piece by piece, each of `piece` bytes or of as many as a member needs.
    `data` may be a stretch of the object: where it is not the one that `begins`, or that `ends`, it begins, or ends,
    right behind a member. Raises NotJson, which tells no place.
    """
    view, first = memoryview(data), begins
    base, at, size, longest = _opened(data) if begins else 0, 0, piece, 0
    text = str(view[base : base + size], "latin-1")
    while True:
        if at == len(text) and not (first or ends):
            return  # which no member does that is followed by more
        is_last = base + len(text) == len(data)
        member: Member | None = None
        is_whole = False
        # To try one in vain is dear: json counts the lines before an error.
        if is_last or len(text) - at >= min(longest, piece):
            try:
                here = _skip(text, at)
                if text[here : here + 1] == "}":
                    break
                member = _member(text, here if first else _behind_comma(text, here))
                is_whole = text[(end := _skip(text, member.value_end)) : end + 1] in (",", "}")
            except NotJson:
                if is_last:
                    raise
        if member is not None and (is_whole or is_last):
            yield text, member, base + member.value_end
            longest = max(longest, member.value_end - at)
            at, first = member.value_end, False
        else:  # it may go on behind this piece
            base, size, at = base + at, piece if at else size * 4, 0
            text = ""
            text = str(view[base : base + size], "latin-1")
    if not ends or _SPACE_BYTES.fullmatch(data, base + here + 1) is None:
        raise NotJson("something follows the object")


def _opened(data: bytes) -> int:
    opening = _OPENING.match(data)
    if opening is None:
        raise NotJson("not an object")
    return opening.end()


def opens_object(data: bytes) -> bool:
    """Whether `data` begins as an object does."""
    return _OPENING.match(data) is not None


def _behind_comma(text: str, at: int) -> int:
    if text[at : at + 1] != ",":
        raise NotJson(f"a comma or a brace is missing at byte {at}")
    return _skip(text, at + 1)


def _member(text: str, at: int) -> Member:
    if text[at : at + 1] != '"':
        raise NotJson(f"a name is missing at byte {at}")
    try:
        raw, name_end = scanstring(text, at + 1, True)
        colon = _skip(text, name_end)
        if text[colon : colon + 1] != ":":
            raise NotJson(f"a colon is missing at byte {colon}")
        value_start = _skip(text, colon + 1)
        value, value_end = _scan(text, value_start)
    except NotJson:
        raise
    except StopIteration:
        raise NotJson(f"a value is missing behind byte {at}") from None
    except RecursionError:
        raise NotJson(f"nested too deeply behind byte {at}") from None
    except ValueError as error:
        raise NotJson(str(error)) from None
    name = raw if raw.isascii() else text_of(text, at, name_end)
    return Member(name, at, name_end, value_start, value_end, value)


def _scan(text: str, at: int) -> tuple[Any, int]:
    try:
        found: tuple[Any, int] = _SCAN(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError:  # more digits than Python makes an int of; JSON.parse takes them
        found = _SCAN_ANY_LENGTH(text, at)
    return found


def text_of(text: str, start: int, end: int) -> Any:
    """The value of a token, its strings decoded as the UTF-8 that they are. Raises NotJson."""
    return _decoded(_DECODER, text, start, end)


def names_of(text: str, start: int, end: int) -> list[str]:
    """The names of the object that is this token, each as often as it stands there. Raises NotJson."""
    return [name for name, _ in _decoded(_PAIRS, text, start, end)]


def _decoded(decoder: json.JSONDecoder, text: str, start: int, end: int) -> Any:
    try:
        return decoder.decode(text[start:end].encode("latin-1").decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 behind byte {start}: {error.reason}") from None
    except RecursionError:
        raise NotJson(f"nested too deeply behind byte {start}") from None
