"""Times and verdicts in the words of the console."""

from __future__ import annotations

from datetime import UTC, datetime

from app.audit.models import Attempt, Outcome
from app.domain.describe import LATEST
from app.domain.model import Code

MEANING: dict[Code, str] = {
    Code.STUCK: "finished, and its row still says running",
    Code.ENDING: "its turn has ended; the gateway may still settle the row",
    Code.ORPHANED: "no end, and the gateway that ran it is gone",
    Code.SILENT: "no end, and nothing has moved for long",
    Code.NEVER_STARTED: "set running, and nothing was ever written",
    Code.UNPROVABLE: "what is on disk proves nothing",
    Code.RECOVERING: "OpenClaw itself is on it",
    Code.WAITING: "waits for sessions that it has started",
    Code.WORKING: "at work",
    Code.SETTLED: "not running",
}
"""Each verdict in a few words, in the order in which a person wants to see them."""

MARK: dict[Code, str] = {
    Code.STUCK: "■",
    Code.ENDING: "◧",
    Code.ORPHANED: "◇",
    Code.SILENT: "◌",
    Code.NEVER_STARTED: "△",
    Code.UNPROVABLE: "?",
    Code.RECOVERING: "↻",
    Code.WAITING: "⋯",
    Code.WORKING: "▶",
    Code.SETTLED: "✓",
}
"""A shape for each verdict: it is not told by its colour alone."""


def span(seconds: float | None) -> str:
    """`0.15 s`, `12 s`, `4 min`, `3 h 20 min`, `2 d 4 h`; empty for None."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    days, hours = divmod(hours, 24)
    return f"{days} d" + (f" {hours} h" if hours else "")


def age(seconds: float | None) -> str:
    """The same in whole seconds, for what goes on growing."""
    return "" if seconds is None else span(round(seconds))


def day(ms: int | None) -> str:
    """`22 Nov 2026`, in UTC."""
    moment = _moment(ms)
    return f"{moment.day} {moment:%b %Y}" if moment else ""


def time_of_day(ms: int | None) -> str:
    """`06:05:58`, in UTC."""
    moment = _moment(ms)
    return f"{moment:%H:%M:%S}" if moment else ""


def exact(ms: int | None) -> str:
    """`06:05:58.006`, in UTC."""
    return f"{time_of_day(ms)}.{ms % 1000:03d}" if ms is not None and _moment(ms) else ""


def deed(attempt: Attempt) -> str:
    """What an attempt did, or was to do, to a row: `settled: running → failed`."""
    done = attempt.outcome == Outcome.APPLIED
    verb = {"undo": "taken back", "settle": "settled"}.get(attempt.kind, attempt.kind)
    verb = verb if done else f"to be {verb}"
    before, after = attempt.before.get("status") or "nothing", attempt.after.get("status") or "nothing"
    return f"{verb}: {before} → {after}"


def _moment(ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(ms // 1000, UTC) if ms is not None and 0 <= ms <= LATEST else None
