"""`clawmend scan`: every session, looked at once or again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from app.cli.findings import drawn, scan_once, troubles
from app.cli.looking import looker
from app.cli.options import Json, Watch
from app.cli.watching import watch

if TYPE_CHECKING:
    from app.reconcile.report import Report
    from app.settings import Settings


def scan(as_json: Json = False, every: Watch = None) -> int:
    """Look once at every session."""
    from app.settings import load_settings

    if every is not None:
        settings = load_settings()
        watch(every, looker(settings), drawn, lambda before, now: _changes(settings, before, now), as_json=as_json)
    return scan_once(as_json=as_json)


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
    was = set(troubles(before)) if before else set()
    are = list(troubles(now))
    for word, name, reason in are:
        if (word, name, reason) not in was:
            document = {"at": at, "event": "problem", "where": name, "detail": reason}
            yield f"{at} {word:<13} {name}: {reason}", document
    for _, name, _ in sorted(was):
        if name not in {path for _, path, _ in are}:
            yield f"{at} {'well again':<13} {name}", {"at": at, "event": "problem", "where": name, "detail": None}
