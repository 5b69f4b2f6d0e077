"""Every version of the store that a scene can have, to the byte, and which of them are ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.faults.crash.versions import OTHER_KEY, OTHER_SESSION_ID, of_the_other
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World

ONE = (STUCK_KEY,)
TWO = (STUCK_KEY, OTHER_KEY)

_BY_THE_GATEWAY = "agent:main:other"


@dataclass(frozen=True, slots=True)
class Versions:
    """Every version of the store that there ever was, byte for byte."""

    gateway: tuple[bytes, ...]
    """The one that stood before, and what the gateway wrote in between."""
    made: tuple[bytes, ...]
    """What we make of each of them."""
    stepped_back: bool = False
    """What we made of the first was in place, and was taken back."""
    keys: tuple[str, ...] = ONE
    """The sessions that we settle, or whose settlement we undo."""
    alone: tuple[Mapping[str, bytes], ...] = ()
    """Of several: what we make of each of the gateway's versions where one is settled alone, and which."""
    apart: bool = False
    """Each of them may be settled by itself, one behind the other."""

    @property
    def last(self) -> bytes:
        return self.made[-1]

    def until(self, arrived: int) -> Versions:
        """What there was when the gateway had come to its write number `arrived`, and the next start went on."""
        end = arrived + 1
        stepped_back = self.stepped_back and arrived > 0
        return Versions(self.gateway[:end], self.made[:end], stepped_back, self.keys, self.alone[:end], apart=True)

    def ours(self) -> tuple[bytes, ...]:
        """What we ever put in place."""
        return (*self.lasting(), self.made[0]) if self.stepped_back else self.lasting()

    def lasting(self) -> tuple[bytes, ...]:
        """What we put in place and did not take back."""
        return (self.made[-1], *self.alone[-1].values()) if self.apart and self.alone else (self.made[-1],)

    def done_in(self, data: bytes) -> frozenset[str]:
        """The sessions that stand in it as we make them."""
        one = frozenset(key for each in self.alone for key, alone in each.items() if alone == data)
        return frozenset(self.keys) if data in self.made else one

    def lives_on(self, digest: str | None, store: bytes) -> bool:
        """Whether the version of ours with this SHA-256 is the store, or what that was built on."""
        built_on = self.alone[-1].values() if self.apart and self.alone and store == self.last else ()
        return store in self.ours() and digest in [sha256(data) for data in (store, *built_on)]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def settled(data: bytes, ended_at: int, keys: Collection[str] = ONE) -> bytes:
    """The version with the four fields of each as the gateway would have written them, every other byte as it was."""
    for key in keys:
        started_at = json.loads(data)[key]["startedAt"]
        running = f'"status": "running",\n    "startedAt": {started_at}'.encode()
        ended = f',\n    "endedAt": {ended_at},\n    "runtimeMs": {ended_at - started_at}'.encode()
        row = data.index(f'\n  "{key}": {{'.encode())
        assert data.count(running) <= len(TWO)
        at = data.index(running, row)
        data = data[:at] + running.replace(b'"running"', b'"failed"') + ended + data[at + len(running) :]
    return data


def add_the_other(world: World) -> None:
    """Another session, stuck since the same moment."""
    told = world.trajectory().read_text().replace(STUCK_SESSION_ID, OTHER_SESSION_ID)
    world.trajectory(OTHER_SESSION_ID).write_text(told.replace(STUCK_KEY, OTHER_KEY))
    _add(world, {OTHER_KEY: of_the_other(world.row())})


def pad(world: World, size: int) -> None:
    """So many bytes of other rows."""
    _add(world, {f"agent:main:pad{n}": {"sessionId": f"p{n}", "label": "x" * 4_000} for n in range(size // 4_000)})


def gateway_write(data: bytes, number: int) -> bytes:
    rows = json.loads(data)
    row = {"sessionId": "o", "label": f"the gateway's write {number}, in the very moment of ours"}
    return _text({**rows, _BY_THE_GATEWAY: row})


def _add(world: World, rows: dict[str, dict[str, object]]) -> None:
    world.write_store(_text({**world.rows(), **rows}))


def _text(rows: dict[str, object]) -> bytes:
    return json.dumps(rows, indent=2, ensure_ascii=False).encode()
