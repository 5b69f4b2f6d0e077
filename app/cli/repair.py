"""`clawmend repair`: settle one session."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from app.cli.exits import SOMETHING_STUCK
from app.cli.failures import Failure
from app.cli.looking import linked, looker, only_one
from app.cli.options import NO_REASON, Json, Reason, SessionId
from app.cli.person import asked
from app.cli.screen import say, say_json
from app.cli.told import change, told_outcome

Status = Literal["done", "failed", "timeout", "killed"]


def repair(
    name: SessionId,
    apply: Annotated[bool, typer.Option("--apply", help="Do it.")] = False,
    reason: Reason = NO_REASON,
    force: Annotated[
        Status | None,
        typer.Option("--force", metavar="STATUS", help="Settle it to STATUS though it is not proven finished."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Settle one session (only says what it would do, unless --apply)."""
    from app.settings import load_settings

    settings = load_settings()
    from app.api.views import describe_attempt, describe_finding
    from app.building import build_reconciler
    from app.reconcile.asking import NotStuck

    ask = asked(reason, dry_run=not apply, status=force)
    try:
        with linked(build_reconciler(settings)) as reconciler:
            finding = only_one(looker(settings, reconciler.scanner)(), name)
            attempt = reconciler.repairer.settle(finding, ask)
    except NotStuck as error:
        found = error.finding
        now = reconciler.clock.now()
        described = describe_finding(found, settings.policy, now) if found else None
        raise Failure("not_stuck", f"not settled: {error}", session=described) from None
    if as_json:
        say_json(describe_attempt(attempt, dry_run=not apply))
    elif not apply:
        say(f"would settle {finding.key}: {change(attempt)}")
        say("nothing was written; --apply does it")
    else:
        say(f"{attempt.outcome}: {finding.key}: {change(attempt)}")
        say(f"to take it back: clawmend undo {attempt.id}")
    if not apply:
        return SOMETHING_STUCK
    return told_outcome(attempt)
