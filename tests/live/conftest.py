"""Every test here is marked `live`, and runs where there is no route out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.no_route_out import cut_off  # noqa: F401  (a fixture)

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)
