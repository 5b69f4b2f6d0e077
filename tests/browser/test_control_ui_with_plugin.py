"""With the companion plugin also the tab that has sent the message is freed: no reload, no word in the transcript."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app.openclaw.plugin_install import FOLDER
from tests.browser.control_ui import PATIENCE_MS, STOP, ControlUi, badge
from tests.browser.test_control_ui import WATCH, end_of, wait_until
from tests.live.client import Client
from tests.live.gateway import Gateway
from tests.live.model_server import model_server
from tests.live.scene import clawmend, seconds

KEY = "agent:main:sent"
COMPOSER = ".agent-chat__input textarea"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With the plugin copied into it, as `clawmend plugin install` has OpenClaw do (tests/live/test_plugin.py)."""
    with model_server() as model_port:
        made = Gateway("2026.5.18", tmp_path_factory.mktemp("with-plugin") / "home", model_port, control_ui=True)
        made.settle_in()
        shutil.copytree(FOLDER, made.state / "extensions" / "clawmend")
        config = made.state / "openclaw.json"
        entries = {"plugins": {"entries": {"clawmend": {"enabled": True}}}}
        config.write_text(json.dumps({**json.loads(config.read_text()), **entries}))
        made.start()
        yield made
        made.end()


def test_stop_turns_to_send_in_the_tab_that_has_sent_the_message_and_the_next_one_is_answered(
    gateway: Gateway, chromium: Browser, tmp_path: Path
) -> None:
    person = Client(gateway)
    person.send("agent:main:first", "hello")  # so that the pages have a session to show
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    ui = ControlUi(gateway, context)
    ui.pair(person)
    tab, sessions = ui.chat(KEY), ui.sessions()
    tab.locator(COMPOSER).fill("ERROR 400 2")
    tab.locator("button.chat-send-btn").click()
    expect(tab.locator(STOP)).to_be_visible(timeout=PATIENCE_MS)
    tab.evaluate(WATCH, STOP)
    wait_until(lambda: end_of(gateway, KEY))
    transcript = transcript_of(gateway)
    with clawmend(gateway, tmp_path / "clawmend", CLAWMEND_STALE_AFTER_SECONDS="2") as service:
        expect(tab.locator(STOP)).to_have_count(0, timeout=PATIENCE_MS)
        expect(badge(sessions, KEY, "failed")).to_be_visible(timeout=PATIENCE_MS)
        wait_until(lambda: service.get("/repairs")["items"][0]["outcome"])
        (attempt,) = service.get("/repairs")["items"]
    decided, gone = seconds(attempt["decided_at"]), tab.evaluate("window.gone") / 1000  # lost in a reload
    print(f"Stop went {gone - decided:+.3f} s from the settlement, {gone - end_of(gateway, KEY):.1f} s from the end")
    assert (attempt["outcome"], attempt["hand"]) == ("applied", "plugin")
    assert decided - 1 <= gone <= decided + 1
    assert transcript_of(gateway) == transcript
    tab.locator(COMPOSER).fill("hello")
    expect(tab.locator("button.chat-send-btn", has_text="Send")).to_be_visible()
    tab.locator("button.chat-send-btn").click()
    expect(tab.get_by_text("an answer").first).to_be_visible(timeout=PATIENCE_MS)
    wait_until(lambda: gateway.store()[KEY]["status"] == "done")
    expect(tab.locator(STOP)).to_have_count(0, timeout=PATIENCE_MS)
    context.close()
    person.close()


def transcript_of(gateway: Gateway) -> bytes:
    sessions = gateway.state / "agents" / "main" / "sessions"
    return (sessions / f"{gateway.store()[KEY]['sessionId']}.jsonl").read_bytes()
