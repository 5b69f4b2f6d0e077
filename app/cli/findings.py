"""What one scan says: every session of a report, and the exit code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.cli.exits import COULD_NOT_TELL, NOTHING_STUCK, SOMETHING_STUCK
from app.cli.flaps import flapping_words
from app.cli.looking import looker
from app.cli.screen import console, is_terminal, say, say_json, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.reconcile.report import Report
    from app.settings import Settings


def scan_once(*, as_json: bool) -> int:
    """Look at every session, and say what is found; gives the exit code."""
    from app.settings import load_settings

    settings = load_settings()
    report = looker(settings)()
    if as_json:
        _say_all(report, settings)
    elif is_terminal():
        console().print(drawn(report))
    else:
        _say(report)
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    from app.domain.model import Code

    if report.with_code(Code.STUCK):
        return SOMETHING_STUCK
    return COULD_NOT_TELL if report.problems() else NOTHING_STUCK


def _say_all(report: Report, settings: Settings) -> None:
    from app.api.views import describe_finding, describe_problems, describe_scan

    now, policy = report.finished_at or 0, settings.policy
    found = [describe_finding(f, policy, now) for f in report.findings()]
    say_json({"sessions": found, "problems": describe_problems(report), "scan": describe_scan(report)})


def _say(report: Report) -> None:
    for word, name, reason in _rows(report):
        say(f"{word:<13} {name}")
        say(f"              {reason}")
    say(_total(report))


def drawn(report: Report) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    rows = list(_rows(report))
    total = Text(_total(report), style="bold")
    return Group(table(("verdict", "session", "why"), rows), total) if rows else total


def _rows(report: Report) -> Iterator[tuple[str, str, str]]:
    """The sessions that run and the stores to be minded: a word, a name, a sentence."""
    from app.domain.model import Code

    for finding in report.findings():
        if finding.verdict.code is not Code.SETTLED:
            yield str(finding.verdict.code), finding.key, finding.verdict.reason + flapping_words(finding)
    yield from troubles(report)


def troubles(report: Report) -> Iterator[tuple[str, str, str]]:
    for path, problem in report.state_problems:
        yield "cannot tell", path, problem.detail
    for store in report.stores:
        if store.problem:
            yield "cannot tell" if store.identity is None else "mind", store.target.path, store.problem.detail


def _total(report: Report) -> str:
    from app.domain.model import Code

    found = list(report.findings())
    running = sum(f.verdict.code is not Code.SETTLED for f in found)
    stuck = len(report.with_code(Code.STUCK))
    return f"{len(found)} sessions in {len(report.stores)} stores, {running} running, {stuck} stuck"
