"""Named tokens as the audit keeps them: shown once, kept as a digest, one live token of each name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.audit.log import AuditLog
from app.audit.tokens import TokenRefused, add_token, all_tokens, live_tokens, revoke_token, write_last_used
from app.domain.caller import Scope

NOW = 1_795_327_600_000
DAY = 86_400_000


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    made = AuditLog(f"sqlite:///{tmp_path / 'own' / 'audit.db'}")
    made.migrate()
    yield made
    made.dispose()


def add(
    audit: AuditLog, name: str = "ci", scope: Scope = Scope.READ, now: int = NOW, expires_at: int | None = None
) -> str:
    return add_token(audit, name, scope, now=now, by="anna", expires_at=expires_at)[0]


def test_what_is_shown_is_in_no_file_and_what_is_kept_is_its_digest(audit: AuditLog, tmp_path: Path) -> None:
    shown, token = add_token(audit, "ci", Scope.REPAIR, now=NOW, by="anna", expires_at=NOW + DAY)
    assert all_tokens(audit) == [token]
    assert token.sha256 == hashlib.sha256(shown.encode()).hexdigest()
    assert (token.name, token.scope, token.created_at, token.created_by) == ("ci", "repair", NOW, "anna")
    assert (token.expires_at, token.last_used_at, token.revoked_at) == (NOW + DAY, None, None)
    kept = b"".join(file.read_bytes() for file in (tmp_path / "own").iterdir())
    assert token.sha256.encode() in kept
    assert shown.removeprefix("clawmend_").encode() not in kept


def test_no_two_tokens_are_alike_and_each_has_256_bits(audit: AuditLog) -> None:
    shown = {add(audit, f"n{i}") for i in range(20)}
    assert len(shown) == 20
    assert all(s.startswith("clawmend_") and len(s) == len("clawmend_") + 43 for s in shown)  # 43 * 6 bits


def test_a_second_token_of_one_name_is_refused_until_the_first_is_revoked_or_has_expired(audit: AuditLog) -> None:
    add(audit)
    with pytest.raises(TokenRefused, match="called ci"):
        add(audit)
    revoke_token(audit, "ci", now=NOW + 1, by="bert")
    add(audit, now=NOW + 2, expires_at=NOW + DAY)
    with pytest.raises(TokenRefused, match="called ci"):
        add(audit, now=NOW + DAY - 1)
    add(audit, now=NOW + DAY)
    assert [t.state(NOW + DAY) for t in all_tokens(audit)] == ["revoked", "expired", "live"]


@pytest.mark.parametrize("name", ["", "-x", ".x", "two words", "x" * 65, "ä", "a\nb", "a,b", "a/b"])
def test_a_name_that_the_audit_could_not_show_in_one_word_is_refused(audit: AuditLog, name: str) -> None:
    with pytest.raises(TokenRefused, match="letters"):
        add(audit, name)
    assert all_tokens(audit) == []


@pytest.mark.parametrize("name", ["api", "clawmend", "nobody", "API"])
def test_a_name_that_the_audit_gives_to_another_is_refused(audit: AuditLog, name: str) -> None:
    with pytest.raises(TokenRefused, match=name.lower()):
        add(audit, name)


@pytest.mark.parametrize("name", ["a", "x" * 64, "Anna.B_c-d@example+1"])
def test_a_name_of_one_word_is_taken(audit: AuditLog, name: str) -> None:
    add(audit, name)
    assert [t.name for t in all_tokens(audit)] == [name]


def test_revoking_keeps_the_row_and_says_by_whom(audit: AuditLog) -> None:
    add(audit)
    add(audit, "other", now=NOW + 1)
    revoke_token(audit, "ci", now=NOW + 5, by="bert")
    revoked, other = all_tokens(audit)
    assert (revoked.revoked_at, revoked.revoked_by, revoked.state(NOW + 6)) == (NOW + 5, "bert", "revoked")
    assert other.revoked_at is None
    assert [t.name for t in live_tokens(audit, NOW + 6)] == ["other"]


def test_there_is_nothing_to_revoke_where_no_live_token_has_the_name(audit: AuditLog) -> None:
    add(audit)
    revoke_token(audit, "ci", now=NOW, by="anna")
    add(audit, "old", expires_at=NOW + 1)
    for name in ("ci", "old", "never"):
        with pytest.raises(TokenRefused, match=f"called {name}"):
            revoke_token(audit, name, now=NOW + 2, by="anna")


def test_a_token_is_live_up_to_the_moment_at_which_it_expires(audit: AuditLog) -> None:
    add(audit, expires_at=NOW + DAY)
    assert [t.name for t in live_tokens(audit, NOW + DAY - 1)] == ["ci"]
    assert live_tokens(audit, NOW + DAY) == []


def test_a_scope_that_this_version_does_not_know_lets_nobody_in(audit: AuditLog) -> None:
    add(audit)
    with audit.write() as connection:
        connection.exec_driver_sql("UPDATE access_tokens SET scope = 'owner'")
    assert live_tokens(audit, NOW) == []


def test_the_last_use_is_kept_with_the_token_that_was_used(audit: AuditLog) -> None:
    add(audit)
    add(audit, "other", now=NOW + 1)
    write_last_used(audit, {all_tokens(audit)[0].id: NOW + 7})
    assert [t.last_used_at for t in all_tokens(audit)] == [NOW + 7, None]
