"""What an attempt has read of a store: decoded once for the same bytes, anew for any other."""

from __future__ import annotations

import pytest

from app.openclaw.sessions_json import StoreProblem
from app.reconcile.standing import LastRead

ONE = b'{"a": {"sessionId": "s", "status": "running"}}'
OTHER = ONE.replace(b"running", b"done")


def test_the_same_bytes_are_not_decoded_a_second_time() -> None:
    last = LastRead()
    (row,) = last.rows(ONE)
    (again,) = last.rows(bytearray(ONE))
    assert again is row, "by their content, not by the object that holds them"


def test_other_bytes_say_what_they_say() -> None:
    last = LastRead()
    assert [r.status for r in last.rows(ONE)] == ["running"]
    assert [r.status for r in last.rows(OTHER)] == ["done"]
    assert [r.status for r in last.rows(ONE)] == ["running"]


def test_where_a_row_stands_is_told_of_the_bytes_that_are_asked_about_whatever_was_read_before() -> None:
    last = LastRead()
    for data in (ONE, b" " + ONE, ONE):
        start, end = last.spans(data, ["a", "b"])["a"]
        assert data[start:end] == ONE[6:-1]
    assert last.spans(OTHER, ["b"]) == {}, "a row that is not there stands nowhere"


def test_what_cannot_be_read_is_said_each_time_and_is_never_taken_for_what_was_read_before() -> None:
    last = LastRead()
    with pytest.raises(StoreProblem):
        last.rows(b"")
    last.rows(ONE)
    for _ in range(2):
        with pytest.raises(StoreProblem):
            last.rows(ONE[:-1])
    assert [r.status for r in last.rows(ONE)] == ["running"]
