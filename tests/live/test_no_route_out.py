"""Real gateways are run where they can reach nobody: not a provider, not a registry, not their own maker."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.live.no_route_out import routes

_OUT = "import socket; socket.create_connection(('192.0.2.1', 443), timeout=5)"
"""An address that belongs to nobody: where there is a route, the answer is silence."""


def test_what_a_live_test_starts_finds_its_loopback_and_no_way_out(cut_off: bool) -> None:
    if not cut_off:
        pytest.skip("the system does not let this user have a network of its own")
    assert routes() == []
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    done = subprocess.run([sys.executable, "-c", _OUT], capture_output=True, text=True, timeout=30, check=False)
    assert "Network is unreachable" in done.stderr
