"""`clawmend token`: named tokens for the API, each with a scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.durations import seconds
from app.cli.exits import DONE
from app.cli.options import Json
from app.cli.person import user
from app.cli.screen import console, is_terminal, say, say_json, table, warn
from app.domain.caller import Scope

if TYPE_CHECKING:
    from app.audit.log import AuditLog
    from app.audit.tokens import Token

app = typer.Typer(help="Named tokens for the API: add, list, revoke.", rich_markup_mode=None)

_HEADINGS = ("name", "scope", "state", "created", "by", "expires", "last used")


def _lifetime(text: str) -> float:
    found = seconds(text)
    if found <= 0:
        raise typer.BadParameter("a token has to live for a while: 30d")
    return found


Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: the audit calls them so.", show_default=False)]


@app.command()
def add(
    name: Name,
    scope: Annotated[
        Scope, typer.Option("--scope", help="What it opens: to look, to settle and undo, to overrule.")
    ] = Scope.READ,
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires", parser=_lifetime, metavar="DURATION", help="For how long: 12h, 30d.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Make one, and show it this once."""
    from app.audit.tokens import add_token

    audit, now = _audit_now()
    expires_at = None if expires is None else now + round(expires * 1000)
    shown, token = add_token(audit, name, scope, now=now, by=user(), expires_at=expires_at)
    if as_json:
        say_json({"token": shown, **_described(token, now)})
        return DONE
    until = f"until {_described(token, now)['expires_at']}" if expires_at else "until it is revoked"
    warn(f"{name} may {scope} {until}; only its digest is kept, so this is the one time that it is shown:")
    say(shown)
    return DONE


@app.command("list")
def list_all(as_json: Json = False) -> int:
    """List every token that was made, those revoked and expired too."""
    from app.audit.tokens import all_tokens

    audit, now = _audit_now()
    found = [_described(token, now) for token in all_tokens(audit)]
    rows = [_row(token) for token in found]
    if as_json:
        say_json(found)
    elif is_terminal() and rows:
        console().print(table(_HEADINGS, rows))
    else:
        for name, scope, state, created, by, expires, used in rows:
            say(f"{name:<20} {scope:<6}  {state:<7}  created {created} by {by}, expires {expires}, last used {used}")
        if not rows:
            say("no named token was made yet; `clawmend token add NAME` makes one")
    return DONE


@app.command()
def revoke(name: Name, as_json: Json = False) -> int:
    """Take one back: it opens nothing any more."""
    from app.audit.tokens import revoke_token

    audit, now = _audit_now()
    revoke_token(audit, name, now=now, by=user())
    if as_json:
        say_json({"name": name, "state": "revoked"})
    else:
        say(f"{name} is revoked; a service that runs refuses it within a few seconds")
    return DONE


def _audit_now() -> tuple[AuditLog, int]:
    from app.settings import load_settings

    settings = load_settings()
    from app.building import open_audit
    from app.clock import SystemClock

    return open_audit(settings), SystemClock().now()


def _described(token: Token, now: int) -> dict[str, Any]:
    from app.domain.describe import rfc3339

    return {
        "name": token.name,
        "scope": token.scope,
        "state": token.state(now),
        "created_at": rfc3339(token.created_at),
        "created_by": token.created_by,
        "expires_at": rfc3339(token.expires_at),
        "last_used_at": rfc3339(token.last_used_at),
        "revoked_at": rfc3339(token.revoked_at),
        "revoked_by": token.revoked_by,
    }


def _row(token: dict[str, Any]) -> tuple[str, ...]:
    expires, used = token["expires_at"] or "never", token["last_used_at"] or "never"
    return token["name"], token["scope"], token["state"], token["created_at"], token["created_by"], expires, used
