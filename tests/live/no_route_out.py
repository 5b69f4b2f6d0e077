"""A network in which there is nothing but a loopback of its own: what a live test starts there reaches nobody else."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

_NEW_NETWORK = 0x40000000
_SET_FLAGS, _UP = 0x8914, 0x1


@pytest.fixture(scope="session", autouse=True)
def cut_off() -> Iterator[bool]:
    """Whether this thread, and all that it starts, is in such a network: the system lets only root have one."""
    yield not routes() or _leave()


def routes() -> list[str]:
    """The interfaces by which this thread's network reaches beyond its loopback."""
    net = Path("/proc/thread-self/net")
    through = [line.split()[0] for line in (net / "route").read_text().splitlines()[1:]]
    through += [line.split()[-1] for line in (net / "ipv6_route").read_text().splitlines()]
    return sorted({name for name in through if name != "lo"})


def _leave() -> bool:
    if ctypes.CDLL(None).unshare(_NEW_NETWORK) != 0:  # os.unshare comes with Python 3.12
        return False
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))
    return True
