"""What the page shows of a report: order, filters, pages, counts."""

from __future__ import annotations

from app.domain.model import Code, Evidence, Row, Settlement, Verdict
from app.openclaw.paths import StoreTarget
from app.reconcile.report import Finding, Problem, Report, StoreState
from app.web.board import ALL, LOOK_CODES, PAGE, Board, Wanted, board_of, reference_of

STORE = StoreTarget("/state", "main", "/state/agents/main/sessions/sessions.json", "/state/agents")


def finding(key: str, code: Code, *, started_at: int = 1_000, ended_at: int | None = None) -> Finding:
    settlement = Settlement("done", ended_at, 0, False) if ended_at is not None else None
    status = "done" if code is Code.SETTLED else "running"
    row = Row(key, f"id-of-{key}", status, started_at=started_at)
    return Finding(STORE, Evidence(row), Verdict(code, "a reason", settlement))


def board(*findings: Finding, **more: object) -> Board:
    return board_of(Report(1, stores=(StoreState(STORE, open=findings),), **more))  # type: ignore[arg-type]


def keys(made: Board, wanted: Wanted) -> list[str]:
    return [line.finding.key for line in made.sheet(wanted).lines]


def test_the_stuck_come_first_the_oldest_of_them_before_all_and_what_needs_nobody_is_not_shown() -> None:
    made = board(
        finding("settled", Code.SETTLED),
        finding("silent", Code.SILENT, started_at=1),
        finding("young", Code.STUCK, started_at=1, ended_at=900),
        finding("working", Code.WORKING),
        finding("old", Code.STUCK, started_at=2, ended_at=800),
    )
    assert keys(made, Wanted()) == ["old", "young", "silent"]
    assert keys(made, Wanted(ALL)) == ["old", "young", "silent", "working", "settled"]
    assert (made.stuck, made.stuck_since, made.needs_a_look) == (2, 800, 3)


def test_every_verdict_is_shown_by_itself_or_is_none_that_needs_a_look() -> None:
    made = board(*(finding(str(code), code) for code in Code))
    for code in Code:
        assert keys(made, Wanted(str(code))) == [str(code)]
    assert set(keys(made, Wanted())) == {str(code) for code in LOOK_CODES}
    assert set(Code) - set(LOOK_CODES) == {Code.SETTLED, Code.WORKING, Code.WAITING}


def test_an_agent_and_words_of_the_key_or_the_id_leave_the_others_out() -> None:
    made = board(finding("agent:main:Telegram", Code.STUCK), finding("agent:main:web", Code.STUCK))
    assert keys(made, Wanted(words=" telegram ")) == ["agent:main:Telegram"]
    assert keys(made, Wanted(words="id-of-agent:main:web")) == ["agent:main:web"]
    assert keys(made, Wanted(agent="other")) == []
    assert made.agents == ("main",)


def test_ten_thousand_sessions_come_in_pages_and_a_page_behind_the_last_is_the_last() -> None:
    made = board(*(finding(f"k{i:05}", Code.STUCK, ended_at=i) for i in range(10_000)))
    first, last = made.sheet(Wanted()), made.sheet(Wanted(page=10_000))
    assert (first.found, first.pages, len(first.lines)) == (10_000, 10_000 // PAGE, PAGE)
    assert (first.lines[0].finding.key, last.lines[-1].finding.key, last.page) == ("k00000", "k09999", last.pages)
    assert made.sheet(Wanted(page=2)).lines[0].finding.key == f"k{PAGE:05}"


def test_nothing_found_is_one_page_without_a_line() -> None:
    sheet = board().sheet(Wanted(page=7))
    assert (sheet.lines, sheet.found, sheet.page, sheet.pages) == ((), 0, 1, 1)
    assert board().stuck_since is None


def test_a_session_is_found_by_its_reference_which_does_not_tell_its_key() -> None:
    made = board(finding("agent:main:whatsapp:+491701234567", Code.STUCK))
    (line,) = made.lines
    assert made.by_reference[line.reference] is line
    assert line.reference == reference_of(STORE.path, line.finding.key)
    assert line.reference != reference_of("/another" + STORE.path, line.finding.key)
    assert "49170" not in line.reference
    assert len(line.reference) == 24


def test_a_key_with_half_an_emoji_in_it_has_a_reference_too() -> None:
    assert len(reference_of(STORE.path, "agent:main:\ud83d")) == 24


def test_the_state_changes_with_the_counts_and_the_problems_and_not_with_the_time() -> None:
    one = board(finding("a", Code.STUCK))
    assert one.state == board(finding("a", Code.STUCK), finished_at=9_000).state
    assert one.state != board(finding("a", Code.SETTLED)).state
    problem = StoreState(STORE, problem=Problem("unreadable", "a reason"))
    assert one.state != board_of(Report(1, stores=(problem,))).state
