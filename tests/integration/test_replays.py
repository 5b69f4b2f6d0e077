"""Requests that came with a key, as the audit database keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.audit.log import AuditLog
from app.audit.replays import Answer, Claim, InProgress, Keyed, KeyReused, claim, keep, release, renew

NOW = 1_800_000_000_000
SECOND = 1_000
ASKED = Keyed("anna", "key-1", "POST /sessions/a/repair", "0" * 64)
ANSWER = Answer(409, [("content-type", "application/problem+json"), ("x-é", "é")], b'{"a":"\xff"}')


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    log = AuditLog(f"sqlite:///{tmp_path / 'own' / 'audit.db'}")
    log.migrate()
    yield log
    log.dispose()


def claimed(audit: AuditLog, now: int = NOW, keyed: Keyed = ASKED) -> Claim:
    made = claim(audit, keyed, now)
    assert isinstance(made, Claim)
    return made


def test_what_was_answered_is_given_again_as_it_was(audit: AuditLog) -> None:
    first = claimed(audit)
    assert first.first_at is None
    keep(audit, first, ANSWER)
    assert claim(audit, ASKED, NOW + SECOND) == ANSWER


def test_another_process_has_the_same_answers(audit: AuditLog, tmp_path: Path) -> None:
    keep(audit, claimed(audit), ANSWER)
    other = AuditLog(f"sqlite:///{tmp_path / 'own' / 'audit.db'}")
    assert claim(other, ASKED, NOW) == ANSWER
    other.dispose()


def test_a_request_under_way_is_not_begun_again_as_long_as_it_says_so(audit: AuditLog) -> None:
    first = claimed(audit)
    for later in (0, 29, -29):
        with pytest.raises(InProgress):
            claim(audit, ASKED, NOW + later * SECOND)
    renew(audit, first, NOW + 29 * SECOND)
    with pytest.raises(InProgress):
        claim(audit, ASKED, NOW + 58 * SECOND)


def test_one_that_says_nothing_any_more_is_taken_over_and_what_its_first_run_still_says_does_not_count(
    audit: AuditLog,
) -> None:
    first = claimed(audit)
    second = claimed(audit, NOW + 30 * SECOND)
    assert (second.first_at, second.run == first.run) == (NOW, False)
    keep(audit, first, ANSWER)
    release(audit, first)
    renew(audit, first, NOW + 60 * SECOND)
    third = claimed(audit, NOW + 60 * SECOND)
    assert third.first_at == NOW, "it is still without an answer, and was taken over 30 s ago"


def test_what_is_released_is_begun_anew(audit: AuditLog) -> None:
    release(audit, claimed(audit))
    assert claimed(audit, NOW + SECOND).first_at is None


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(ASKED, sha256="1" * 64), "another body, query or condition"),
        (replace(ASKED, request="POST /sessions/b/repair", sha256="1" * 64), "POST /sessions/a/repair"),
    ],
)
def test_a_key_is_for_one_request_only(audit: AuditLog, answered: bool, other: Keyed, said: str) -> None:
    first = claimed(audit)
    if answered:
        keep(audit, first, ANSWER)
    with pytest.raises(KeyReused, match=said):
        claim(audit, other, NOW + 60 * SECOND)


def test_each_caller_has_keys_of_their_own(audit: AuditLog) -> None:
    keep(audit, claimed(audit), ANSWER)
    assert claimed(audit, keyed=replace(ASKED, caller="bert", sha256="1" * 64)).first_at is None


def test_an_answer_is_forgotten_after_a_day_and_not_before(audit: AuditLog) -> None:
    keep(audit, claimed(audit), ANSWER)
    day = 86_400 * SECOND
    assert claim(audit, ASKED, NOW + day - 1) == ANSWER
    claimed(audit, NOW + day, replace(ASKED, key="another"))
    assert claimed(audit, NOW + day - 1).first_at is None, "any request has the old ones forgotten"
