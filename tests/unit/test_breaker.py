"""When the breaker opens: by how many fell due, and how many a person has let through."""

from __future__ import annotations

from app.domain.breaker import BreakerPolicy, why_to_open

POLICY = BreakerPolicy(250, 600)


def test_as_many_as_the_setting_says_are_settled() -> None:
    assert why_to_open(200, 0, POLICY) is None
    assert why_to_open(250, 0, POLICY) is None


def test_one_more_opens_it_and_the_reason_has_the_numbers() -> None:
    reason = why_to_open(251, 0, POLICY)
    assert reason == "251 sessions fell due within 10 min; more than 250 are not settled without a person"


def test_what_a_person_has_let_through_does_not_count() -> None:
    assert why_to_open(550, 300, POLICY) is None
    reason = why_to_open(551, 300, POLICY)
    assert reason is not None
    assert reason.startswith("251 sessions fell due within 10 min besides the 300 that a person has let through;")
