"""One connection to a gateway, over a real socket: every way in which the other side can be something else."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.openclaw import gateway_link
from app.openclaw.gateway_access import Access
from app.openclaw.gateway_frames import ADMIN, LARGEST, READ, Event
from app.openclaw.gateway_link import Link, LinkFailed, Refused, open_link
from tests.peer import TOKEN, Hangup, Peer, Refuse, Silence, listening

MOMENT = 0.2
"""Long enough for a loopback peer that answers at all, where a test waits for one that does not."""


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    made.on["sessions.list"] = lambda params: {"echo": params}
    yield made
    made.stop()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_link, "HANDSHAKE_SECONDS", MOMENT)


def talk(peer: Peer, job: Callable[[Link], Any], scope: str = READ, hear: Callable[[Event], None] = print) -> Any:
    async def run() -> Any:
        link = await open_link(Access(peer.url, TOKEN), scope, hear)
        try:
            return await job(link)
        finally:
            await link.close()

    return asyncio.run(run())


def failure(access: Access, scope: str = READ) -> LinkFailed:
    async def run() -> None:
        link = await open_link(access, scope)
        await link.close()

    with pytest.raises(LinkFailed) as caught:
        asyncio.run(run())
    return caught.value


async def ask(link: Link, seconds: float = 10.0) -> dict[str, Any]:
    return await link.call("sessions.list", {"a": 1}, seconds)


# --- the handshake ---


def test_a_gateway_that_takes_the_token_is_spoken_with_and_its_version_known(peer: Peer) -> None:
    async def version(link: Link) -> str:
        assert await ask(link) == {"echo": {"a": 1}}
        return link.version

    assert talk(peer, version) == "2026.5.18"


@pytest.mark.parametrize("scope", [READ, ADMIN])
def test_only_the_one_scope_that_is_needed_is_asked_for_and_no_device(peer: Peer, scope: str) -> None:
    async def nothing(_: Link) -> None: ...

    talk(peer, nothing, scope)
    (hello,) = peer.asked
    assert hello.params["scopes"] == [scope]
    assert (hello.params["client"]["id"], hello.params["client"]["mode"]) == ("gateway-client", "backend")
    assert (hello.params["minProtocol"], hello.params["maxProtocol"]) == (4, 4)
    assert hello.params["auth"] == {"token": TOKEN}
    assert "device" not in hello.params


def test_a_wrong_token_is_called_that_and_never_shown(peer: Peer) -> None:
    error = failure(Access(peer.url, "a-token-of-another-gateway"))
    assert error.code == "wrong_token"
    assert "a-token-of-another-gateway" not in f"{error!r} {error.detail}"


@pytest.mark.parametrize("where", ["error", "details", "goodbye", "version"])
def test_a_gateway_that_says_our_token_back_to_us_does_not_get_it_into_an_error(peer: Peer, where: str) -> None:
    def answer(params: dict[str, Any]) -> dict[str, Any]:
        if where == "error":
            raise Refuse("INVALID_REQUEST", f"not {params['auth']['token']}")
        if where == "details":
            raise Refuse("INVALID_REQUEST", exact=params["auth"]["token"])
        if where == "goodbye":
            raise Hangup(1008, params["auth"]["token"])
        return {"protocol": 4, "auth": {"scopes": [READ]}, "server": {"version": params["auth"]["token"]}}

    peer.on["connect"] = answer
    if where == "version":

        async def version(link: Link) -> str:
            return link.version

        assert talk(peer, version) == "…"
        return
    error = failure(Access(peer.url, TOKEN))
    assert TOKEN not in f"{error!r} {error.detail}"
    assert "…" in error.detail


def test_another_protocol_is_called_that(peer: Peer) -> None:
    peer.protocol = 5
    assert failure(Access(peer.url, TOKEN)).code == "other_protocol"


def test_a_gateway_that_greets_in_another_protocol_than_it_was_asked_for_is_not_spoken_with(peer: Peer) -> None:
    peer.on["connect"] = lambda _: {"protocol": 3, "auth": {"scopes": [READ]}}
    assert failure(Access(peer.url, TOKEN)).code == "other_protocol"


@pytest.mark.parametrize("granted", [[], [ADMIN], None, 7, READ, {READ: True}])
def test_a_gateway_that_does_not_grant_the_scope_is_said_to(peer: Peer, granted: object) -> None:
    peer.grants = lambda _: granted
    assert failure(Access(peer.url, TOKEN)).code == "missing_scope"


def test_a_gateway_that_refuses_for_a_reason_of_its_own_is_quoted(peer: Peer) -> None:
    def answer(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("PAIRING_REQUIRED", "pair this device first")

    peer.on["connect"] = answer
    error = failure(Access(peer.url, TOKEN))
    assert (error.code, error.detail) == ("refused", "PAIRING_REQUIRED: pair this device first")


def test_a_gateway_that_is_starting_is_called_that_however_it_says_so(peer: Peer) -> None:
    def unavailable(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("UNAVAILABLE", "starting")

    peer.on["connect"] = unavailable
    assert failure(Access(peer.url, TOKEN)).code == "starting"
    peer.greet = lambda connection: connection.close(1013)
    assert failure(Access(peer.url, TOKEN)).code == "starting"


def test_a_gateway_that_hangs_up_before_it_greets_is_known_to_have_without_waiting_for_it(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_link, "HANDSHAKE_SECONDS", 3_600.0)
    peer.greet = lambda connection: connection.close(1008, "no")
    error = failure(Access(peer.url, TOKEN))
    assert (error.code, error.detail) == ("closed", "the gateway closed the connection (1008 no)")


# --- what is no gateway ---


def test_where_nobody_listens_there_is_no_gateway_by_address_or_by_a_name_with_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert failure(Access(f"ws://127.0.0.1:{port}", TOKEN)).code == "no_gateway"
    several = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: several)
    assert failure(Access(f"ws://localhost:{port}", TOKEN)).code == "no_gateway"


def test_a_listener_that_never_says_a_word_is_given_up(hurry: None) -> None:
    with listening() as port:
        assert failure(Access(f"ws://127.0.0.1:{port}", TOKEN)).code == "not_a_gateway"


def test_one_that_takes_the_upgrade_and_then_says_nothing_is_given_up(peer: Peer, hurry: None) -> None:
    peer.greet = lambda _: None
    assert failure(Access(peer.url, TOKEN)).code == "not_a_gateway"


def test_one_that_greets_and_then_does_not_answer_the_connect_is_given_up(peer: Peer, hurry: None) -> None:
    def silent(_: dict[str, Any]) -> dict[str, Any]:
        raise Silence

    peer.on["connect"] = silent
    assert failure(Access(peer.url, TOKEN)).code == "not_answering"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff" * 500,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"",
    ],
)
def test_a_server_of_something_else_is_no_gateway(reply: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4_096)
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_RDWR)

    with listening(answer) as port:
        assert failure(Access(f"ws://127.0.0.1:{port}", TOKEN)).code == "not_a_gateway"


def test_a_redirect_is_not_followed_since_it_would_take_the_token_elsewhere(peer: Peer) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4_096)
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {peer.url}/\r\nContent-Length: 0\r\n\r\n".encode())

    with listening(answer) as port:
        assert failure(Access(f"ws://127.0.0.1:{port}", TOKEN)).code == "not_a_gateway"
    assert peer.connections == 0


# --- questions and answers ---

JUNK: list[str | bytes] = [
    "",
    "no JSON",
    '{"type":"res","id":"',
    "[]",
    "null",
    '"res"',
    '{"type":"res"}',
    '{"type":"res","id":7,"ok":true,"payload":{}}',
    '{"type":"res","id":"99","ok":true,"payload":{"not":"asked for"}}',
    '{"type":"req","id":"1","method":"x","params":{}}',
    '{"type":"event"}',
    '{"type":"event","event":"chat","payload":{"half":"\\ud800"}}',
    '{"type":"event","event":"a later version\'s","payload":7}',
    '{"type":"event","event":"sessions.changed","payload":[]}',
    '{"event":"tick","type":"event"}',
    '{"type":"event","event":"connect.challenge","payload":{}}',
    "[" * 100_000,
    b"\x00\xff\xfe binary",
    b'{"type":"event","event":"tick"}',
]


def test_junk_between_a_question_and_its_answer_changes_nothing(peer: Peer) -> None:
    def junk(connection: Any, method: str, _: dict[str, Any]) -> None:
        if method == "sessions.list":
            for frame in JUNK:
                connection.send(frame)

    peer.before = junk
    assert talk(peer, ask) == {"echo": {"a": 1}}


def test_an_event_of_25_MiB_between_a_question_and_its_answer_costs_no_answer(peer: Peer) -> None:
    heard: list[Event] = []
    fat = json.dumps({"type": "event", "event": "chat", "payload": {"text": "x" * (25 << 20)}}, separators=(",", ":"))
    known = fat.replace('"chat"', '"sessions.changed"')

    def send(connection: Any, method: str, _: dict[str, Any]) -> None:
        if method == "sessions.list":
            connection.send(fat)
            connection.send(known)

    peer.before = send
    assert talk(peer, ask, hear=heard.append) == {"echo": {"a": 1}}
    assert [e.name for e in heard] == ["sessions.changed"]


def test_a_frame_over_the_limit_ends_the_connection_and_the_question_fails_at_once(peer: Peer) -> None:
    def send(connection: Any, method: str, _: dict[str, Any]) -> None:
        if method == "sessions.list":
            connection.send(b"x" * (LARGEST + 1))

    peer.before = send
    with pytest.raises(LinkFailed) as caught:
        talk(peer, lambda link: ask(link, 3_600.0))
    assert caught.value.code == "closed"


def test_a_close_in_the_middle_of_a_question_is_known_at_once(peer: Peer) -> None:
    def hang_up(_: dict[str, Any]) -> dict[str, Any]:
        raise Hangup

    peer.on["sessions.list"] = hang_up
    with pytest.raises(LinkFailed) as caught:
        talk(peer, lambda link: ask(link, 3_600.0))
    assert (caught.value.code, caught.value.detail) == (
        "closed",
        "the gateway closed the connection (1012 service restart)",
    )


def test_a_connection_that_is_cut_without_a_word_is_known_at_once(peer: Peer) -> None:
    peer.before = lambda connection, method, _: (
        connection.socket.shutdown(socket.SHUT_RDWR) if method == "sessions.list" else None
    )
    with pytest.raises(LinkFailed) as caught:
        talk(peer, lambda link: ask(link, 3_600.0))
    assert caught.value.detail == "the connection broke off"


def test_a_question_after_the_end_is_not_even_asked(peer: Peer) -> None:
    async def late(link: Link) -> None:
        peer.hang_up()
        assert "1012" in await link.wait_closed()
        await ask(link, 3_600.0)

    with pytest.raises(LinkFailed):
        talk(peer, late)
    assert peer.methods() == []


def test_no_answer_in_time_is_a_failure_and_the_late_answer_belongs_to_nobody(peer: Peer) -> None:
    kept: list[Any] = []

    def late(connection: Any, method: str, frame: dict[str, Any]) -> None:
        if method == "sessions.list" and kept:
            first = kept.pop()
            connection.send(json.dumps({"type": "res", "id": first, "ok": True, "payload": {"late": True}}))

    def silent_once(params: dict[str, Any]) -> dict[str, Any]:
        if len(peer.methods()) == 1:
            kept.append("2")  # 1 was the connect
            raise Silence
        return {"echo": params}

    async def twice(link: Link) -> dict[str, Any]:
        with pytest.raises(LinkFailed) as caught:
            await ask(link, MOMENT)
        assert caught.value.code == "not_answering"
        return await ask(link)

    peer.before = late
    peer.on["sessions.list"] = silent_once
    assert talk(peer, twice) == {"echo": {"a": 1}}


def test_many_questions_at_once_get_each_its_own_answer_in_whatever_order(peer: Peer) -> None:
    waiting: list[dict[str, Any]] = []

    def gather(connection: Any, method: str, frame: dict[str, Any]) -> None:
        if method == "sessions.list":
            waiting.append(frame)
            if len(waiting) == 20:
                for asked in reversed(waiting):
                    payload = {"n": asked["params"]["n"]}
                    connection.send(json.dumps({"type": "res", "id": asked["id"], "ok": True, "payload": payload}))

    def silent(_: dict[str, Any]) -> dict[str, Any]:
        raise Silence

    async def many(link: Link) -> list[dict[str, Any]]:
        return await asyncio.gather(*(link.call("sessions.list", {"n": n}, 10.0) for n in range(20)))

    peer.before = gather
    peer.on["sessions.list"] = silent
    assert talk(peer, many) == [{"n": n} for n in range(20)]


def test_a_refused_question_says_by_what_and_the_connection_lives_on(peer: Peer) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("INVALID_REQUEST", "missing scope: operator.admin " + "x" * 1_000)

    async def refused(link: Link) -> None:
        with pytest.raises(Refused) as caught:
            await ask(link)
        assert caught.value.code == "INVALID_REQUEST"
        assert str(caught.value).startswith("INVALID_REQUEST: missing scope: operator.admin")
        assert len(str(caught.value)) < 300
        assert await link.call("sessions.subscribe", {}, 10.0) == {"subscribed": True}

    peer.on["sessions.list"] = refuse
    talk(peer, refused)


def test_what_is_listened_to_is_heard_and_nothing_else(peer: Peer) -> None:
    heard: list[Event] = []

    async def listen(link: Link) -> None:
        for name in ("sessions.changed", "chat", "tick", "shutdown"):
            peer.say(name, phase="end")
        await ask(link)

    talk(peer, listen, hear=heard.append)
    assert [(e.name, e.payload) for e in heard] == [
        ("sessions.changed", {"phase": "end"}),
        ("shutdown", {"phase": "end"}),
    ]
