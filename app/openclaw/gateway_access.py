"""Where the gateway of a state dir is, and what opens it, as OpenClaw's own CLI finds both (spec 2026.5.18, section 6;
connection-details-ECyZSF-c.js, credentials-DSKqKvz1.js, paths-Cnwfh6dH.js:221).

The environment counts for OpenClaw's own state dir only: with several of them it cannot say whose port it names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

DEFAULT_PORT = 18_789
_PORT = re.compile(r"(?:[^:\s]+:|\[[^\]]+\]:)?(\d+)\Z")
_REFERENCE = re.compile(r"\$\{[^}]*\}|secretref(?:-env)?:\S*\Z", re.I)


@dataclass(frozen=True, slots=True)
class Access:
    """A WebSocket address, and what logs in there. Neither is ever printed but the address."""

    url: str
    token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    """The one that it has to show (PEM), of a gateway on this machine; None: any that is trusted here."""

    @property
    def http(self) -> str:
        """The same gateway over HTTP, without a trailing slash."""
        return f"{'https' if self.over_tls else 'http'}://{urlsplit(self.url).netloc}"

    @property
    def over_tls(self) -> bool:
        return urlsplit(self.url).scheme == "wss"

    @property
    def is_here(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")


class NoAccess(Exception):
    """The gateway cannot be spoken with; `code` is one of docs/explanation/gateway.md."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def find_access(
    gateway: Mapping[str, Any], env: Mapping[str, str], *, url: str | None = None, token: str | None = None
) -> Access:
    """From OpenClaw's configuration (the block `gateway`) and its environment; `url` and `token` are ours and go first.

    Raises NoAccess: `not_loopback`, `token_needed`, `secret_reference`, `bad_address`.
    """
    address = url or _address(gateway, env)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.hostname is None:
        raise NoAccess("bad_address", f"{address.rpartition('@')[2][:80]} is no ws:// or wss:// address")
    if url is None and not is_loopback(parts.hostname):
        raise NoAccess(
            "not_loopback", f"its gateway is at {parts.hostname}; set CLAWMEND_GATEWAY to its address if that is meant"
        )
    if token is not None:
        return Access(address, token)
    if not is_loopback(parts.hostname) and address != _remote_url(gateway):
        raise NoAccess(
            "token_needed", f"the token of OpenClaw's configuration is not sent to {parts.hostname}: set "
            "CLAWMEND_GATEWAY_TOKEN"
        )  # fmt: skip
    auth = _table(gateway, "auth")
    mode, remote, is_remote = auth.get("mode"), _table(gateway, "remote"), gateway.get("mode") == "remote"
    if mode == "none" and not is_remote:
        return Access(address)
    tokens = [env.get("OPENCLAW_GATEWAY_TOKEN"), auth.get("token")]
    tokens.insert(0 if is_remote else 2, remote.get("token"))
    passwords = [env.get("OPENCLAW_GATEWAY_PASSWORD"), auth.get("password")]
    passwords.insert(1 if is_remote else 2, remote.get("password"))
    found = None if mode == "password" else _first(tokens)
    secret = None if mode == "token" else _first(passwords)  # without a mode the gateway takes the one that it wants
    if found is None and secret is None and any(_is_reference(v) for v in (*tokens, *passwords)):
        raise NoAccess(
            "secret_reference", "its token is a reference to a secret, which only OpenClaw resolves: set "
            "CLAWMEND_GATEWAY_TOKEN"
        )  # fmt: skip
    return Access(address, found, secret)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _address(gateway: Mapping[str, Any], env: Mapping[str, str]) -> str:
    given = (env.get("OPENCLAW_GATEWAY_URL") or "").strip()
    if given:
        return given
    remote = _remote_url(gateway)
    if remote is not None:
        return remote
    scheme = "wss" if _table(gateway, "tls").get("enabled") is True else "ws"
    return f"{scheme}://127.0.0.1:{_port(gateway, env)}"


def _remote_url(gateway: Mapping[str, Any]) -> str | None:
    """The other machine that OpenClaw is set to speak with."""
    url = _table(gateway, "remote").get("url")
    remote = gateway.get("mode") == "remote" and isinstance(url, str) and url.strip()
    return remote or None


def _port(gateway: Mapping[str, Any], env: Mapping[str, str]) -> int:
    match = _PORT.match((env.get("OPENCLAW_GATEWAY_PORT") or "").strip())
    if match and 0 < int(match[1]) < 65_536:
        return int(match[1])
    port = gateway.get("port")
    valid = isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65_536
    return port if valid else DEFAULT_PORT  # type: ignore[return-value]


def _first(values: list[object]) -> str | None:
    return next((v.strip() for v in values if isinstance(v, str) and v.strip() and not _is_reference(v)), None)


def _is_reference(value: object) -> bool:
    """A secret that stands elsewhere: an object `{source, …}`, or a variable that is not set here."""
    return isinstance(value, dict) or (isinstance(value, str) and _REFERENCE.match(value.strip()) is not None)


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}
