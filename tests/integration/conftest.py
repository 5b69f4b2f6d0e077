from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.openclaw import gateway_place
from app.reconcile.gateways import GatewayLinks
from app.reconcile.places import state_dirs
from app.reconcile.reconciler import Reconciler
from tests.api.conftest import wait_until
from tests.command import Clawmend
from tests.peer import TOKEN, Peer
from tests.repaired import Repaired
from tests.world import World


@pytest.fixture
def run(world: World) -> Clawmend:
    return Clawmend(world)


@pytest.fixture
def repaired(world: World) -> Repaired:
    return Repaired(world)


@pytest.fixture
def beside(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Reconciler]]:
    """Makes a reconciler with links to a peer that are up; two passes of it settle what is stuck."""
    made: list[GatewayLinks] = []
    monkeypatch.setattr(gateway_place, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(gateway_place, "_LONGEST_DELAY", 0.05)

    def make(peer: Peer, **over: Any) -> Reconciler:
        settings = world.settings(gateway=peer.url, gateway_token=TOKEN)
        links = GatewayLinks(settings, world.clock, world.env, state_dirs(settings, world.env))
        made.append(links)
        links.start()
        wait_until(lambda: up(links), "the link")
        return world.reconciler(links=links, **over)

    yield make
    for links in made:
        links.stop()


def up(links: GatewayLinks | None) -> bool:
    assert links is not None
    return all(s.code == "up" for s in links.states().values())
