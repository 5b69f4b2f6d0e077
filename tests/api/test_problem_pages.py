"""Where an error's `type` leads: a page that says what it means and what to do, for people and programs."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from app.api.problem_pages import MEANINGS
from app.api.problems import PROBLEMS
from tests.api.conftest import Serve, Served
from tests.world import STUCK_SESSION_ID, World


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    world.stuck()
    return serve(auto_repair=False)


class Words(HTMLParser):
    """The text of a page, by the element that it stands in; every element that was opened is closed."""

    _VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href", "style", "onclick"} & {name for name, _ in attrs}, "nothing is loaded from elsewhere"
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append((self.open[-1], data))


def test_the_type_of_an_error_that_was_met_leads_to_its_page_without_a_login(server: Served) -> None:
    met = server.repair(STUCK_SESSION_ID, force=True).json()
    page = server.bare.get(met["type"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert page.text.startswith(f"invalid (422): {met['title']}.\n")
    assert met["next"] in page.text
    assert "What it means\n" in page.text


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_has_its_page_as_text_and_as_html_with_all_that_there_is_to_say(
    server: Served, code: str
) -> None:
    status, title, next_step = PROBLEMS[code]
    text = server.bare.get(f"/problems/{code}").text
    for part in (code, str(status), title, MEANINGS[code], next_step):
        assert part in text

    html = server.bare.get(f"/problems/{code}", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    words = Words()
    words.feed(html.text)
    assert words.open == []
    assert ("h1", title) in words.found
    plain = "".join(text for _, text in words.found)
    for part in (code, str(status), MEANINGS[code], next_step):
        assert part.replace("`", "") in plain


def test_a_page_may_be_kept_and_differs_by_what_is_accepted(server: Served) -> None:
    page = server.bare.get("/problems/store_busy")
    assert (page.headers["cache-control"], page.headers["vary"]) == ("max-age=3600", "accept")
    assert page.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    head = server.bare.head("/problems/store_busy")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page.content)))


def test_a_problem_that_there_is_not_is_not_found(server: Served) -> None:
    for method in ("GET", "HEAD"):
        assert server.bare.request(method, "/problems/no-such").status_code == 404
    answer = server.bare.get("/problems/<script>", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
