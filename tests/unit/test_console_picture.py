"""The picture of a session in time: its order, its places, its words."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.domain.model import End, Event, Evidence, FileIdentity, Gateway, Policy, Row, Trail, Verdict
from app.domain.verdict import judge
from app.web.picture import MOST_ATTEMPTS, Lane, Picture, draw

NOW = 1_800_000_000_000
FILE = FileIdentity(1, 1, 1, 0)
SECOND = 1_000
HOUR = 3_600 * SECOND


def trail(*events: tuple[str, int], status: str | None = "error") -> Trail:
    """Of `(type, ms before NOW)`."""
    told = tuple(Event(kind, NOW - ago, "a-run") for kind, ago in events)
    ended = bool(told) and told[-1].type == "session.ended"
    end = End(told[-1].ts, status, session_id="a") if ended else None
    return Trail("a.trajectory.jsonl", "a", FILE, told, end)


def running(*trails: Trail, ago: int, **more: object) -> Evidence:
    row = Row("agent:main:main", "a", "running", started_at=NOW - ago)
    return replace(Evidence(row, trails=trails, watched=HOUR), **more)  # type: ignore[arg-type]


def drawn(evidence: Evidence, due: int | None = None) -> Picture:
    return draw(evidence, judge(evidence, Policy(), NOW), due, NOW)


def lane(picture: Picture, name: str) -> Lane:
    (found,) = (each for each in picture.lanes if each.name == name)
    return found


TWO_ATTEMPTS = trail(
    ("session.started", 90 * SECOND),
    ("prompt.submitted", 89 * SECOND),
    ("session.ended", 80 * SECOND),
    ("session.started", 70 * SECOND),
    ("session.ended", 60 * SECOND),
)


def test_a_stuck_session_has_its_attempts_its_end_its_window_and_now_in_the_order_of_time() -> None:
    evidence = running(TWO_ATTEMPTS, ago=91 * SECOND)
    picture = drawn(evidence, due=NOW - 30 * SECOND)
    assert [(m.number, m.what, m.after) for m in picture.moments] == [
        (1, "the row was set running", None),
        (2, "an attempt began", 1.0),
        (3, "the attempt ended", 10.0),
        (4, "an attempt began", 10.0),
        (5, "the attempt ended: error", 10.0),
        (6, "its window is over", 30.0),
        (7, "now", 30.0),
    ]
    at = {m.number: m.x for m in picture.moments}
    assert [(b.kind, b.x, round(b.x + b.width, 6)) for b in lane(picture, "trajectory").bars] == [
        ("attempt", at[2], at[3]),
        ("attempt", at[4], at[5]),
    ]
    (row,) = lane(picture, "row").bars
    assert (row.kind, row.x, row.width) == ("open", 0.0, 1.0)
    (window,) = lane(picture, "window").bars
    assert (window.x, round(window.x + window.width, 6)) == (at[5], at[6])
    assert picture.now == 1.0


def test_the_last_word_of_a_trajectory_stands_out() -> None:
    ticks = lane(drawn(running(TWO_ATTEMPTS, ago=91 * SECOND)), "trajectory").ticks
    assert [t.label for t in ticks if t.last] == ["session.ended"]
    assert len(ticks) == 5


def test_a_pause_of_hours_is_longer_than_one_of_seconds_and_leaves_it_room() -> None:
    evidence = running(trail(("session.started", HOUR + 146), ("session.ended", HOUR)), ago=HOUR + 146)
    first, second, third = (m.x for m in drawn(evidence).moments)
    assert 0.1 < second - first < third - second


def test_an_attempt_without_an_end_goes_on_until_now_and_its_last_event_is_a_moment() -> None:
    evidence = running(trail(("session.started", 20_000), ("prompt.submitted", 10_000)), ago=20_000)
    picture = drawn(evidence)
    (bar,) = lane(picture, "trajectory").bars
    assert (bar.kind, round(bar.x + bar.width, 6)) == ("open", picture.now)
    assert [m.what for m in picture.moments] == [
        "the row was set running; an attempt began",
        "the last event: prompt.submitted",
        "now",
    ]


def test_an_attempt_whose_beginning_was_not_read_does_not_claim_to_begin() -> None:
    picture = drawn(running(trail(("model.completed", 9_000), ("session.ended", 8_000)), ago=20_000))
    assert [m.what for m in picture.moments][1] == "the oldest event that was read"


def test_only_the_newest_attempts_are_drawn() -> None:
    many = [(kind, 100_000 - 1_000 * i) for i, kind in enumerate(["session.started", "session.ended"] * 10)]
    assert len(lane(drawn(running(trail(*many), ago=200_000)), "trajectory").bars) == MOST_ATTEMPTS


def test_a_gateway_that_was_started_later_is_a_moment_and_one_that_was_there_all_along_is_none() -> None:
    open_turn = trail(("prompt.submitted", 50_000))
    later = drawn(running(open_turn, ago=60_000, gateway=Gateway("running", NOW - 30_000)))
    assert "the gateway that runs now was started" in [m.what for m in later.moments]
    before = drawn(running(open_turn, ago=60_000, gateway=Gateway("running", NOW - HOUR)))
    assert "the gateway that runs now was started" not in [m.what for m in before.moments]
    (bar,) = lane(before, "gateway").bars
    assert (bar.x, bar.width) == (0.0, 1.0)


def test_a_row_that_is_settled_ends_where_it_says() -> None:
    row = Row("agent:main:main", "a", "done", started_at=NOW - 60_000, ended_at=NOW - 20_000)
    picture = draw(Evidence(row), judge(Evidence(row), Policy(), NOW), None, NOW)
    (bar,) = lane(picture, "row").bars
    assert (bar.kind, round(bar.x + bar.width, 6)) == ("row", picture.moments[1].x)
    assert picture.moments[1].what == "the row says that it ended: done"


def test_a_row_that_says_nothing_is_a_picture_with_nothing_but_now() -> None:
    picture = draw(
        Evidence(Row("agent:main:main")), Verdict(judge(Evidence(Row("k")), Policy(), NOW).code, ""), None, NOW
    )
    assert [(m.what, m.x) for m in picture.moments] == [("now", 0.0)]
    assert picture.lanes == ()


def test_what_is_drawn_is_also_said() -> None:
    said = drawn(running(TWO_ATTEMPTS, ago=91 * SECOND), due=NOW + 5 * SECOND).said
    assert said.startswith("1: the row was set running, 91 s ago. 2: an attempt began, 90 s ago. ")
    assert "the attempt ended: error, 60 s ago." in said
    assert said.endswith("6: now. 7: its window is over, in 5 s.")


@given(
    st.lists(st.tuples(st.sampled_from(["session.started", "session.ended", "x"]), st.integers(-(10**9), 10**12))),
    st.one_of(st.none(), st.integers(-(10**15), 10**15)),
    st.one_of(st.none(), st.integers(0, 2 * NOW)),
)
def test_whatever_the_times_are_all_stands_on_the_line_and_in_order(
    events: list[tuple[str, int]], started_ago: int | None, due: int | None
) -> None:
    row = Row("k", "a", "running", started_at=None if started_ago is None else NOW - started_ago)
    evidence = Evidence(row, trails=(trail(*events),))
    picture = draw(evidence, judge(evidence, Policy(), NOW), due, NOW)
    assert all(a.at < b.at and a.x < b.x for a, b in pairwise(picture.moments))
    places = [m.x for m in picture.moments] + [p.x for p in picture.pauses] + [picture.now]
    for each in picture.lanes:
        places += [x for b in each.bars for x in (b.x, b.x + b.width)] + [t.x for t in each.ticks]
        assert all(b.width >= 0 for b in each.bars)
    assert all(0 <= x <= 1.000001 for x in places)
