"""Looking again and again: drawn anew on a terminal, else one line or one JSON document for each change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from typer.core import TyperCommand

from app.cli.screen import console, is_terminal, say, say_json

if TYPE_CHECKING:
    from rich.console import RenderableType

USUAL_SECONDS = "2"
Seen = TypeVar("Seen")


class Watching(TyperCommand):
    """A command whose `--watch` may stand without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _completed(args))


def _completed(args: list[str]) -> list[str]:
    made: list[str] = []
    for argument, following in pairwise([*args, ""]):
        made.append(argument)
        if argument == "--watch" and not following.replace(".", "", 1).isdigit():
            made.append(USUAL_SECONDS)
    return made


def watch(
    seconds: float,
    look: Callable[[], Seen],
    draw: Callable[[Seen], RenderableType],
    changes: Callable[[Seen | None, Seen], Iterable[tuple[str, dict[str, Any]]]],
    *,
    as_json: bool,
) -> NoReturn:
    """Until Ctrl-C. `changes` gives what is new since the last look, as a line and as values for JSON."""
    if as_json or not is_terminal():
        before = None
        while True:
            now = look()
            for line, document in changes(before, now):
                if as_json:
                    say_json(document, indented=False)
                else:
                    say(line)
            sys.stdout.flush()
            before = now
            time.sleep(seconds)
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(draw(look()), refresh=True)
            time.sleep(seconds)
