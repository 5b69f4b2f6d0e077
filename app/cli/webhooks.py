"""`clawmend webhooks`: messages that could not be delivered."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.exits import DONE
from app.cli.failures import Failure
from app.cli.options import Json
from app.cli.screen import say, say_json

app = typer.Typer(help="Messages to webhooks that could not be delivered: dead, resend.", rich_markup_mode=None)


@app.command()
def dead(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="So many at most.")] = 20,
    as_json: Json = False,
) -> int:
    """List them, the newest first, and why."""
    from app.settings import load_settings

    settings = load_settings()
    from app.api.views import describe_message
    from app.audit.webhooks import Outbox
    from app.building import open_audit

    found = [describe_message(message) for message in Outbox(open_audit(settings)).dead(limit)[0]]
    if as_json:
        say_json(found)
        return DONE
    for message in found:
        say(f"{message['made_at']}  {message['id']}  {message['type']:<18} {message['host']}: {message['why']}")
    if not found:
        say("everything was delivered")
    return DONE


@app.command()
def resend(
    message_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="One of them; all where none is named.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Let one of them, or all, be tried anew by the service."""
    from app.settings import load_settings

    settings = load_settings()
    from app.audit.webhooks import Outbox
    from app.building import open_audit
    from app.clock import SystemClock

    count = Outbox(open_audit(settings)).send_again(message_id, SystemClock().now())
    if message_id is not None and not count:
        raise Failure("not_found", f"no message that could not be delivered has the id {message_id}")
    if as_json:
        say_json({"waiting": count})
    else:
        say(f"{count} messages are sent again when the service has run its next pass")
    return DONE
