"""Which sessions flap, as far as the audit can be asked from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from app.cli.screen import warn

if TYPE_CHECKING:
    from app.reconcile.report import Finding, StoreState
    from app.settings import Settings


def with_flapping(settings: Settings, stores: Sequence[StoreState], now: int) -> tuple[StoreState, ...]:
    """`stores` with the mark on those that flap at `now` (epoch ms); an audit that is not there has none."""
    from app.domain.model import Code

    codes = (Code.STUCK, Code.ENDING)
    some = any(f.verdict.code in codes for store in stores for f in store.findings)
    if not some or _has_no_file(settings.database_url):
        return tuple(stores)
    from app.audit.log import AuditLog, AuditUnavailable
    from app.reconcile.marks import flapping_now

    audit = AuditLog(settings.database_url)
    try:
        flaps = flapping_now(audit, settings.flapping, now)
    except AuditUnavailable as error:
        warn(f"whether a session flaps is not known: {error}")
        return tuple(stores)
    finally:
        audit.dispose()

    def marked(finding: Finding) -> Finding:
        return replace(finding, flapping=flaps.get(finding.name)) if finding.verdict.code in codes else finding

    return tuple(replace(store, findings=tuple(map(marked, store.findings))) for store in stores)


def flapping_words(finding: Finding) -> str:
    """What is to be added to its reason; empty where it does not flap."""
    from app.domain.describe import rfc3339

    flap, issue = finding.flapping, finding.known_issue
    if flap is None:
        return ""
    known = f"; {issue.says}: {issue.url}" if issue else ""
    return f"; it flaps: settled {flap.times} times since {rfc3339(flap.since)}, so a person is to look{known}"


def _has_no_file(url: str) -> bool:
    from pathlib import Path

    prefix = "sqlite:///"
    return url.startswith(prefix) and not Path(url.removeprefix(prefix)).exists()
