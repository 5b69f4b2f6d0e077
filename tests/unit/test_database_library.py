from __future__ import annotations

import apsw
import pytest

from app.openclaw.database_leases import Leases, Opener, still_open, under_maintenance
from app.openclaw.database_write import is_safe_library


@pytest.mark.parametrize("version", ["3.44.6", "3.44.7", "3.50.7", "3.50.12", "3.51.3", "3.52.0", "3.54.1", "4.0.0"])
def test_a_library_that_openclaw_itself_would_write_with_is_safe(version: str) -> None:
    assert is_safe_library(version) is True


@pytest.mark.parametrize("version", ["3.40.1", "3.44.5", "3.45.0", "3.49.9", "3.50.6", "3.51.0", "3.51.2", "", "3.x"])
def test_every_other_library_may_damage_a_log(version: str) -> None:
    assert is_safe_library(version) is False


def test_the_library_that_we_write_with_is_safe() -> None:
    assert is_safe_library(apsw.sqlite_lib_version())


@pytest.mark.parametrize(("until", "held"), [(None, False), (9, False), (10, False), (11, True)])
def test_a_maintenance_counts_until_its_lease_runs_out(until: int | None, held: bool) -> None:
    assert under_maintenance(Leases(until), now=10) is held


@pytest.mark.parametrize(
    ("said", "now", "open_still"),
    [(5, 5, True), (None, 5, True), (5, 6, False)],
    ids=["the same process", "one whose start is not known", "another one that has its pid"],
)
def test_who_has_it_open_is_told_by_pid_and_start(said: int | None, now: int, open_still: bool) -> None:
    opener = Opener(77, said)
    assert (still_open(Leases(None, (opener,)), start=lambda _: now) == opener) is open_still
