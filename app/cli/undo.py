"""`clawmend undo`: give a row back as it was before a repair."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.exits import DONE
from app.cli.failures import Failure
from app.cli.looking import linked
from app.cli.options import NO_REASON, Json, Reason
from app.cli.person import asked
from app.cli.screen import say, say_json
from app.cli.told import told_outcome


def undo(
    attempt_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id of the repair (see `clawmend audit`).", show_default=False)
    ],
    reason: Reason = NO_REASON,
    as_json: Json = False,
) -> int:
    """Give a row back as it was before a repair."""
    from app.settings import load_settings

    settings = load_settings()
    from app.api.views import describe_attempt
    from app.building import build_reconciler

    with linked(build_reconciler(settings)) as reconciler:
        repair = reconciler.audit.get(attempt_id)
        if repair is None:
            raise Failure("not_found", f"no repair has the id {attempt_id}; `clawmend audit` lists them")
        attempt = reconciler.repairer.undo(repair, asked(reason))
    code = told_outcome(attempt)
    if as_json:
        say_json(describe_attempt(attempt))
    elif code == DONE:
        say(f"{attempt.session_key} is again as it was; the scheduler leaves it alone until its next turn")
    return code
