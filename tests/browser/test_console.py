"""The console as a person meets it: in Chromium, by mouse and by keyboard, wide and narrow, light and dark."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Response, expect

from tests.api.conftest import TOKEN, Served, add_row, on_the_machines_clock, wait_until
from tests.browser.conftest import SHOTS
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World

PATIENCE_MS = 60_000
PHONE = {"width": 360, "height": 740}

CONTRAST = """() => {
  const parse = (color) => (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (each) => {
    for (; each; each = each.parentElement) {
      const color = parse(getComputedStyle(each).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const each of document.querySelectorAll("body *")) {
    const words = [...each.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join("");
    if (!words || !each.checkVisibility() || each.closest(".vh, noscript, option, title")) continue;
    const style = getComputedStyle(each);
    const color = parse(each.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [a, b] = [light(color), light(each.namespaceURI.endsWith("svg") ? color : ground(each))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5 && !each.namespaceURI.endsWith("svg")) poor.push(`${words.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
"""Words that stand out too little from what is behind them (WCAG 2.2, 1.4.3: 4.5 to 1)."""


@pytest.fixture
def server(world: World) -> Iterator[Served]:
    """Nothing is stuck in it yet; it settles nothing by itself, and looks as often as it can."""
    add_row(world, "agent:main:at-work", "id-at-work", started_ago=20, events=(("session.started", 20),))
    made = Served(on_the_machines_clock(world, auto_repair=False, scan_interval_seconds=0.3, store_quiet_seconds=0))
    made.start()
    wait_until(lambda: made.app.state.service.last_pass_at is not None, "the first pass", 60)
    yield made
    made.stop()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1180, "height": 860}, color_scheme="light")
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


@pytest.fixture
def complaints(context: BrowserContext) -> list[str]:
    """What the browser complains of: errors of scripts, and what the Content-Security-Policy forbids."""
    found: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.append(message.text)

    context.on("console", heard)
    context.on("weberror", lambda error: found.append(str(error.error)))
    return found


def url(server: Served) -> str:
    return f"http://127.0.0.1:{server.port}/"


@pytest.fixture
def page(server: Served, context: BrowserContext, complaints: list[str]) -> Page:
    """Logged in, and live."""
    made = context.new_page()
    made.goto(url(server))
    log_in(made)
    return made


def log_in(page: Page, token: str = TOKEN) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    if token == TOKEN:
        expect(page.locator(".live")).to_have_attribute("data-live", "yes", timeout=PATIENCE_MS)


def row(page: Page, key: str = STUCK_KEY) -> Locator:
    return page.get_by_role("table").get_by_role("link", name=key, exact=True)


def seen(what: Locator) -> None:
    expect(what).to_be_visible(timeout=PATIENCE_MS)


def gone(what: Locator) -> None:
    expect(what).to_have_count(0, timeout=PATIENCE_MS)


def stuck_count(page: Page, count: int) -> None:
    expect(page.locator("#stuck-count")).to_have_text(str(count), timeout=PATIENCE_MS)


def shot(page: Page, name: str) -> None:
    page.screenshot(
        path=str(SHOTS / f"console-{name}.png"), caret="initial"
    )  # else it adds a style, which is forbidden


def test_a_stuck_session_appears_is_repaired_by_a_click_and_the_undo_brings_it_back(
    page: Page, world: World, complaints: list[str]
) -> None:
    seen(page.get_by_text("Nothing is stuck").first)
    gone(row(page))
    stick(world)
    before = world.store().read_bytes()
    stuck_count(page, 1)
    seen(row(page))
    expect(page).to_have_title("1 stuck · Clawmend", timeout=PATIENCE_MS)
    expect(page.locator("#told")).to_have_text("1 session is stuck")
    shot(page, "stuck")

    row(page).click()
    dialog = page.get_by_role("dialog", name=re.compile(STUCK_KEY))
    seen(dialog)
    seen(dialog.get_by_role("img", name=re.compile("the attempt ended: error")))
    shot(page, "opened")
    dialog.get_by_role("button", name="Dry run").click()
    seen(dialog.get_by_text("A dry run: nothing was written."))
    assert world.store().read_bytes() == before

    dialog.get_by_label("Reason").fill("the user waits")
    dialog.get_by_role("button", name="Repair: settle as failed").click()
    seen(dialog.get_by_text("Settled."))
    expect(dialog.get_by_role("status")).to_be_focused()
    stuck_count(page, 0)
    assert world.row()["status"] == "failed"
    page.keyboard.press("Escape")
    gone(page.get_by_role("dialog"))
    gone(row(page))
    expect(page.locator("#told")).to_have_text("Nothing is stuck", timeout=PATIENCE_MS)
    seen(page.locator("#repairs").get_by_text("by api: the user waits"))

    page.locator("#repairs").get_by_role("button", name=STUCK_KEY).click()
    dialog.get_by_label("Reason").fill("too early")
    dialog.get_by_role("button", name="Undo").click()
    seen(dialog.get_by_text("Taken back."))
    assert world.store().read_bytes() == before
    dialog.get_by_role("button", name="Close").click()
    stuck_count(page, 1)
    seen(row(page))
    seen(page.get_by_text("given back by an undo"))
    seen(page.locator("#repairs").get_by_text("taken back: failed → running"))
    shot(page, "taken-back")
    assert complaints == []


def stick(world: World) -> None:
    """A session is stuck, beside those that are there."""
    others = world.rows()
    world.stuck()
    world.write_store(json.dumps({**others, **world.rows()}, indent=2).encode())


def test_a_repair_that_the_service_makes_by_itself_changes_the_page_without_a_click(page: Page, world: World) -> None:
    stick(world)
    stuck_count(page, 1)
    row(page).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("half a rea")
    world.edit_row(status="failed", endedAt=world.clock.now())
    stuck_count(page, 0)
    seen(dialog.get_by_text("its status is failed"))
    gone(dialog.get_by_role("button", name="Repair"))


def test_what_is_being_typed_stays_while_the_page_changes_around_it(page: Page, world: World) -> None:
    stick(world)
    row(page).click()
    reason = page.get_by_role("dialog").get_by_label("Reason")
    reason.fill("half a rea")
    renewed = renewal(page, "/console/sessions/")
    page.evaluate("htmx.trigger(document.body, 'console:opened')")
    renewed()
    expect(reason).to_have_value("half a rea")
    expect(reason).to_be_focused()
    page.keyboard.type("son")
    expect(reason).to_have_value("half a reason")


def renewal(page: Page, path: str) -> Callable[[], None]:
    """Waits until a part of the page has come anew since now, and is in its place."""
    came: list[str] = []

    def heard(answer: Response) -> None:
        if path in answer.url:
            came.append(answer.url)

    page.on("response", heard)
    page.evaluate(
        "window.settled = 0; document.body.addEventListener('htmx:afterSettle', () => { window.settled += 1; })"
    )

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while page.evaluate("window.settled") == 0:  # what waits within the page would have to be evaluated there
            assert time.monotonic() < deadline, "no part of the page came anew"
            page.wait_for_timeout(20)
        assert came

    return wait


def test_a_wrong_token_is_told_and_nothing_is_shown(server: Served, context: BrowserContext, world: World) -> None:
    stick(world)
    page = context.new_page()
    page.goto(url(server))
    log_in(page, "a token that nobody has")
    seen(page.get_by_role("alert").get_by_text("no token of this Clawmend is the one you gave"))
    assert STUCK_KEY not in page.content()
    assert context.cookies() == []
    expect(page.get_by_label("Token")).to_be_focused()
    log_in(page)
    seen(row(page))


def test_the_cookie_cannot_be_read_by_a_script_and_is_not_sent_from_elsewhere(
    page: Page, context: BrowserContext, world: World
) -> None:
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert page.evaluate("document.cookie") == ""
    stick(world)
    row(page).click()
    seen(page.get_by_role("dialog"))
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert STUCK_KEY not in kept
    assert STUCK_SESSION_ID not in kept


def test_logging_out_shows_the_login_in_every_tab(
    page: Page, context: BrowserContext, server: Served, world: World
) -> None:
    stick(world)
    seen(row(page))
    page.get_by_role("button", name="Log out").click()
    seen(page.get_by_label("Token"))
    assert context.cookies() == []
    page.go_back()
    seen(page.get_by_label("Token"))
    assert STUCK_KEY not in page.content()


def test_a_login_that_has_ended_leads_to_the_login_form_by_itself(page: Page, server: Served) -> None:
    server.app.state.logins._logins.clear()
    seen(page.get_by_label("Token"))


def test_a_click_after_the_login_has_ended_leads_to_the_login_form(
    page: Page, context: BrowserContext, server: Served
) -> None:
    context.route("**/console/events", lambda route: route.abort())
    page.reload()
    expect(page.locator(".live")).to_contain_text("connecting again", timeout=PATIENCE_MS)
    server.app.state.logins._logins.clear()
    page.get_by_role("link", name=re.compile("^all")).click()
    seen(page.get_by_label("Token"))


def test_the_page_is_walked_by_keyboard_alone(page: Page, world: World) -> None:
    stick(world)
    seen(row(page))
    page.reload()
    expect(page.locator(".live")).to_have_attribute("data-live", "yes", timeout=PATIENCE_MS)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the sessions")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    tab_to(page, row(page))
    outline = (
        "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
    )
    assert page.evaluate(outline) == "solid3px"
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    seen(dialog)
    expect(dialog.get_by_role("heading", name=re.compile(STUCK_KEY))).to_be_focused()
    tab_to(page, dialog.get_by_label("Reason"))
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")  # the first button, which writes nothing
    seen(dialog.get_by_text("A dry run: nothing was written."))
    expect(dialog.get_by_role("status")).to_be_focused()
    assert world.row()["status"] == "running"
    tab_to(page, dialog.get_by_role("button", name="Repair"))
    page.keyboard.press("Space")
    seen(dialog.get_by_text("Settled."))
    page.keyboard.press("Escape")
    gone(page.get_by_role("dialog"))
    expect(page.get_by_role("heading", name="Sessions")).to_be_focused()  # its row is not in the list any more


def tab_to(page: Page, goal: Locator) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if goal.evaluate("each => each === document.activeElement"):
            return
    raise AssertionError("it cannot be reached by the Tab key")


def test_the_focus_comes_back_to_the_session_that_was_opened(page: Page, world: World) -> None:
    stick(world)
    row(page).focus()
    page.keyboard.press("Enter")
    seen(page.get_by_role("dialog"))
    page.keyboard.press("Escape")
    expect(row(page)).to_be_focused()


def test_a_screen_reader_finds_landmarks_names_and_a_table(page: Page, world: World) -> None:
    stick(world)
    seen(row(page))
    for landmark in ("banner", "main", "contentinfo", "search"):
        expect(page.get_by_role(landmark)).to_have_count(1)  # type: ignore[arg-type]
    for region in ("Summary", "Sessions", "Repairs"):
        seen(page.get_by_role("region", name=region))
    for header in ("Verdict", "Session", "For", "Why"):
        seen(page.get_by_role("columnheader", name=header, exact=True))
    seen(page.get_by_role("searchbox", name="Key or id"))
    seen(page.get_by_role("combobox", name="Agent"))
    assert page.locator("html").get_attribute("lang") == "en"
    nameless = """[...document.querySelectorAll("a, button, input:not([type=hidden]), select")]
      .filter((e) => !(e.innerText.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)"""
    assert page.evaluate(nameless) == []
    row(page).click()
    seen(page.get_by_role("dialog"))
    assert page.evaluate(nameless) == []
    doubled = "[...document.querySelectorAll('[id]')].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i)"
    assert page.evaluate(doubled) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen_and_every_word_stands_out(
    server: Served, chromium: Browser, world: World, scheme: str
) -> None:
    stick(world)
    long = "agent:main:" + "a-very-long-name-of-a-session-" * 6
    add_row(world, long, "id-long", started_ago=9_000, events=(("session.started", 9_000), ("x", 8_000)))
    context = chromium.new_context(viewport=PHONE, color_scheme=scheme, has_touch=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url(server))
    assert page.evaluate(CONTRAST) == []
    log_in(page)
    seen(row(page))
    seen(row(page, long))
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.evaluate(CONTRAST) == []
    shot(page, f"phone-{scheme}")
    row(page).tap()
    dialog = page.get_by_role("dialog")
    seen(dialog)
    dialog.get_by_text("All of the evidence").tap()
    assert page.evaluate("[document.documentElement.scrollWidth, document.getElementById('opened').scrollWidth]") == [
        PHONE["width"],
        PHONE["width"],
    ]
    assert page.evaluate(CONTRAST) == []
    shot(page, f"phone-opened-{scheme}")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 3 * 128) == (scheme == "light")
    context.close()


def test_the_list_is_filtered_by_words_and_keeps_them_while_it_is_renewed(page: Page, world: World) -> None:
    stick(world)
    seen(row(page))
    page.get_by_role("link", name=re.compile("^all")).click()
    seen(row(page, "agent:main:at-work"))
    page.get_by_role("searchbox").fill("at-work")
    gone(row(page))
    seen(row(page, "agent:main:at-work"))
    page.evaluate("htmx.trigger(document.body, 'console:sessions')")
    page.wait_for_load_state("networkidle")
    gone(row(page))
    page.get_by_role("searchbox").fill("no such session")
    seen(page.get_by_text("No session fits"))


def test_the_page_says_when_the_service_is_gone_and_goes_on_by_itself_when_it_is_back(
    page: Page, context: BrowserContext
) -> None:
    context.set_offline(True)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("link", name=re.compile("^all")).click()
    seen(page.get_by_role("alert").get_by_text("Clawmend does not answer"))
    context.set_offline(False)
    page.get_by_role("link", name=re.compile("^all")).click()
    expect(page.get_by_role("link", name=re.compile("^all"))).to_have_attribute(
        "aria-current", "true", timeout=PATIENCE_MS
    )
    expect(page.locator("#trouble")).to_be_hidden()


def test_without_scripts_the_page_can_still_be_read(server: Served, chromium: Browser, world: World) -> None:
    stick(world)
    wait_until(lambda: any(server.reconciler.report.find(STUCK_KEY)), "the session is found", 60)
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(server))
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    row(page).click()
    seen(page.get_by_text("the attempt ended: error").first)
    seen(page.locator("noscript p.note"))
    context.close()


def test_a_session_is_not_named_in_the_address(page: Page, world: World) -> None:
    stick(world)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    row(page).click()
    seen(page.get_by_role("dialog"))
    assert any("/console/sessions/" in address for address in asked)
    assert [a for a in asked if STUCK_KEY in a or STUCK_SESSION_ID in a] == []
