"""`clawmend repair`: settle one session, or, with --all, many."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import typer

from app.cli.exits import SOMETHING_STUCK
from app.cli.failures import Failure
from app.cli.looking import linked, looker, only_one
from app.cli.options import NO_REASON, Json, Reason
from app.cli.person import asked
from app.cli.repair_all import repair_all
from app.cli.screen import say, say_json
from app.cli.told import change, told_outcome

SessionIdOrAll = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A sessionId or a session key.", show_default=False)
]
Status = Literal["done", "failed", "timeout", "killed"]


class Verdict(StrEnum):
    """What --all may settle without force."""

    STUCK = "stuck"
    ENDING = "ending"


def repair(
    name: SessionIdOrAll = None,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Do it.")] = False,
    reason: Reason = NO_REASON,
    force: Annotated[
        Status | None,
        typer.Option("--force", metavar="STATUS", help="Settle it to STATUS though it is not proven finished."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Settle every session that matches, one after the other.")
    ] = False,
    verdicts: Annotated[
        list[Verdict] | None,
        typer.Option("--verdict", help="With --all: only these (stuck); may be given twice.", show_default=False),
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="ID", help="With --all: only this agent's.")] = None,
    min_age: Annotated[
        float | None,
        typer.Option("--min-age", metavar="SECONDS", min=0, help="With --all: only what has been over for so long."),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--max", metavar="N", min=1, max=500, help="With --all: so many, the oldest first (10)."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Settle one session, or many (only says what it would do, unless --apply)."""
    if every:
        if name is not None or force is not None:
            raise Failure(
                "usage", "--all goes with no ID and no --force: what is not proven is settled by its own name"
            )
        return repair_all(
            asked(reason, dry_run=not apply),
            tuple(verdicts or [Verdict.STUCK]),
            most or 10,
            agent,
            min_age,
            as_json=as_json,
        )
    if name is None:
        raise Failure("usage", "a session is to be named, or --all; `clawmend repair --help` tells more")
    if verdicts or agent is not None or min_age is not None or most is not None:
        raise Failure("usage", "--verdict, --agent, --min-age and --max go with --all")
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
