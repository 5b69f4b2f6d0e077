"""`clawmend breaker`: whether the scheduler has stopped by itself, and letting it go on."""

from __future__ import annotations

import typer

from app.cli.exits import DONE, SOMETHING_STUCK
from app.cli.options import NO_REASON, Json, Reason
from app.cli.person import unicode_of, user
from app.cli.screen import say, say_json

app = typer.Typer(help="The breaker, which stops repairs when too many fall due: status, close.", rich_markup_mode=None)


@app.command()
def status(as_json: Json = False) -> int:
    """Say whether it is open, since when and why."""
    from app.settings import load_settings

    settings = load_settings()
    from app.api.views import describe_opening
    from app.audit.openings import latest_opening
    from app.building import open_audit

    told = describe_opening(latest_opening(open_audit(settings)))
    if as_json:
        say_json(told)
    elif told["open"]:
        say(f"open since {told['opened_at']}, {told['waiting']} sessions wait: {told['reason']}")
    else:
        say("closed")
    return SOMETHING_STUCK if told["open"] else DONE


@app.command()
def close(reason: Reason = NO_REASON, as_json: Json = False) -> int:
    """Let the scheduler settle what waits, from its next pass on, and go on as ever."""
    from app.settings import load_settings

    settings = load_settings()
    from app.api.views import describe_opening
    from app.building import open_audit
    from app.clock import SystemClock
    from app.reconcile.breaker import Breaker

    closed = Breaker(settings, SystemClock(), open_audit(settings)).close(user(), unicode_of(reason))
    if as_json:
        say_json(describe_opening(closed))
    else:
        say(f"closed; {closed.waiting} sessions were waiting")
    return DONE
