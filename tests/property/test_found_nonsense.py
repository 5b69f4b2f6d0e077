"""Every case that the fuzzer found, or that a mended bug left: it stays found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.openclaw import trajectory
from tests.faults.nonsense.store_claims import check_store
from tests.faults.nonsense.trajectory_claims import SMALL, Held, check_trajectory

FOUND = Path(__file__).parents[1] / "faults" / "nonsense" / "found"


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.close()


@pytest.mark.parametrize("name", sorted(file.name for file in (FOUND / "store").iterdir()))
def test_a_store_that_once_broke_a_claim_keeps_to_all_of_them(name: str) -> None:
    check_store((FOUND / "store" / name).read_bytes())


@pytest.mark.parametrize("name", sorted(file.name for file in (FOUND / "trajectory").iterdir()))
@pytest.mark.parametrize("sizes", [{}, SMALL], ids=["as it is", "small blocks"])
def test_a_trajectory_that_once_broke_a_claim_keeps_to_all_of_them(
    name: str, sizes: dict[str, int], held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size, value in sizes.items():
        monkeypatch.setattr(trajectory, size, value)
    check_trajectory((FOUND / "trajectory" / name).read_bytes(), held)
