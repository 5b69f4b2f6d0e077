"""Where a gateway is and what opens it: configurations and environments, and the address and secret that follow."""

from __future__ import annotations

from typing import Any

import pytest

from app.openclaw.gateway_access import Access, NoAccess, find_access, is_loopback
from app.openclaw.gateway_frames import READ, connect_params

HERE = "ws://127.0.0.1:18789"
REFERENCE = {"source": "env", "provider": "default", "id": "TOKEN"}


@pytest.mark.parametrize(
    ("gateway", "env", "address"),
    [
        ({}, {}, HERE),
        ({"port": 19_000}, {}, "ws://127.0.0.1:19000"),
        ({"port": 0}, {}, HERE),
        ({"port": 65_536}, {}, HERE),
        ({"port": True}, {}, HERE),
        ({"port": "19000"}, {}, HERE),
        ({"port": 19_000}, {"OPENCLAW_GATEWAY_PORT": "19001"}, "ws://127.0.0.1:19001"),
        ({}, {"OPENCLAW_GATEWAY_PORT": "127.0.0.1:19001"}, "ws://127.0.0.1:19001"),
        ({}, {"OPENCLAW_GATEWAY_PORT": "[::1]:19001"}, "ws://127.0.0.1:19001"),
        ({"port": 19_000}, {"OPENCLAW_GATEWAY_PORT": "none"}, "ws://127.0.0.1:19000"),
        ({"port": 19_000}, {"OPENCLAW_GATEWAY_PORT": "0"}, "ws://127.0.0.1:19000"),
        ({"tls": {"enabled": True}}, {}, "wss://127.0.0.1:18789"),
        ({"tls": {"enabled": "yes"}}, {}, HERE),
        ({"tls": True, "auth": 7, "remote": []}, {}, HERE),
        ({"bind": "lan"}, {}, HERE),
        ({"port": 19_000}, {"OPENCLAW_GATEWAY_URL": "ws://localhost:1"}, "ws://localhost:1"),
        ({"mode": "remote", "remote": {"url": "wss://[::1]:2"}}, {}, "wss://[::1]:2"),
        ({"mode": "local", "remote": {"url": "wss://[::1]:2"}}, {}, HERE),
        ({"mode": "remote", "remote": {"url": "  "}}, {}, HERE),
    ],
)
def test_the_address_is_the_one_that_OpenClaw_would_take(
    gateway: dict[str, Any], env: dict[str, str], address: str
) -> None:
    assert find_access(gateway, env) == Access(address)


LOCAL, REMOTE = {"mode": "local"}, {"mode": "remote"}
THERE = {"remote": {"url": HERE, "token": "theirs", "password": "their-word"}}


@pytest.mark.parametrize(
    ("gateway", "env", "token", "password"),
    [
        ({}, {}, None, None),
        ({"auth": {"token": "t"}}, {}, "t", None),
        ({"auth": {"token": " t "}}, {}, "t", None),
        ({"auth": {"token": ""}}, {}, None, None),
        ({"auth": {"password": "p"}}, {}, None, "p"),
        ({"auth": {"token": "t", "password": "p"}}, {}, "t", "p"),
        ({"auth": {"mode": "token", "token": "t", "password": "p"}}, {}, "t", None),
        ({"auth": {"mode": "password", "token": "t", "password": "p"}}, {}, None, "p"),
        ({"auth": {"mode": "none", "token": "t", "password": "p"}}, {}, None, None),
        ({"auth": {"token": "t"}}, {"OPENCLAW_GATEWAY_TOKEN": "e"}, "e", None),
        ({"auth": {"token": REFERENCE}}, {"OPENCLAW_GATEWAY_TOKEN": "e"}, "e", None),
        ({"auth": {"mode": "password"}}, {"OPENCLAW_GATEWAY_PASSWORD": "e"}, None, "e"),
        ({**LOCAL, **THERE, "auth": {"token": "t"}}, {}, "t", "their-word"),
        ({**LOCAL, **THERE, "auth": {"mode": "token"}}, {}, "theirs", None),
        ({**REMOTE, **THERE, "auth": {"mode": "token", "token": "t"}}, {}, "theirs", None),
        ({**REMOTE, **THERE, "auth": {"mode": "token"}}, {"OPENCLAW_GATEWAY_TOKEN": "e"}, "theirs", None),
        ({**REMOTE, **THERE, "auth": {"mode": "none"}}, {}, "theirs", "their-word"),
        ({**REMOTE, **THERE, "auth": {"mode": "password"}}, {"OPENCLAW_GATEWAY_PASSWORD": "e"}, None, "e"),
    ],
)
def test_the_secret_is_the_one_that_OpenClaw_would_send(
    gateway: dict[str, Any], env: dict[str, str], token: str | None, password: str | None
) -> None:
    found = find_access(gateway, env)
    assert (found.token, found.password) == (token, password)


@pytest.mark.parametrize("secret", [REFERENCE, "${TOKEN}", "${}", "secretref:token", "secretref-env:TOKEN"])
@pytest.mark.parametrize("name", ["token", "password"])
def test_a_secret_that_stands_elsewhere_is_not_ours_to_fetch(secret: object, name: str) -> None:
    with pytest.raises(NoAccess) as caught:
        find_access({"auth": {"mode": name, name: secret}}, {})
    assert caught.value.code == "secret_reference"
    assert "CLAWMEND_GATEWAY_TOKEN" in caught.value.detail
    assert find_access({"auth": {"mode": name, name: secret}}, {}, token="ours").token == "ours"


def test_a_token_of_ours_goes_before_every_other() -> None:
    gateway = {"auth": {"mode": "password", "token": "t", "password": "p"}}
    assert find_access(gateway, {"OPENCLAW_GATEWAY_TOKEN": "e"}, token="ours") == Access(HERE, "ours")


@pytest.mark.parametrize(
    ("gateway", "env"),
    [
        ({"mode": "remote", "remote": {"url": "wss://gateway.example"}}, {}),
        ({"mode": "remote", "remote": {"url": "ws://192.168.1.2:18789"}}, {}),
        ({}, {"OPENCLAW_GATEWAY_URL": "ws://127.0.0.1.example:18789"}),
        ({}, {"OPENCLAW_GATEWAY_URL": "ws://0.0.0.0:18789"}),
        ({}, {"OPENCLAW_GATEWAY_URL": "ws://localhost@gateway.example"}),
    ],
)
def test_no_other_machine_is_spoken_with_unless_our_own_setting_names_it(
    gateway: dict[str, Any], env: dict[str, str]
) -> None:
    with pytest.raises(NoAccess) as caught:
        find_access(gateway, env)
    assert caught.value.code == "not_loopback"
    assert "CLAWMEND_GATEWAY" in caught.value.detail
    assert find_access(gateway, env, url="wss://gateway.example", token="ours").url == "wss://gateway.example"


def test_what_opens_this_machine_s_gateway_is_not_sent_to_another_machine() -> None:
    with pytest.raises(NoAccess) as caught:
        find_access({"auth": {"token": "t"}}, {"OPENCLAW_GATEWAY_TOKEN": "e"}, url="wss://gateway.example")
    assert caught.value.code == "token_needed"
    assert "CLAWMEND_GATEWAY_TOKEN" in caught.value.detail
    assert find_access({"auth": {"token": "t"}}, {}, url="ws://127.0.0.1:1") == Access("ws://127.0.0.1:1", "t")


def test_the_other_machine_that_OpenClaw_itself_is_set_to_gets_the_token_that_is_set_for_it() -> None:
    url = "wss://gateway.example"
    gateway = {"mode": "remote", "remote": {"url": url, "token": "theirs"}}
    assert find_access(gateway, {}, url=url) == Access(url, "theirs")
    with pytest.raises(NoAccess, match="not sent"):
        find_access(gateway, {}, url="wss://another.example")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "10.0.0.1", "::", "localhost.example", "gateway"])
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:1",
        "ws://",
        "ws://:18789",
        "ws://[::1",
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:0",
    ],
)
def test_what_is_no_address_is_called_that(address: str) -> None:
    for given in ({"env": {"OPENCLAW_GATEWAY_URL": address}}, {"env": {}, "url": address}):
        with pytest.raises(NoAccess) as caught:
            find_access({}, **given)  # type: ignore[arg-type]
        assert caught.value.code == "bad_address"


def test_no_secret_is_ever_printed() -> None:
    access = Access(HERE, "hunter2", "hunter3")
    assert repr(access) == f"Access(url={HERE!r})"
    with pytest.raises(NoAccess) as caught:
        find_access({}, {}, url="ws://user:hunter2@127.0.0.1:99999")
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize(
    ("url", "http"),
    [
        (HERE, "http://127.0.0.1:18789"),
        ("wss://[::1]:2/x?y", "https://[::1]:2"),
        ("ws://localhost", "http://localhost"),
    ],
)
def test_the_same_gateway_over_HTTP(url: str, http: str) -> None:
    assert Access(url).http == http


@pytest.mark.parametrize(
    ("access", "auth"),
    [
        (Access(HERE), {}),
        (Access(HERE, "t"), {"token": "t"}),
        (Access(HERE, None, "p"), {"password": "p"}),
        (Access(HERE, "t", "p"), {"token": "t", "password": "p"}),
    ],
)
def test_only_what_was_found_is_sent(access: Access, auth: dict[str, str]) -> None:
    assert connect_params(access, READ)["auth"] == auth
