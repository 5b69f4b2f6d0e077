"""`clawmend repair --all`: settle every session that matches, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.cli.exits import COULD_NOT_TELL, DONE, NOT_NOW, SOMETHING_STUCK
from app.cli.failures import failure_of, problem
from app.cli.looking import linked, looker
from app.cli.screen import say, say_json
from app.cli.told import change

if TYPE_CHECKING:
    from app.reconcile.asking import Ask
    from app.reconcile.bulk import Came, Choice


def repair_all(
    ask: Ask, verdicts: tuple[str, ...], most: int, agent: str | None, min_age: float | None, *, as_json: bool
) -> int:
    """Settle up to `most` sessions, the oldest first. Nothing that one of them comes to stops another, but that the
    audit database does not answer any more.
    """
    from app.api.views import describe_bulk
    from app.audit.log import AuditUnavailable
    from app.building import build_reconciler
    from app.domain.model import Code
    from app.reconcile.bulk import OneByOne, Wanted, choose
    from app.settings import load_settings

    settings = load_settings()
    wanted = Wanted(tuple(Code(word) for word in verdicts), most, agent, min_age)
    came: list[Came] = []
    stopped: Exception | None = None
    with linked(build_reconciler(settings)) as reconciler:
        report = looker(settings, reconciler.scanner)()
        choice = choose(report, wanted, reconciler.audit, settle_subagents=settings.settle_subagents)
        one_by_one = OneByOne(reconciler.repairer, ask)
        for finding in choice.taken:
            came.append(one_by_one.settle(finding))
            if not as_json:
                _say(came[-1], dry_run=ask.dry_run)
            if isinstance(came[-1].error, AuditUnavailable):
                stopped = came[-1].error
                break
    if as_json:
        say_json(describe_bulk(choice, came, stopped, _told, dry_run=ask.dry_run))
    else:
        _say_the_rest(choice, came, dry_run=ask.dry_run)
    return _exit_code(came, dry_run=ask.dry_run)


def _told(error: Exception) -> dict[str, Any]:
    return problem(failure_of(error))


def _say(each: Came, *, dry_run: bool) -> None:
    if each.attempt is not None:
        word = "would settle" if dry_run else f"{each.attempt.outcome}:"
        say(f"{word} {each.finding.key}: {each.attempt.outcome_reason or change(each.attempt)}")
    elif each.error is not None:
        failure = failure_of(each.error)
        say(f"{failure.code}: {each.finding.key}: {each.error}")


def _say_the_rest(choice: Choice, came: list[Came], *, dry_run: bool) -> None:
    for finding, why in choice.left_out:
        say(f"left out: {finding.key}: {why}")
    done = sum(1 for each in came if each.attempt is not None and (dry_run or each.attempt.outcome == "applied"))
    rest = choice.more + len(choice.taken) - len(came)
    say(f"{done} of {len(came)} {'would be settled' if dry_run else 'settled'}, {rest} more match")
    if dry_run and done:
        say("nothing was written; --apply does it")
    elif done:
        say("to take one back: clawmend undo ID, with its id in clawmend audit")


def _exit_code(came: list[Came], *, dry_run: bool) -> int:
    failures = {failure_of(each.error).code for each in came if each.error is not None}
    failures |= {str(each.attempt.outcome) for each in came if each.attempt and not dry_run} - {"applied"}
    if failures - {"store_busy"}:
        return COULD_NOT_TELL
    if failures:
        return NOT_NOW
    return SOMETHING_STUCK if dry_run and came else DONE
