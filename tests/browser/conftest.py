"""Every test here is marked `browser`; the browser is the system's Chromium, and has no route out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.live.no_route_out import cut_off  # noqa: F401  (a fixture)

HERE = Path(__file__).parent
SHOTS = HERE.parents[1] / "screenshots"
"""Kept by CI; not part of the repository."""
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium(cut_off: bool) -> Iterator[Browser]:  # noqa: F811
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "Chromium is needed: apt-get install chromium"
    SHOTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield browser
        browser.close()
