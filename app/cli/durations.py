"""Durations as people write them: `90`, `30s`, `5m`, `2h`, `7d`."""

from __future__ import annotations

import re

import typer

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_WORD = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", re.ASCII)


def seconds(text: str) -> float:
    """The duration in seconds. Raises BadParameter."""
    match = _WORD.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration: 90, 30s, 5m, 2h or 7d")
    return float(match[1]) * _UNITS[match[2]]


def window(text: str) -> float:
    """A duration that a policy may have: over 0, and no longer than a day. Raises BadParameter."""
    found = seconds(text)
    if not 0 < found <= 86_400:
        raise typer.BadParameter(f"{text!r} is no window: over 0, and no longer than a day")
    return found
