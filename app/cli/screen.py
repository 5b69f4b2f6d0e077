"""What is printed, for people and for programs: a table with colours on a terminal, else plain lines, or JSON.

Session keys and reasons come from elsewhere: whatever they hold is shown, and nothing of it is obeyed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLOURS = {
    "stuck": "bold red",
    "ending": "yellow",
    "orphaned": "magenta",
    "silent": "magenta",
    "never_started": "magenta",
    "unprovable": "yellow",
    "working": "green",
    "waiting": "cyan",
    "recovering": "cyan",
    "cannot tell": "bold yellow",
    "mind": "yellow",
    "applied": "green",
    "overwritten": "red",
    "refused": "yellow",
    "unknown": "bold yellow",
    "earlier": "green",
    "later": "yellow",
    "not at all": "yellow",
    "wrong": "bold red",
}
"""By the first words of a row."""
_TO_COPY = ("id", "from")
"""Columns that stay in one piece where the terminal has room for it."""
_WIDE = 100
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_FIRST_WORDS = "clawmend: loading ..."
_first_words_stand = False


def shown(text: object) -> str:
    """`text` on one line, with a sign for each character that a terminal would obey or that turns others around."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person sits before it, and it can move its cursor."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"


def say_at_once() -> None:
    """Words that stand on a terminal until there is something to say: to load what says it takes up to a second."""
    global _first_words_stand  # noqa: PLW0603  (a process has one terminal)
    if is_terminal(sys.stderr):
        sys.stderr.write(_FIRST_WORDS)
        sys.stderr.flush()
        _first_words_stand = True


def make_room() -> None:
    """Take these words back; whatever is written here does so first."""
    global _first_words_stand  # noqa: PLW0603
    if _first_words_stand:
        _first_words_stand = False
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()


def say(text: str) -> None:
    """One line on stdout."""
    make_room()
    print(shown(text))


def warn(text: str) -> None:
    """One line on stderr."""
    make_room()
    print(f"clawmend: {shown(text)}", file=sys.stderr)


def say_json(value: object, *, indented: bool = True) -> None:
    """One document on stdout; all that is not ASCII is escaped, so that a terminal has nothing to obey in it."""
    make_room()
    text = _indented(value) if indented else json.dumps(value)
    print(text.replace("\x7f", "\\u007f"), flush=not indented)


def _indented(value: object) -> str:
    """By orjson: where it is to indent, the standard library takes 36 times as long."""
    import orjson

    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps(value, indent=2)
    return text if text.isascii() else _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def say_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in plain lines: columns as wide as they need to be, nothing cut off."""
    make_room()
    cells = [[shown(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def console(stream: TextIO | None = None) -> Console:
    """Rich, on this stream: it leaves colours out where NO_COLOR says so."""
    make_room()
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, markup=False, emoji=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table for a terminal; nothing is cut off in it, and the words in COLOURS have theirs."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    wide = get_terminal_size().columns >= _WIDE
    for heading in headings:
        made.add_column(Text(heading), overflow="fold", no_wrap=wide and heading in _TO_COPY)
    for row in rows:
        made.add_row(*(Text(word := shown(cell), style=COLOURS.get(word, "")) for cell in row))
    return made
