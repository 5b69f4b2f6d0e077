"""A gateway over TLS, with a certificate that it has signed itself, as OpenClaw makes it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.openclaw.gateway_access import Access, NoAccess
from app.openclaw.gateway_frames import READ
from app.openclaw.gateway_link import LinkFailed, open_link
from app.openclaw.gateway_tls import own_certificate
from app.reconcile.gateways import GatewayLinks
from app.reconcile.places import state_dirs
from tests.integration.test_gateways import found_by, wait_until
from tests.peer import TOKEN, Peer
from tests.world import World

TLS = Path(__file__).parents[1] / "tls"
OWN = (TLS / "gateway-cert.pem").read_text()
ANOTHER = (TLS / "another-cert.pem").read_text()


@pytest.fixture
def peer() -> Iterator[Peer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(TLS / "gateway-cert.pem", TLS / "gateway-key.pem")
    made = Peer(tls=context)
    yield made
    made.stop()


def linked(access: Access) -> str:
    async def run() -> str:
        link = await open_link(access, READ)
        await link.close()
        return link.version

    return asyncio.run(run())


def test_the_gateways_own_certificate_is_trusted(peer: Peer) -> None:
    assert linked(Access(peer.url, TOKEN, certificate=OWN)) == "2026.5.18"


@pytest.mark.parametrize("expected", [ANOTHER, None], ids=["another", "one that an authority signed"])
def test_to_who_shows_another_certificate_nothing_is_said(peer: Peer, expected: str | None) -> None:
    with pytest.raises(LinkFailed) as caught:
        linked(Access(peer.url, TOKEN, certificate=expected))
    assert caught.value.code == "certificate"
    assert peer.asked == []


def config(port: int, more: str = "") -> str:
    return f'{{"gateway": {{"port": {port}, "auth": {{"token": "{TOKEN}"}}, "tls": {{"enabled": true{more}}}}}}}'


def test_it_is_found_where_OpenClaw_puts_it_and_where_its_configuration_says(world: World, peer: Peer) -> None:
    folder = world.state / "gateway" / "tls"
    folder.mkdir(parents=True)
    shutil.copy(TLS / "another-cert.pem", folder / "gateway-cert.pem")
    assert found_by(world, config(peer.port)).code == "certificate"
    shutil.copy(TLS / "gateway-cert.pem", folder / "gateway-cert.pem")
    assert found_by(world, config(peer.port)).code == "up"
    named = f', "certPath": "{TLS / "gateway-cert.pem"}"'
    shutil.rmtree(folder)
    assert found_by(world, config(peer.port, named)).code == "up"


def test_its_word_on_itself_comes_over_tls_too(world: World, peer: Peer) -> None:
    (world.state / "openclaw.json").write_text(config(peer.port, f', "certPath": "{TLS / "gateway-cert.pem"}"'))
    settings = world.settings(gateway="auto")
    links = GatewayLinks(settings, world.clock, world.env, state_dirs(settings, world.env))
    links.start()
    try:
        wait_until(lambda: [s.ready for s in links.states().values()] == [True], "it says that it is ready")
    finally:
        links.stop()


@pytest.mark.parametrize("says", [b"", b"no certificate", b"\xff", None], ids=["empty", "nonsense", "bytes", "missing"])
def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path, says: bytes | None) -> None:
    if says is not None:
        (tmp_path / "own.pem").write_bytes(says)
    with pytest.raises(NoAccess) as caught:
        own_certificate({"tls": {"enabled": True, "certPath": "~/own.pem"}}, "/nowhere", str(tmp_path))
    assert caught.value.code == "certificate"
    assert f"{tmp_path}/own.pem" in caught.value.detail


@pytest.mark.parametrize("tls", [None, {}, {"enabled": False, "certPath": "/nowhere"}, {"enabled": "yes"}, "yes"])
def test_without_tls_there_is_none(tls: object) -> None:
    assert own_certificate({"tls": tls}, "/nowhere", "/") is None
