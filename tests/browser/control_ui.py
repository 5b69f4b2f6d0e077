"""OpenClaw's Control UI as a person opens it (spec/control-ui.md has its selectors)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import quote

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.live.client import Client
from tests.live.gateway import TOKEN, Gateway

STOP = "button.chat-send-btn--stop"
PATIENCE_MS = 240_000


@dataclass
class ControlUi:
    """One browser, paired with the gateway."""

    gateway: Gateway
    context: BrowserContext

    def sessions(self) -> Page:
        return self._open("/sessions")

    def chat(self, key: str) -> Page:
        return self._open(f"/chat?session={quote(key)}")

    def _open(self, path: str) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"http://127.0.0.1:{self.gateway.port}{path}#token={TOKEN}")
        return page

    def pair(self, person: Client) -> None:
        """The first visit asks for the device to be approved."""
        page = self.sessions()
        until = time.monotonic() + PATIENCE_MS / 1000
        while not (waiting := person.call("device.pair.list", {}).get("pending")):
            assert time.monotonic() < until, "the page did not ask to be paired"
            page.wait_for_timeout(200)
        person.call("device.pair.approve", {"requestId": waiting[0]["requestId"]})
        page.get_by_role("button", name="Connect", exact=True).click()
        expect(page.locator("tr").first).to_be_visible(timeout=PATIENCE_MS)
        page.close()


def badge(page: Page, key: str, status: str) -> Locator:
    """The mark of one session in the Sessions view: `live`, `done`, `failed`, `idle`."""
    return page.locator("tr", has_text=key).locator(f".session-status-badge--{status}").first
