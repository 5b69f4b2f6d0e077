"""The login of the console: who gets in, what a form must carry, and what nobody sees without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.api.guesses import AT_ONCE, ONE_PER_SECONDS
from app.api.logins import LIFE_SECONDS
from app.web.assets import PATHS
from tests.api.conftest import TOKEN, Serve, Served
from tests.api.console import Person
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World

PARTS = ("/console/summary", "/console/sessions", "/console/repairs", "/console/events")


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    world.stuck()
    return serve(auto_repair=False)


@pytest.fixture
def person(server: Served) -> Iterator[Person]:
    made = Person(server)
    yield made
    made.http.close()


def test_without_a_login_there_is_the_form_and_no_word_of_any_session(person: Person) -> None:
    page = person.page(show="all")
    assert 'action="/console/login"' in page
    for secret in (STUCK_KEY, STUCK_SESSION_ID, "stuck", "openclaw/agents"):
        assert secret not in page
    for part in PARTS:
        assert person.http.get(part).status_code == 401, part


def test_a_wrong_token_is_refused_in_words_and_gets_no_cookie(person: Person) -> None:
    answer = person.log_in("not the token that it is")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "no token of this Clawmend is the one you gave" in answer.text
    assert "set-cookie" not in answer.headers


def test_the_token_opens_the_page_and_the_cookie_opens_nothing_of_the_api(person: Person) -> None:
    answer = person.log_in(f" {TOKEN}\n")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert STUCK_KEY in person.page()
    for path in ("/sessions", "/repairs", "/events", f"/sessions/{STUCK_SESSION_ID}"):
        assert person.http.get(path).status_code == 401, path
    assert person.http.post(f"/sessions/{STUCK_SESSION_ID}/repair").status_code == 401


def test_logging_out_ends_it_on_the_server_too(person: Person) -> None:
    person.log_in()
    cookies = dict(person.http.cookies)
    answer = person.send("/console/logout", proof=person.proof)
    assert (answer.status_code, dict(person.http.cookies)) == (303, {})
    person.http.cookies.update(cookies)
    assert STUCK_KEY not in person.page()


def test_a_login_lasts_twelve_hours(person: Person, world: World) -> None:
    person.log_in()
    world.clock.advance(LIFE_SECONDS - 1)
    assert STUCK_KEY in person.page()
    world.clock.advance(1)
    assert STUCK_KEY not in person.page()


@pytest.mark.parametrize("origin", ["http://127.0.0.1:1", "http://evil.example", "null", ""])
def test_what_a_page_of_another_origin_sends_is_refused(person: Person, origin: str) -> None:
    assert person.log_in(origin=origin).status_code == 403
    person.log_in()
    reference = person.reference_of(STUCK_KEY)
    person.origin = origin
    for path in (f"/console/sessions/{reference}/repair", "/console/logout"):
        answer = person.send(path, reason="x", proof=person.proof)
        assert answer.status_code == 403, path
        assert "This form was not sent from the console" in answer.text
    assert STUCK_KEY in person.page()


def test_what_does_not_carry_the_secret_of_its_login_is_refused(person: Person, server: Served, world: World) -> None:
    person.log_in()
    before = world.store().read_bytes()
    path = f"/console/sessions/{person.reference_of(STUCK_KEY)}/repair"
    for proof in ("", "0" * 64):
        person.proof = proof
        assert person.send(path, reason="x").status_code == 403
        assert person.send("/console/logout", proof=proof).status_code == 403
    assert world.store().read_bytes() == before
    bearer = {"authorization": f"Bearer {TOKEN}", "origin": person.origin}
    assert server.bare.post(path, data={"reason": "x"}, headers=bearer).status_code == 403


def test_after_some_wrong_tokens_even_the_right_one_waits_and_not_for_long(person: Person, world: World) -> None:
    for _ in range(AT_ONCE):
        assert person.log_in("wrong").status_code == 401
    answer = person.log_in()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, f"{ONE_PER_SECONDS:.0f}")
    assert "wait 6 s" in answer.text
    world.clock.advance(ONE_PER_SECONDS)
    assert person.log_in().status_code == 303


def test_every_answer_forbids_what_is_not_of_here(person: Person) -> None:
    answers = [person.http.get("/"), person.log_in("wrong")]
    person.log_in()
    answers += [person.http.get(path) for path in ("/", *PARTS[:3], "/console/sessions/none")]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert " style=" not in answer.text
        assert "<style" not in answer.text
        assert "<script>" not in answer.text


def test_the_files_of_the_page_need_no_login_and_may_be_kept_for_ever(person: Person) -> None:
    assert set(PATHS) == {"console.css", "console.js", "htmx.min.js", "mark.svg"}
    for path in PATHS.values():
        answer = person.http.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    for path in ("/console/static/console.css", "/console/static/../pages.py", "/console/static/%2e%2e/pages.py"):
        assert person.http.get(path).status_code in (401, 404), path


def test_where_no_login_is_asked_for_the_page_is_there_and_its_forms_still_come_from_it(
    world: World, serve: Serve
) -> None:
    world.stuck()
    person = Person(serve(auto_repair=False, auth="off", token=None))
    page = person.page()
    assert STUCK_KEY in page
    assert "Log out" not in page
    path = f"/console/sessions/{person.reference_of(STUCK_KEY)}/repair"
    assert person.send(path, dry_run="true").status_code == 403
    person.proof = person.proof_in(page)
    assert person.send(path, dry_run="true").status_code == 200
    person.http.close()
