"""When a session falls due, said the same from pass to pass."""

from __future__ import annotations

import pytest

from app.domain.model import Evidence, Row
from app.reconcile.watch import Watches
from tests.world import HeldClock

NAME = ("/a/sessions.json", "agent:main:main")
DUE = 1_800_000_000_000


@pytest.fixture
def watches() -> Watches:
    made = Watches(HeldClock())
    made.watched(NAME, Evidence(Row(NAME[1], "a", "running")))
    assert made.steady(NAME, DUE, DUE - 30_000) == DUE
    return made


@pytest.mark.parametrize("parted", [-250, -1, 1, 250])
def test_a_moment_that_was_reckoned_again_is_said_as_before(watches: Watches, parted: int) -> None:
    assert watches.steady(NAME, DUE + parted, DUE - 25_000) == DUE


@pytest.mark.parametrize("parted", [-251, 251, 60_000])
def test_another_moment_is_said(watches: Watches, parted: int) -> None:
    assert watches.steady(NAME, DUE + parted, DUE - 25_000) == DUE + parted
    assert watches.steady(NAME, DUE + parted + 1, DUE - 25_000) == DUE + parted


def test_nothing_is_said_to_be_due_while_it_is_not(watches: Watches) -> None:
    """A pass is woken when it is due: with a moment that has passed it would not be."""
    assert watches.steady(NAME, DUE + 2, DUE + 1) == DUE + 2
    assert watches.steady(NAME, DUE + 1, DUE + 5_000) == DUE + 2


def test_a_session_that_looks_otherwise_begins_anew(watches: Watches) -> None:
    watches.watched(NAME, Evidence(Row(NAME[1], "b", "running")))
    assert watches.steady(NAME, DUE + 1, DUE - 25_000) == DUE + 1


def test_what_never_falls_due_or_is_not_watched_is_left_as_it_is(watches: Watches) -> None:
    assert watches.steady(NAME, None, DUE) is None
    assert watches.steady(("/b", "k"), DUE + 1, DUE) == DUE + 1
