"""JSON objects as Node writes them: orjson first, and the standard library for the lone surrogates that it refuses."""

from __future__ import annotations

import json
from typing import Any

import orjson


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_object(text: bytes) -> dict[str, Any] | None:
    """The object that `text` is; None when it is none. A lone surrogate stays one."""
    try:
        value = orjson.loads(text)
    except ValueError:
        try:
            value = DECODER.decode(text.decode())
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def word(value: object) -> str | None:
    """A string that can be written down; None for anything else."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def whole(value: object) -> int | None:
    """A whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
