"""The documents on which Node and we must agree: grown ones, flawed ones, and every odd word in every place."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tests.faults.nonsense import grown

PLACES = (
    '{"k":{"sessionId":"s-1","status":%s}}',
    '{"k":{"sessionId":"s-1","status":"running","endedAt":%s,"runtimeMs":1}}',
    '{"k":{"sessionId":"s-1","status":"running","endedAt":-%s}}',
    '{"k":{"sessionId":"s-1","status":"running","x":[%s,{"y":%s}]}}',
    '{"k":{"sessionId":"s-1","status":"running","abortedLastRun":true,%s:1}}',
    '{%s:{"sessionId":"s-1","status":"running"}}',
    '{"k":{"sessionId":"s-1","status":"running"},"other":%s}',
    '{"k":{"sessionId":"s-1","status":"running"}%s}',
    '%s{"k":{"sessionId":"s-1","status":"running"}}',
    '{"k":{"sessionId":"s-1","status":"running"}}%s',
    "%s",
)
INTEGERS = tuple(str(2**53 + by) for by in range(-3, 4)) + tuple(
    str(10**by + 1) for by in (15, 16, 17, 21, 22, 308, 309)
)


def documents(number: int, seed: int) -> Iterator[bytes]:
    """Every odd word in every place, then `number` that are grown, every second one with flaws."""
    for word in (*grown.WRONG, *grown.NUMBERS, *INTEGERS, *grown.STRINGS, *grown.KEYS, *grown.SPACES):
        for place in PLACES:
            yield place.replace("%s", word).encode("utf-8", "surrogatepass")
    rng = Random(seed)
    for at in range(number):
        data = grown.store(rng.randrange)
        yield grown.flawed(rng.randrange, data) if at % 2 else data
