"""Which issue of OpenClaw a row's evidence is the signature of."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain import signatures
from app.domain.model import End, Event, Evidence, FileIdentity, Row, Trail
from app.domain.signatures import KNOWN_ISSUES, KnownIssue, known_issue

NOW = 1_800_000_000_000
FILE = FileIdentity(1, 1, 1, NOW * 1_000_000)
VERDICTS = Path(__file__).parents[2] / "docs" / "reference" / "verdicts.md"


def evidence(
    key: str = "agent:main:main", *, run: str | None = None, registered: bool = False, **end: object
) -> Evidence:
    status = str(end.pop("status", "error"))
    trail = Trail(
        "a.trajectory.jsonl",
        "a",
        FILE,
        (Event("session.ended", NOW),),
        End(NOW, status, session_id="a", **end),  # type: ignore[arg-type]
        registered=registered,
    )
    return Evidence(Row(key, "a", "running", started_at=NOW - 1_000, run_id=run), (trail,))


@pytest.mark.parametrize(
    ("seen", "issue"),
    [
        (evidence("agent:main:cron:job-1:run:2", status="success"), signatures.CRON),
        (evidence("agent:main:cron:job-1", run="run"), signatures.CRON),
        (evidence(run="run", status="success"), signatures.DATABASE_DONE),
        (evidence(run="run", status="interrupted", aborted=True), signatures.DATABASE),
        (evidence("agent:main:subagent:1", status="success"), signatures.SUBAGENT),
        (evidence(status="interrupted", registered=True), signatures.ABORTED),
        (evidence(external_abort=True, timed_out=True), signatures.ABORTED),
        (evidence(aborted=True, registered=True), signatures.ABORTED),
        (evidence(aborted=True, timed_out=True, registered=True), signatures.TIMED_OUT),
        (evidence(status="success", registered=True), signatures.CHAT),
        (evidence(registered=True), signatures.CHAT),
    ],
)
def test_each_signature_leads_to_its_issue(seen: Evidence, issue: KnownIssue) -> None:
    assert known_issue(seen) == issue
    assert issue.url == f"https://github.com/openclaw/openclaw/issues/{issue.number}"


def test_what_nothing_on_disk_tells_has_no_issue() -> None:
    assert known_issue(evidence(status="success")) is None, "a turn of a channel: any of a dozen issues"


def test_without_an_end_nothing_is_told() -> None:
    seen = evidence("agent:main:cron:job-1")
    assert known_issue(replace(seen, trails=())) is None
    assert known_issue(replace(seen, trails=(seen.trails[0]._replace(end=None),))) is None


def test_the_newest_end_is_the_one_that_counts() -> None:
    older, newer = evidence(status="interrupted").trails[0], evidence(registered=True).trails[0]
    older = older._replace(events=(Event("session.ended", NOW - 5_000),))
    seen = evidence()
    for trails in ((older, newer), (newer, older)):
        assert known_issue(replace(seen, trails=trails)) == signatures.CHAT


def test_the_verdicts_page_has_every_issue_with_what_it_says() -> None:
    rows = re.findall(r"^\| .+ \| \[(\d+)\]\((\S+)\): (.+) \|$", VERDICTS.read_text(), re.MULTILINE)
    assert rows == [(str(issue.number), issue.url, issue.says) for issue in KNOWN_ISSUES]
