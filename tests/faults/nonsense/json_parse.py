"""JSON.parse as Node has it, said a second time: by the standard library for values, by tokens for places.

`test_nonsense.py` holds it against a real Node; everything else in this folder rests on it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

DEEP = 500
"""Deeper nesting than this may be refused: Python's scanner is bound to the stack, Node's is not."""

DEEPEST = 10_000
"""How deep this model can follow Node."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)


class Parsed(dict[str, Any]):
    """An object; `twice` holds the names that stand in it more than once."""

    twice: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member stands: the name's first character, the value's first, and the one behind its last."""

    name: str
    name_start: int
    start: int
    end: int


def _object(pairs: list[tuple[str, Any]]) -> Parsed:
    made = Parsed(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        made.twice = frozenset(name for name in made if names.count(name) > 1)
    return made


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is Python's, not JSON's")


_DECODER = json.JSONDecoder(parse_int=float, parse_constant=_no_constant, object_pairs_hook=_object)


@lru_cache(maxsize=32)
def parse(text: str) -> Any:
    """The value, every number a double. Raises ValueError where JSON.parse throws, RecursionError beyond DEEPEST."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(max(usual, DEEPEST))
    try:
        return _DECODER.decode(text)
    finally:
        sys.setrecursionlimit(usual)


@lru_cache(maxsize=32)
def depth(text: str) -> int:
    """How deep `text` is nested, at least: brackets in strings of text that does not parse may count."""
    deepest = now = 0
    for token in TOKEN.finditer(text):
        if token[0] in ("{", "["):
            now += 1
            deepest = max(deepest, now)
        elif token[0] in ("}", "]"):
            now -= 1
    return deepest


def stringify(value: Any) -> str:
    """JSON.stringify(value, null, 2), as the gateway writes its store."""
    return json.dumps(_whole(value), indent=2)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    return value


@lru_cache(maxsize=32)
def places(text: str, at: int = 0) -> tuple[Place, ...]:
    """The members of the object at `at` in text (Latin-1, of JSON that parses), found by its tokens alone."""
    return tuple(_places(text, at))


def _places(text: str, at: int) -> Iterator[Place]:
    level = 0
    name: re.Match[str] | None = None
    start = end = -1
    for token in TOKEN.finditer(text, at):
        sign = token[0]
        if level == 1 and sign in ",}":
            if name is not None:
                yield Place(_name(name[0]), name.start(), start, end)
            if sign == "}":
                return
            name, start = None, -1
            continue
        if level == 1 and name is None:
            name = token
        elif level == 1 and start < 0 and sign == ":":
            start = 0
        elif level >= 1 and start == 0:
            start = token.start()
        level += (sign in ("{", "[")) - (sign in ("}", "]"))
        end = token.end()


def _name(token: str) -> str:
    name: str = json.loads(token.encode("latin-1").decode("utf-8", "surrogateescape"))
    return name


def without_fields(text: str, key: str, fields: frozenset[str], added: frozenset[str]) -> str:
    """`text` without the values of `fields` in the row `key`, and without the members `added` and their commas."""
    row = next(place for place in reversed(places(text)) if place.name == key)
    pieces, at, behind = [], 0, -1
    for place in places(text, row.start):
        if place.name in added:
            assert behind >= 0, "a field was put before all others"
            pieces.append(text[at:behind])
            at = place.end
        elif place.name in fields:
            pieces += [text[at : place.start], "\0"]
            at = place.end
        behind = place.end
    return "".join([*pieces, text[at:]])
