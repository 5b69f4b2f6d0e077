"""Which known issue of OpenClaw leaves a row running as this one was left, where that can be told from the disk.

Only what the evidence shows is used: which era, what kind of key, how the turn ended, who had started it. Which harness
or provider ran it is not in it, so issues that hang on these are not named. docs/reference/verdicts.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.model import End, Evidence

_ISSUES = "https://github.com/openclaw/openclaw/issues/"


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """An issue of OpenClaw's own tracker, and what it says."""

    number: int
    says: str

    @property
    def url(self) -> str:
        return f"{_ISSUES}{self.number}"


CRON = KnownIssue(56121, "rows of cron runs stay running after the run has finished")
DATABASE_DONE = KnownIssue(119714, "from 2026.7.2 on a row stays running after a turn that ended with success")
DATABASE = KnownIssue(119117, "rows in a database stay running, and no command of OpenClaw clears them")
SUBAGENT = KnownIssue(7331, "rows of finished subagents stay running")
ABORTED = KnownIssue(63819, "a row stays running after its turn was aborted")
TIMED_OUT = KnownIssue(42011, "a row stays running after its turn ran into the time limit")
CHAT = KnownIssue(86009, "a row stays running though the trajectory of its chat turn has ended")
KNOWN_ISSUES = (CRON, DATABASE_DONE, DATABASE, SUBAGENT, ABORTED, TIMED_OUT, CHAT)


def known_issue(evidence: Evidence) -> KnownIssue | None:
    """The one whose signature a row that was proven finished has; None where nothing on disk tells which it is."""
    row = evidence.row
    ended = [t for t in evidence.trails if t.last is not None and t.end is not None]
    if not ended:
        return None
    latest = max(ended, key=lambda trail: trail.last.ts if trail.last else 0)
    end = latest.end
    if end is None:
        return None
    if ":cron:" in row.key:
        return CRON
    if row.run_id is not None:
        return DATABASE_DONE if end.status == "success" else DATABASE
    if row.is_subagent:
        return SUBAGENT
    if _was_aborted(end):
        return ABORTED
    if end.timed_out:
        return TIMED_OUT
    return CHAT if latest.registered else None


def _was_aborted(end: End) -> bool:
    return end.external_abort or end.status == "interrupted" or (end.aborted and not end.timed_out)
