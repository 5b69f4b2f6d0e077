"""One run for each system call and each fault, on a fresh copy of the scene.

A run that the fault did not hit, or that went another way up to there than the recording, is no result: it is done
again, and is an error of this harness when it stays so.
"""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.crash import judge
from tests.faults.crash.child import Child, Say, in_child
from tests.faults.crash.scene import THINGS, Scene, Thing, make, recovery
from tests.faults.crash.trace import BEGIN, END, GO, KILL, Call, Trace, Watched, let_me_be_traced

AFTER_CALL = " after call "
_TRIES = 8


class HarnessError(Exception):
    """The run did not show what it was to show."""


class NotHit(HarnessError):
    """The call that was to be hit was not made."""


@dataclass(frozen=True, slots=True)
class Point:
    """A fault at one call. `index` is its place in the recording."""

    index: int
    call: Call
    fault: str

    def __str__(self) -> str:
        return f"{self.fault} at call {self.index}: {self.call.name} ({self.call.ordinal}) {self.call.text[:200]}"


class Bench:
    """One worker's scene and its recordings."""

    def __init__(self, place: Path) -> None:
        logging.disable(logging.CRITICAL)
        self.scene = Scene(place)
        self._log = place / "strace.log"
        self._recorded: dict[str, Trace] = {}
        self._known: dict[str, dict[str, Any] | None] = {}

    def thing(self, name: str) -> Thing:
        """By its name; that of a recovery is `THING after call N`."""
        if name in THINGS:
            return THINGS[name]
        origin, _, index = name.partition(AFTER_CALL)
        if not self.scene.has(name):
            self._ready(THINGS[origin])
            call = self.recorded(THINGS[origin]).calls[int(index)]
            self._crash(THINGS[origin], Point(int(index), call, KILL))
            self.scene.wait_for_the_gateway()
            self.scene.put_aside(name)
        return recovery(THINGS[origin], name, tells=self.scene.has_a_file_of_ours(name))

    def recorded(self, thing: Thing) -> Trace:
        """The system calls of `thing`, as it makes them twice: on a busy machine one run may take a way of its own, and
        then no other would come to the calls of it.
        """
        if thing.scene not in self._recorded or thing.name not in self._recorded:
            trace = self._recording(thing)
            for _ in range(_TRIES):
                before, trace = trace, self._recording(thing)
                if trace.outward == before.outward:
                    break
            else:
                raise HarnessError(f"{thing.name} takes another way each time")
            self._recorded[thing.name] = self._recorded[thing.scene] = trace
        return self._recorded[thing.name]

    def _recording(self, thing: Thing) -> Trace:
        trace, said, _ = self._subject(thing, None, goes_on=False)
        if said is None or said["raised"] or not trace.calls or END not in trace.calls[-1].text:
            raise HarnessError(f"{thing.name} does not run through: {said}")
        return trace

    def run(self, thing: Thing, point: Point, *, goes_on: bool) -> dict[str, Any]:
        """One run. With `goes_on` the process that met the error goes on; else it ends, and another starts."""
        trace, said, then = self._crash(thing, point, goes_on=goes_on)
        if point.fault != KILL and said is None:
            return {"violations": ["it hung, or died without a word"], "said": None}
        at_once = asdict(judge.observe(self.scene)) if said is None else said["at_once"]
        untouched = not goes_on and self.scene.is_as(thing.scene)
        if not goes_on:
            then = self._start_untouched(thing) if untouched else self._start()
        result = {"said": said, "at_once": at_once, "then": then, "untouched": untouched, "calls": len(trace.calls)}
        return {**result, "violations": judge.violations(thing, result)}

    def _crash(
        self, thing: Thing, point: Point, *, goes_on: bool = False
    ) -> tuple[Trace, dict[str, Any] | None, dict[str, Any] | None]:
        recorded = self.recorded(thing)
        for _ in range(_TRIES):
            trace, said, then = self._subject(thing, point, goes_on=goes_on)
            if _hit(recorded, trace, point):
                return trace, said, then
        raise NotHit(f"{thing.name}: {point} was not hit; the last run went {trace.outward[-5:]}")

    def _ready(self, thing: Thing) -> None:
        if not self.scene.has(thing.scene):
            done = in_child(lambda: make(self.scene, thing.scene))
            if done is None or "raised" in done:
                raise HarnessError(f"{thing.scene} cannot be made: {done}")
        self.scene.bring_back(thing.scene)

    def _start(self) -> dict[str, Any] | None:
        return in_child(lambda: _next_start(self.scene))

    def _start_untouched(self, thing: Thing) -> dict[str, Any] | None:
        """A start on a scene in which every byte is as before: done once, since the next one would be the same."""
        if thing.scene not in self._known:
            self._known[thing.scene] = self._start()
        return self._known[thing.scene]

    def _subject(
        self, thing: Thing, point: Point | None, *, goes_on: bool
    ) -> tuple[Trace, dict[str, Any] | None, dict[str, Any] | None]:
        """Do `thing` under strace; gives the trace, what the process said of it, and how it went on."""
        self._ready(thing)
        signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
        child = Child(lambda say: _do(thing, self.scene, say, goes_on=goes_on))
        if child.hear() != {"ready": True}:
            raise HarnessError(f"{thing.name} cannot be prepared: {child.last}")
        self._log.unlink(missing_ok=True)
        watched = Watched(child.pid, self._log, point.call if point else None, point.fault if point else KILL)
        os.kill(child.pid, GO)
        said = child.hear()
        then = child.hear() if goes_on and said is not None else None
        child.end()
        return watched.ended(), said, then


def _do(thing: Thing, scene: Scene, say: Say, *, goes_on: bool) -> None:
    let_me_be_traced()
    reconciler, do = thing.prepare(scene)
    say({"ready": True})
    signal.sigwait({GO})
    said = _between_the_markers(do)
    said["text"] = said["text"].replace(str(scene.folder), "…")
    said["at_once"] = asdict(judge.observe(scene))
    say(said)
    if goes_on:
        then = judge.go_on(scene, reconciler)
        say({**then, "back": judge.other_way_round(scene, scene.world.reconciler())})


def _next_start(scene: Scene) -> dict[str, Any]:
    scene.hold_clock()
    then = judge.go_on(scene, scene.world.reconciler())
    return {**then, "back": judge.other_way_round(scene, scene.world.reconciler())}


def _between_the_markers(do: Callable[[], str]) -> dict[str, Any]:
    said: dict[str, Any] = {"outcome": None, "raised": None, "text": "", "where": ""}
    _mark(BEGIN)
    try:
        said["outcome"] = do()
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the result)
        frames = traceback.extract_tb(error.__traceback__)
        at = next((f for f in reversed(frames) if f"{os.sep}app{os.sep}" in f.filename), frames[-1])
        where = f"{Path(at.filename).name}:{at.lineno} {at.name}"
        said |= {"raised": type(error).__name__, "text": str(error)[:200], "where": where}
    _mark(END)
    return said


def _mark(name: str) -> None:
    with suppress(OSError):
        os.stat(name)


def _hit(recorded: Trace, trace: Trace, point: Point) -> bool:
    """The fault met the very call that it was meant for."""
    expected = [c.name for c in recorded.calls[: point.index + 1] if not c.inside]
    if point.fault != KILL:
        return trace.injected and trace.outward[: len(expected)] == expected
    return trace.killed and (point.call.inside or trace.outward == expected)
