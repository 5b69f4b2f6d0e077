"""`clawmend scan`: every session, looked at once or again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from app.cli.exits import COULD_NOT_TELL, NOTHING_STUCK, SOMETHING_STUCK
from app.cli.flaps import flapping_words
from app.cli.looking import looker
from app.cli.options import Json, Watch
from app.cli.screen import console, is_terminal, say, say_json, table
from app.cli.watching import watch

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.reconcile.report import Report
    from app.settings import Settings


def scan(as_json: Json = False, every: Watch = None) -> int:
    """Look once at every session."""
    from app.settings import load_settings

    settings = load_settings()
    look = looker(settings)
    if every is not None:
        watch(every, look, _drawn, lambda before, now: _changes(settings, before, now), as_json=as_json)
    report = look()
    if as_json:
        _say_all(report, settings)
    elif is_terminal():
        console().print(_drawn(report))
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

    now = report.finished_at or 0
    found = [describe_finding(f, settings.policy, now) for f in report.findings()]
    say_json({"sessions": found, "problems": describe_problems(report), "scan": describe_scan(report)})


def _say(report: Report) -> None:
    for word, name, reason in _rows(report):
        say(f"{word:<13} {name}")
        say(f"              {reason}")
    say(_total(report))


def _drawn(report: Report) -> RenderableType:
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
    yield from _troubles(report)


def _troubles(report: Report) -> Iterator[tuple[str, str, str]]:
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


def _changes(settings: Settings, before: Report | None, now: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sessions that came, went or are found to be something else than at the look before; stores likewise."""
    from app.api.views import describe_change
    from app.domain.describe import rfc3339
    from app.reconcile.report import Report, changes

    at = rfc3339(now.finished_at)
    for change in changes(before or Report(), now):
        word, reason = ("gone", "its row is gone") if change.gone else (change.now, change.finding.verdict.reason)
        document = {"at": at, "event": "finding", **describe_change(change, settings.policy, now.finished_at or 0)}
        yield f"{at} {word:<13} {change.finding.key}: {reason}", document
    was = set(_troubles(before)) if before else set()
    troubles = list(_troubles(now))
    for word, name, reason in troubles:
        if (word, name, reason) not in was:
            document = {"at": at, "event": "problem", "where": name, "detail": reason}
            yield f"{at} {word:<13} {name}: {reason}", document
    for _, name, _ in sorted(was):
        if name not in {path for _, path, _ in troubles}:
            yield f"{at} {'well again':<13} {name}", {"at": at, "event": "problem", "where": name, "detail": None}
