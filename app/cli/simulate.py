"""`clawmend simulate`: what another policy would have done with what was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.durations import seconds, window
from app.cli.exits import DONE
from app.cli.failures import Failure
from app.cli.options import Json
from app.cli.screen import console, is_terminal, say, say_json, say_rows, table

if TYPE_CHECKING:
    from app.domain.model import Policy
    from app.domain.simulation import Replayed
    from app.reconcile.history import Recorded
    from app.settings import Settings

_HEADINGS = ("change", "seconds", "wrong", "session", "end", "at", "was settled", "would be", "from", "known of it")
LIMITS = (
    "The audit has only sessions that somebody tried to settle: a turn that went on in time left nothing in it.",
    "What only the moment could tell (the gateway's answer, locks, other sessions) is taken to have been the same.",
)
"""What the numbers cannot say; docs/how-to/try-another-policy.md says more."""


def _window(help_text: str) -> Any:
    return typer.Option(parser=window, metavar="DURATION", help=help_text)


def simulate(  # noqa: PLR0917  (options: the command line gives them by name)
    stale_after: Annotated[float | None, _window("After an end with success.")] = None,
    error_quiet: Annotated[float | None, _window("After any other end.")] = None,
    compaction_quiet: Annotated[float | None, _window("After one that smells of compaction.")] = None,
    silent_after: Annotated[float | None, _window("Until one without an end is silent.")] = None,
    never_started: Annotated[float | None, _window("Until one never started.")] = None,
    settle_subagents: Annotated[
        bool | None, typer.Option("--settle-subagents/--leave-subagents", help="Whether subagents' rows are settled.")
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="DURATION", help="How far back in the audit; else all of it."),
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder with trajectories, instead of the recordings that are shipped."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Say what another policy would have done with the evidence in the audit and in recordings."""
    from app.settings import load_settings

    settings = load_settings()
    given: dict[str, Any] = {
        "stale_after": stale_after,
        "error_quiet": error_quiet,
        "compaction_quiet": compaction_quiet,
        "silent_after": silent_after,
        "never_started_after": never_started,
        "settle_subagents": settle_subagents,
    }
    policy = replace(settings.policy, **{name: value for name, value in given.items() if value is not None})
    from app.domain.simulation import replay

    found = [
        (recorded, replay(recorded.sighting, policy) if recorded.sighting else None)
        for recorded in _recorded(settings, since, recordings)
    ]
    if as_json:
        say_json(_described(found, policy))
        return DONE
    rows = [_row(recorded, replayed) for recorded, replayed in found]
    if is_terminal():
        console().print(table(_HEADINGS, rows))
    else:
        say_rows(_HEADINGS, rows)
    for line in (_summary(found), *LIMITS):
        say(line)
    return DONE


def _recorded(settings: Settings, since: float | None, folder: Path | None) -> Iterable[Recorded]:
    from app.building import open_audit
    from app.clock import SystemClock
    from app.demo import recordings_folder
    from app.reconcile.history import of_audit, of_recordings

    if folder is not None and not folder.is_dir():
        raise Failure("not_found", f"there is no folder {folder}")
    earliest = 0 if since is None else SystemClock().now() - round(since * 1000)
    yield from of_audit(open_audit(settings), earliest, settings.policy)
    yield from of_recordings(folder or recordings_folder(), settings.policy)


def _row(recorded: Recorded, replayed: Replayed | None) -> tuple[str, ...]:
    from app.domain.describe import rfc3339

    end = recorded.end
    seconds_more = replayed.seconds if replayed else None
    return (
        str(replayed.change) if replayed else "cannot tell",
        "" if seconds_more is None else f"{seconds_more:+.3f}",
        "wrong" if replayed and replayed.would_be_wrong else "",
        recorded.session_key,
        (end.status or "") if end else "",
        str(rfc3339(end.ts)) if end else "",
        str(rfc3339(replayed.was_at) or "") if replayed else "",
        str(rfc3339(replayed.would_be_at) or "") if replayed else "",
        recorded.source,
        "; ".join(_known(recorded, replayed)),
    )


def _known(recorded: Recorded, replayed: Replayed | None) -> Iterator[str]:
    """What came of it in fact, and why this policy would not settle it."""
    yield recorded.outcome
    seen, end = recorded.sighting, recorded.end
    if seen is None:
        return
    if seen.followed_at is not None and end is not None:
        yield f"another attempt followed {(seen.followed_at - end.ts) / 1000:.3f} s after the end"
    elif not recorded.tells_more:
        yield "whether anything followed is not known"
    else:
        yield "nothing followed"
    if replayed is not None and replayed.would_be_at is None and seen.followed_at is None:
        yield replayed.why


def _summary(found: list[tuple[Recorded, Replayed | None]]) -> str:
    from app.domain.simulation import Change, totals

    counted = totals(replayed for _, replayed in found if replayed)
    counted[Change.CANNOT_TELL] += sum(replayed is None for _, replayed in found)
    words = ", ".join(f"{counted[change]} {change}" for change in Change)
    return f"{len(found)} ends: {words}; wrong: {counted['wrong']} with this policy, {counted['was_wrong']} before"


def _described(found: list[tuple[Recorded, Replayed | None]], policy: Policy) -> dict[str, Any]:
    from app.domain.simulation import Change, totals

    counted = totals(replayed for _, replayed in found if replayed)
    counted[Change.CANNOT_TELL] += sum(replayed is None for _, replayed in found)
    return {
        "policy": asdict(policy),
        "ends": [_described_one(recorded, replayed) for recorded, replayed in found],
        "totals": {
            "ends": len(found),
            **{change.replace(" ", "_"): counted[change] for change in Change},
            "wrong": counted["wrong"],
            "was_wrong": counted["was_wrong"],
        },
        "limits": LIMITS,
    }


def _described_one(recorded: Recorded, replayed: Replayed | None) -> dict[str, Any]:
    from app.domain.describe import rfc3339

    seen, end = recorded.sighting, recorded.end
    return {
        "source": recorded.source,
        "session_key": recorded.session_key,
        "end": {"ts": rfc3339(end.ts), "status": end.status} if end else None,
        "outcome": recorded.outcome,
        "change": replayed.change.replace(" ", "_") if replayed else "cannot_tell",
        "was_settled_at": rfc3339(replayed.was_at) if replayed else None,
        "would_be_settled_at": rfc3339(replayed.would_be_at) if replayed else None,
        "seconds": replayed.seconds if replayed else None,
        "why": replayed.why if replayed else None,
        "was_wrong": replayed.was_wrong if replayed else None,
        "would_be_wrong": replayed.would_be_wrong if replayed else None,
        "followed_at": rfc3339(seen.followed_at) if seen else None,
        "aftermath_known": recorded.tells_more,
    }
