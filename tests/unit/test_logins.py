"""A login stands for its token: for as long as the token is known, and for twelve hours."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.api.guesses import AT_ONCE, ONE_PER_SECONDS, Guesses
from app.api.logins import LIFE_SECONDS, Logins, origin_of
from app.domain.caller import Caller, Scope
from tests.world import HeldClock

ANNA = Caller("anna", Scope.READ.all_in_it)


class Tokens(dict[str, Caller]):
    """The way in by a token, of which a test says who has it."""

    def __call__(self, connection: HTTPConnection) -> Caller | None:
        return self.get(connection.headers.get("authorization", "").removeprefix("Bearer "))


def asks(path: str = "/", *, cookie: str = "", origin: str = "", host: str = "127.0.0.1:8787") -> HTTPConnection:
    headers = {"host": host, "cookie": cookie, "origin": origin}
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value]
    return HTTPConnection({"type": "http", "path": path, "headers": sent, "server": ("127.0.0.1", 8787)})


def opened(logins: Logins, token: str = "anna's token", **how: str) -> str:
    """The cookie, as the browser sends it back."""
    answer = Response()
    assert logins.open(asks("/console/login", **how), token, answer)
    return answer.headers["set-cookie"].partition(";")[0]


def test_a_login_is_the_caller_of_its_token_on_the_paths_of_the_console_only() -> None:
    logins = Logins(HeldClock(), (Tokens({"anna's token": ANNA}),))
    cookie = opened(logins)
    for path in ("/", "/console/sessions", "/console/events"):
        assert logins(asks(path, cookie=cookie)) is ANNA, path
    for path in ("/sessions", "/events", "/repairs", "/consoles", "/console"):
        assert logins(asks(path, cookie=cookie)) is None, path


def test_a_token_that_nobody_has_opens_nothing() -> None:
    logins = Logins(HeldClock(), (Tokens({"anna's token": ANNA}),))
    for token in ("", "another", "anna's token ", "☃"):
        answer = Response()
        assert not logins.open(asks(), token, answer)
        assert "set-cookie" not in answer.headers
    assert logins(asks(cookie="clawmend_8787=made-up")) is None


def test_a_token_that_is_revoked_ends_its_logins() -> None:
    tokens = Tokens({"anna's token": ANNA})
    logins = Logins(HeldClock(), (tokens,))
    cookie = opened(logins)
    del tokens["anna's token"]
    assert logins(asks(cookie=cookie)) is None


def test_a_login_ends_after_its_life_and_by_logging_out() -> None:
    clock = HeldClock()
    logins = Logins(clock, (Tokens({"anna's token": ANNA}),))
    cookie, another = opened(logins), opened(logins)
    logins.close(asks(cookie=another))
    assert logins(asks(cookie=another)) is None
    clock.advance(LIFE_SECONDS - 1)
    assert logins(asks(cookie=cookie)) is ANNA
    clock.advance(1)
    assert logins(asks(cookie=cookie)) is None


def test_a_login_anew_ends_the_one_that_the_browser_had() -> None:
    logins = Logins(HeldClock(), (Tokens({"anna's token": ANNA}),))
    first = opened(logins)
    second = opened(logins, cookie=first)
    assert first != second
    assert (logins(asks(cookie=first)), logins(asks(cookie=second))) == (None, ANNA)


def test_no_more_than_a_thousand_logins_are_kept_and_the_oldest_makes_room() -> None:
    logins = Logins(HeldClock(), (Tokens({"anna's token": ANNA}),))
    oldest, second = opened(logins), opened(logins)
    for _ in range(999):
        newest = opened(logins)
    assert [logins(asks(cookie=c)) for c in (oldest, second, newest)] == [None, ANNA, ANNA]


def test_the_cookie_is_strict_and_over_https_it_is_bound_to_the_host() -> None:
    logins = Logins(HeldClock(), (Tokens({"anna's token": ANNA}),))
    answer = Response()
    logins.open(asks(), "anna's token", answer)
    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == "clawmend_8787"
    attributes = {part.strip().lower() for part in rest.split(";")[1:]}
    assert attributes == {"httponly", "max-age=43200", "path=/", "samesite=strict"}

    secure = Response()
    logins.open(asks(origin="https://clawmend.example", host="clawmend.example"), "anna's token", secure)
    name, _, rest = secure.headers["set-cookie"].partition("=")
    assert name == "__Host-clawmend_8787"
    assert {part.strip().lower() for part in rest.split(";")[1:]} == attributes | {"secure"}
    assert logins(asks(cookie=secure.headers["set-cookie"].partition(";")[0])) is ANNA


def test_a_form_is_proven_by_the_secret_of_its_own_login_only() -> None:
    logins = Logins(HeldClock(), (Tokens({"anna's token": ANNA}),))
    one, another = asks(cookie=opened(logins)), asks(cookie=opened(logins))
    assert logins.proven(one, logins.proof(one))
    assert not logins.proven(one, logins.proof(another))
    assert not logins.proven(one, "")
    assert not logins.proven(one, "☃")


def test_the_origin_is_one_that_is_served_here_or_none() -> None:
    assert origin_of(asks(origin="http://127.0.0.1:8787")) == "http://127.0.0.1:8787"
    for foreign in (
        "",
        "null",
        "http://127.0.0.1:8788",
        "http://evil.example",
        "ftp://127.0.0.1:8787",
        "127.0.0.1:8787",
    ):
        assert origin_of(asks(origin=foreign)) is None, foreign


def test_after_five_wrong_tokens_one_more_is_looked_at_every_six_seconds() -> None:
    clock = HeldClock()
    guesses = Guesses(clock)
    for _ in range(AT_ONCE):
        assert guesses.wait("192.0.2.1") == 0
        guesses.missed("192.0.2.1")
    assert guesses.wait("192.0.2.1") == ONE_PER_SECONDS
    clock.advance(ONE_PER_SECONDS)
    assert guesses.wait("192.0.2.1") == 0
    guesses.missed("192.0.2.1")
    assert guesses.wait("192.0.2.1") == ONE_PER_SECONDS
    assert guesses.wait("192.0.2.2") == 0, "another address does not wait"
    clock.advance(AT_ONCE * ONE_PER_SECONDS)
    for _ in range(AT_ONCE):
        assert guesses.wait("192.0.2.1") == 0
        guesses.missed("192.0.2.1")


def test_one_network_of_ipv6_counts_as_one_address() -> None:
    guesses = Guesses(HeldClock())
    for i in range(AT_ONCE):
        guesses.missed(f"2001:db8:0:1::{i}")
    assert guesses.wait("2001:db8:0:1:ffff::1%eth0") > 0
    assert guesses.wait("2001:db8:0:2::1") == 0


def test_what_is_remembered_of_wrong_tokens_has_a_bound() -> None:
    guesses = Guesses(HeldClock())
    for i in range(3_000):
        guesses.missed(f"10.0.{i // 256}.{i % 256}")
    assert len(guesses._free_at) == 1_000
