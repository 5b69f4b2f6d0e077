"""Scopes: each one has those below it in it, and none above."""

from __future__ import annotations

import pytest

from app.domain.caller import INSTALLATION, NOBODY, Caller, Scope


@pytest.mark.parametrize(
    ("given", "may"),
    [
        (Scope.READ, {Scope.READ}),
        (Scope.REPAIR, {Scope.READ, Scope.REPAIR}),
        (Scope.ADMIN, {Scope.READ, Scope.REPAIR, Scope.ADMIN}),
    ],
)
def test_a_scope_has_the_lower_ones_in_it_and_none_above(given: Scope, may: set[Scope]) -> None:
    caller = Caller("anna", given.all_in_it)
    assert {scope for scope in Scope if caller.may(scope)} == may


def test_the_installation_may_everything_and_nobody_nothing() -> None:
    assert all(INSTALLATION.may(scope) for scope in Scope)
    assert not any(NOBODY.may(scope) for scope in Scope)
