"""`clawmend audit`: what was done, the newest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.exits import DONE
from app.cli.options import Json, Watch
from app.cli.screen import console, is_terminal, say, say_json, table
from app.cli.told import change
from app.cli.watching import watch

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.audit.models import Attempt

_HEADINGS = ("when", "id", "outcome", "kind", "by", "hand", "session", "change")
_NOTHING = "nothing was repaired yet"


def audit(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="So many at most.")] = 20,
    as_json: Json = False,
    every: Watch = None,
) -> int:
    """List what was repaired, the newest first."""
    from app.settings import load_settings

    settings = load_settings()
    from app.api.views import describe_attempt
    from app.building import open_audit

    log = open_audit(settings)
    if every is not None:
        watch(every, lambda: log.page(limit)[0], _drawn, _changes, as_json=as_json)
    found, _ = log.page(limit)
    if as_json:
        say_json([describe_attempt(a) for a in found])
    elif is_terminal():
        console().print(_drawn(found))
    else:
        for attempt in found:
            say(_line(attempt))
        if not found:
            say(_NOTHING)
    return DONE


def _line(attempt: Attempt) -> str:
    who = f"{attempt.kind:<6} {_by(attempt):<16} {attempt.hand:<8}"
    head = f"{_when(attempt)}  {attempt.id}  {attempt.outcome or 'open':<11} {who}"
    return f"{head} {attempt.session_key}: {change(attempt)}"


def _drawn(found: list[Attempt]) -> RenderableType:
    if not found:
        return _NOTHING
    rows = [
        (
            _when(a),
            a.id,
            a.outcome or "open",
            a.kind,
            _by(a),
            a.hand,
            a.session_key,
            change(a),
        )
        for a in found
    ]
    return table(_HEADINGS, rows)


def _changes(before: list[Attempt] | None, now: list[Attempt]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Attempts that were opened, closed or looked at since the look before, the oldest first."""
    from app.api.views import describe_attempt

    was = {a.id: a for a in before or ()}
    for attempt in reversed(now):
        if was.get(attempt.id) != attempt:
            yield _line(attempt), describe_attempt(attempt)


def _by(attempt: Attempt) -> str:
    """Who has asked for it, and where; nobody asks the scheduler."""
    alone = attempt.trigger in ("scheduler", attempt.actor)
    return attempt.trigger if alone else f"{attempt.trigger} ({attempt.actor})"


def _when(attempt: Attempt) -> str:
    from app.domain.describe import rfc3339

    return str(rfc3339(attempt.opened_at))
