"""One more change to a case that the fuzzer has: by JSON's tokens, by lines, by bytes."""

from __future__ import annotations

import re
from random import Random

from tests.faults.nonsense import grown

TOKEN = re.compile(rb'[ \t\r\n]+|"(?:[^"\\\n]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+|"')
BRACKETS = (b"true", b"false", b"null", b"{}", b"[]", b",", b":", b"{", b"}", b"[", b"]")
WORDS = BRACKETS + tuple(
    word.encode("utf-8", "surrogatepass")
    for words in (grown.NUMBERS, grown.STRINGS, grown.WRONG, grown.KEYS, grown.FIELDS, grown.TIMES, grown.TYPES)
    for word in words
)
SPACES = tuple(space.encode() for space in grown.SPACES if space)


def mutated(data: bytes, rng: Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_CHANGES)(data, rng)
    return data


def _a_token(data: bytes, rng: Random) -> tuple[int, int]:
    """Where one token stands: looked for from anywhere, so that a long case costs no more than a short one."""
    at = rng.randrange(len(data) + 1)
    found = TOKEN.search(data, at)
    return found.span() if found else (len(data), len(data))


def _other_token(data: bytes, rng: Random) -> bytes:
    start, end = _a_token(data, rng)
    return data[:start] + rng.choice(WORDS) + data[end:]


def _no_token(data: bytes, rng: Random) -> bytes:
    start, end = _a_token(data, rng)
    return data[:start] + data[end:]


def _another_space(data: bytes, rng: Random) -> bytes:
    start, _ = _a_token(data, rng)
    return data[:start] + rng.choice(SPACES) + data[start:]


def _a_member_more(data: bytes, rng: Random) -> bytes:
    brace = data.find(b"{", rng.randrange(len(data) + 1)) + 1
    name = rng.choice(grown.FIELDS + grown.KEYS).encode("utf-8", "surrogatepass")
    value = grown.value(rng.randrange).encode("utf-8", "surrogatepass")
    return data[:brace] + name + b":" + value + rng.choice((b",", b", ", b"")) + data[brace:]


def _a_row_more(data: bytes, rng: Random) -> bytes:
    brace = data.find(b"{") + 1
    key = rng.choice(grown.KEYS)
    row = f"{key}:{grown.row(rng.randrange)},"
    return data[:brace] + row.encode("utf-8", "surrogatepass") + data[brace:]


def _a_piece_elsewhere(data: bytes, rng: Random) -> bytes:
    start, _ = _a_token(data, rng)
    _, end = _a_token(data, rng)
    start, end = min(start, end), max(start, end)
    at, _ = _a_token(data, rng)
    return data[:at] + data[start:end] + data[at:]


def _deeper(data: bytes, rng: Random) -> bytes:
    start, end = _a_token(data, rng)
    deep = rng.choice((3, 100, rng.randrange(900, 1010)))
    opened, closed = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return data[:start] + opened * deep + data[start:end] + closed * deep + data[end:]


def _another_line(data: bytes, rng: Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        lines.insert(at, grown.line(rng.randrange).encode("utf-8", "surrogatepass"))
    elif kind == 1:
        lines.insert(at, rng.choice(lines))
    elif kind == 2:
        del lines[at]
    elif kind == 3:
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    else:
        lines[at] += rng.choice((b" ", b"x", b"\0")) * rng.choice((1, 60, 300, 1200))
    return b"\n".join(lines)


def _another_encoding(data: bytes, rng: Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    text = lines[at].decode("latin-1")
    lines[at] = text.encode(rng.choice(("utf-16-le", "utf-16-be", "utf-16", "utf-32-be", "utf-8", "utf-8-sig")))
    return b"\n".join(lines)


def _flawed(data: bytes, rng: Random) -> bytes:
    return grown.flawed(rng.randrange, data)


_CHANGES = (
    _other_token, _other_token, _other_token, _no_token, _another_space, _a_member_more, _a_member_more, _a_row_more,
    _a_piece_elsewhere, _deeper, _another_line, _another_line, _another_encoding, _flawed,
)  # fmt: skip
