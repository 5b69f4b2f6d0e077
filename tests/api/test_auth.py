"""Who may ask: the token, the Host header, the size of a body; and the token file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.routing import iter_route_contexts

from app.api.auth import load_or_make_token
from app.web.assets import PATHS
from app.web.look import board_now
from tests.api.conftest import TOKEN, Serve, Served
from tests.world import STUCK_SESSION_ID, World

OPEN = {"/", "/console/static/{name}", "/health", "/livez", "/metrics", "/readyz", "/problems/{code}"}
LOGIN = "/console/login"
"""Open too; tests/api/test_console_login.py has what it refuses."""
LIMIT = 64 << 10


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    world.stuck()
    return serve(auto_repair=False, allowed_hosts=("clawmend.example",))


def every_call(server: Served) -> Iterator[tuple[str, str, str]]:
    """Template, method and a real path of every route there is."""
    for route in iter_route_contexts(server.app.routes):
        assert route.path is not None, f"{route} is of a kind that this test does not know"
        path = route.path.replace("{name:path}", STUCK_SESSION_ID).replace("{attempt_id}", str(uuid4()))
        path = path.replace("{code}", "not_stuck").replace("/console/static/{name}", PATHS["console.js"])
        for method in sorted(route.methods or ()):
            yield route.path, method, path.replace("{reference}", board_now(server.app).lines[0].reference)


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN.upper()}",
    ],
)
def test_every_route_but_the_open_ones_refuses_who_has_not_the_token(server: Served, credentials: str | None) -> None:
    headers = {} if credentials is None else {"authorization": credentials}
    before = store_bytes(server)
    closed = 0
    for template, method, path in every_call(server):
        if template == LOGIN:
            continue
        answer = server.bare.request(method, path, headers=headers)
        if template in OPEN:
            assert answer.status_code == 200, (method, path)
            continue
        closed += 1
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer"), (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        if method != "HEAD":
            assert answer.json()["type"] == "/problems/unauthorized"
            assert TOKEN not in answer.text
    assert closed >= 7, "sessions, stuck, one, its repair; repairs, one, its undo"
    assert store_bytes(server) == before


def test_who_shows_a_token_that_is_not_known_is_told_so_and_who_shows_none_is_asked_for_one(server: Served) -> None:
    wrong = server.bare.get("/sessions", headers={"authorization": "Bearer not-one-of-ours"})
    none = server.bare.get("/sessions")
    assert wrong.headers["www-authenticate"] == 'Bearer realm="clawmend", error="invalid_token"'
    assert none.headers["www-authenticate"] == 'Bearer realm="clawmend"'
    assert "revoked" in wrong.json()["detail"]
    assert "needs" in none.json()["detail"]
    assert "not-one-of-ours" not in wrong.text


def store_bytes(server: Served) -> bytes:
    (state,) = server.reconciler.scanner.state_dirs
    return (Path(state.path) / "agents" / "main" / "sessions" / "sessions.json").read_bytes()


def test_a_path_that_leads_nowhere_tells_nothing_without_the_token_either(server: Served) -> None:
    for path in ("/no-such", "/health/x", "/healthz", "/%2fhealth", "/docs", "/openapi.json"):
        assert server.bare.get(path).status_code == 401, path


def test_the_token_opens_every_call_that_reads(server: Served) -> None:
    for template, method, path in every_call(server):
        if method == "GET" and "{attempt_id}" not in template:
            with server.http.stream("GET", path) as answer:  # one of them never ends
                assert answer.status_code == 200, path
    assert server.bare.get("/sessions", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200


def test_without_auth_nobody_is_asked(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve(token=None, auth="off")
    assert server.bare.get("/sessions/stuck").json()["count"] == 1


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8787", "LOCALHOST", "127.0.0.1", "127.0.0.1:8787", "[::1]", "[::1]:8787", "192.168.3.4:80",
     "clawmend.example", "clawmend.example:443", "Clawmend.Example"],
)  # fmt: skip
def test_a_host_that_cannot_be_rebound_or_was_allowed_is_served(server: Served, host: str) -> None:
    assert server.bare.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8787", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:127.0.0.1",
     "notlocalhost", "xclawmend.example", "localhost@evil.example", "", "[::1].evil.example", "evil.example]"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/health", "/sessions/stuck"])
def test_a_name_that_was_not_allowed_is_refused_even_with_the_token(server: Served, host: str, path: str) -> None:
    answer = server.http.get(path, headers={"host": host})
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/forbidden_host"


def test_a_host_is_judged_alike_however_often_and_among_however_many_it_is_asked_for(server: Served) -> None:
    judged = {"127.0.0.1:8787": 200, "clawmend.example": 200, "evil.example": 403, "[::1]": 200, "": 403}
    for others in (0, 100, 0):
        for number in range(others):
            assert server.bare.get("/health", headers={"host": f"evil{number}.example"}).status_code == 403
        for host, status in (*judged.items(), *judged.items()):
            assert server.bare.get("/health", headers={"host": host}).status_code == status, host


def test_a_host_that_is_longer_than_any_name_is_refused(server: Served) -> None:
    address = f"[fe80::1%{'a' * 400}]"  # it is one, by the letter
    assert server.bare.get("/health", headers={"host": address}).status_code == 403
    assert server.bare.get("/health", headers={"host": "[fe80::1%eth0]"}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
@pytest.mark.parametrize("credentials", [f"Bearer {TOKEN}", "Bearer nobodys-token-at-all", "Basic eA=="])
def test_a_probe_is_answered_alike_whatever_token_is_shown(server: Served, path: str, credentials: str) -> None:
    shown = server.bare.get(path, headers={"authorization": credentials})
    assert (shown.status_code, shown.json().keys()) == (200, server.bare.get(path).json().keys())


def test_the_name_that_it_binds_to_is_served_in_any_case(world: World, serve: Serve) -> None:
    world.recording("success-done")
    server = serve(host="MyBox.local")
    assert server.bare.get("/health", headers={"host": "mybox.local:8787"}).status_code == 200


def a_wish(size: int) -> bytes:
    """A well-formed wish for a dry run of `size` bytes, made long with blanks: cut short, it still parses."""
    wish = json.dumps({"dry_run": True}).encode()
    return wish + b" " * (size - len(wish))


def test_a_body_as_large_as_the_limit_is_taken(server: Served) -> None:
    answer = server.http.post(
        f"/sessions/{STUCK_SESSION_ID}/repair", content=a_wish(LIMIT), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["dry_run"]) == (200, True)


@pytest.mark.parametrize("size", [LIMIT + 1, 3 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_larger_body_is_refused_whether_it_says_its_size_or_not(server: Served, size: int, chunked: bool) -> None:
    body = a_wish(size)
    content = (body[at : at + 8192] for at in range(0, size, 8192)) if chunked else body
    answer = server.http.post(
        f"/sessions/{STUCK_SESSION_ID}/repair", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/too_large"


def test_a_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "own" / "token"
    old = os.umask(0)
    try:
        token, made = load_or_make_token(path)
    finally:
        os.umask(old)
    assert made
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_or_make_token(path) == (token, False)
    assert load_or_make_token(tmp_path / "other" / "token")[0] != token


def test_a_token_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(TOKEN)
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        load_or_make_token(tmp_path / "token")


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"short\n", b" " * 40, b"\xff\xfe" * 20], ids=["empty", "newline", "short", "blanks", "noise"]
)
def test_a_token_file_without_a_token_in_it_is_refused_and_left_as_it_is(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(text)
    with pytest.raises(OSError, match="holds no token") as refused:
        load_or_make_token(path)
    assert "short" not in str(refused.value)
    assert path.read_bytes() == text


FOREIGN = ("https://elsewhere.example", "http://127.0.0.1:1", "null")


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("auth", ["off", "token"])
def test_a_page_of_another_origin_may_do_nothing(world: World, serve: Serve, origin: str, auth: str) -> None:
    world.stuck()
    server = serve(auto_repair=False, auth=auth)
    before = store_bytes(server)
    answer = server.http.post(f"/sessions/{STUCK_SESSION_ID}/repair", headers={"origin": origin})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/foreign_origin")
    assert store_bytes(server) == before


def test_our_own_pages_those_that_are_named_and_who_is_no_browser_may(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve(auto_repair=False, auth="off", cors_origins=("https://mine.example",))
    own = str(server.http.base_url).rstrip("/")
    for headers in ({"origin": own}, {"origin": "https://mine.example"}, {}):
        answer = server.http.post(f"/sessions/{STUCK_SESSION_ID}/repair", json={"dry_run": True}, headers=headers)
        assert answer.status_code == 200, answer.text
    assert server.http.get("/sessions", headers={"origin": FOREIGN[0]}).status_code == 200
