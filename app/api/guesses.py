"""Wrong tokens at the login: as many as a person's slips need, and no more."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address, ip_network

from app.clock import Clock

AT_ONCE = 5
"""So many wrong tokens may be shown in a row from one address."""
ONE_PER_SECONDS = 6.0
"""After them one more every so often, which is also how long who mistyped has to wait at most."""
_MOST = 1_000


class Guesses:
    """Counts what was missed, by address (IPv6: by its /64). Lives on the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at: OrderedDict[str, float] = OrderedDict()
        """By the monotonic clock, when all of an address is forgotten again."""

    def wait(self, address: str) -> float:
        """Seconds until a token from `address` is looked at; 0: now."""
        left = self._free_at.get(_block(address), 0.0) - self._clock.monotonic()
        return max(0.0, left - (AT_ONCE - 1) * ONE_PER_SECONDS)

    def missed(self, address: str) -> None:
        """A wrong token came from `address`."""
        name = _block(address)
        free_at = max(self._free_at.pop(name, 0.0), self._clock.monotonic())
        self._free_at[name] = free_at + ONE_PER_SECONDS
        if len(self._free_at) > _MOST:
            self._free_at.popitem(last=False)


def _block(address: str) -> str:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return str(ip) if ip.version == 4 else str(ip_network((int(ip), 64), strict=False))
