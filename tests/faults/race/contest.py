"""One race from start to end: the gateway, somebody who repairs, and a reader, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.faults.race.field import COUNTER_KEY, NODE, PACKAGE, TOP, TURN_MS, Field, Size, lay_out
from tests.faults.race.tally import Result, Turn, count_overwritten, expected_overwritten

GATEWAY = Path(__file__).with_name("gateway_writer.mjs")


@dataclass(frozen=True, slots=True)
class Pace:
    """How the gateway writes: `burst` writes, then a pause of up to `pause_ms`; no bursts is full speed."""

    name: str
    burst: int = 0
    pause_ms: float = 0.0


FULL_SPEED = Pace("full speed")


@dataclass(frozen=True, slots=True)
class Contest:
    """Who races, on what, until so many writes are acknowledged or the time is up."""

    size: Size
    repairer: str
    writes: int
    pace: Pace = FULL_SPEED
    most_seconds: float = 600.0
    quiet: float = 0.0
    patience: float = 0.0
    linger_ms: float = 0.0
    cross_ms: float = 0.0
    """Most exchanges that bring in several repairs wait up to so long for a gateway write to cross them."""
    between_ms: float = 0.0
    """How long we do nothing between two passes."""
    look_every: int = 4
    turns_at_once: int = 0
    """So many rows get stuck one right behind the other, once they have been settled for `rest_ms`; 0: any, at once."""
    rest_ms: float = 0.0
    looks: tuple[float, ...] = ()
    """Seconds after which a repair is looked at again; none: as delivered."""
    measure_cycle: bool = False
    app: Path = TOP
    """Where `app` is taken from: another tree for an ablation."""


class Racer:
    """A process that says one word when it is ready, runs when told, and says all it knows when its input ends."""

    def __init__(self, stack: ExitStack, command: list[str], folder: Path, app: Path) -> None:
        home = folder / "home"
        home.mkdir(exist_ok=True)
        env = {"HOME": str(home), "PATH": os.environ.get("PATH", ""), "PYTHONPATH": f"{app}{os.pathsep}{TOP}"}
        self._process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=app, env=env)
        )
        stack.callback(self._process.kill)

    def ready(self) -> None:
        self._word()

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def wait(self, seconds: float) -> dict[str, Any]:
        """What it knows, when it ends of itself; after so many seconds it is told to end."""
        timer = threading.Timer(seconds, self._tell_to_end)
        timer.start()
        try:
            return self._word()
        finally:
            timer.cancel()

    def end(self) -> dict[str, Any]:
        self._tell_to_end()
        return self._word()

    def _tell_to_end(self) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()

    def _word(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"{self._process.args} ended without a word, with {self._process.wait()}"
        word: dict[str, Any] = json.loads(line)
        return word


def race(contest: Contest, folder: Path) -> Result:
    field = lay_out(folder, contest.size)
    with ExitStack() as stack:
        gateway = Racer(stack, _gateway(contest, field), folder, contest.app)
        gateway.ready()
        names = sorted(os.listdir(field.store.parent))
        repairer = Racer(stack, _repairer(contest, field), folder, contest.app)
        reader = Racer(stack, _python("reader", str(field.store)), folder, contest.app)
        repairer.ready()
        reader.ready()
        for racer in (repairer, gateway):
            racer.go()
        wrote = gateway.wait(contest.most_seconds)
        repaired = repairer.end()
        seen = reader.end()
    return _result(contest, field, wrote, repaired, seen, names)


def _gateway(contest: Contest, field: Field) -> list[str]:
    given = {
        "package": str(PACKAGE),
        "store": str(field.store),
        "writes": contest.writes,
        "counterKey": COUNTER_KEY,
        "turnKeys": field.turn_keys,
        "turnMs": TURN_MS,
        "burst": contest.pace.burst,
        "pauseMs": contest.pace.pause_ms,
        "lookEvery": contest.look_every,
        "turnsAtOnce": contest.turns_at_once,
        "restMs": contest.rest_ms,
        "measureCycle": contest.measure_cycle,
    }
    return [str(NODE), str(GATEWAY), json.dumps(given)]


def _repairer(contest: Contest, field: Field) -> list[str]:
    given = {
        "who": contest.repairer,
        "state_dir": str(field.state_dir),
        "store": str(field.store),
        "database": str(field.folder / "own" / "audit.db"),
        "quiet": contest.quiet,
        "patience": contest.patience,
        "linger_ms": contest.linger_ms,
        "cross_ms": contest.cross_ms,
        "between_ms": contest.between_ms,
        "looks": contest.looks,
    }
    return _python("repairers", json.dumps(given))


def _python(module: str, *given: str) -> list[str]:
    return [sys.executable, "-m", f"tests.faults.race.{module}", *given]


def _result(
    contest: Contest,
    field: Field,
    wrote: dict[str, Any],
    repaired: dict[str, Any],
    seen: dict[str, Any],
    names: list[str],
) -> Result:
    rows = field.rows()
    # Every acknowledged write counted one up: the counter, or the number of a row's turn, which began at one.
    in_the_store = rows[COUNTER_KEY]["counted"] + sum(rows[key]["turn"] - 1 for key in field.turn_keys)
    published: list[Turn] = [(key, started_at) for key, started_at in repaired["published"]]
    noticed: list[Turn] = [(key, started_at) for key, started_at in repaired.get("noticed", [])]
    survived = {(key, started_at) for key, started_at in wrote["settledSeen"]}
    survived |= {(k, rows[k]["startedAt"]) for k in field.turn_keys if rows[k]["status"] != "running"}
    overwritten = count_overwritten(published, survived)
    said = count_overwritten(noticed, set())
    lies_about = sorted(set(os.listdir(field.store.parent)) - set(names))
    kept = tuple(name for name in lies_about if any(name in why for why in repaired.get("kept", ())))
    return Result(
        size=contest.size.name,
        repairer=contest.repairer,
        pace=contest.pace.name,
        seconds=wrote["seconds"],
        acked=wrote["acked"],
        lost=wrote["acked"] - in_the_store,
        gateway_stepped_back=len(wrote["steppedBack"]),
        gateway_found_no_row=wrote["noRow"],
        slowest_write_ms=wrote["slowestMs"],
        reads=seen["reads"],
        unparsable=seen["unparsable"],
        missing=seen["missing"],
        backwards=seen["backwards"],
        strange=seen["strange"],
        taken_back=seen["taken_back"],
        slowest_open_ms=seen["slowest_open_ms"],
        held_opens=seen["held_opens"],
        published=len(published),
        together=repaired.get("together", 0),
        crossed=repaired.get("crossed", 0),
        crossed_together=repaired.get("crossed_together", 0),
        untrue=tuple(repaired.get("untrue", ())),
        overwritten=overwritten.total(),
        noticed=said.total(),
        unnoticed=(overwritten - said).total() if contest.repairer == "ours" else overwritten.total(),
        falsely_noticed=(said - overwritten).total(),
        left_running=sum(rows[key]["status"] == "running" for key in field.turn_keys),
        litter=tuple(name for name in lies_about if name not in kept),
        kept=kept,
        by_outcome=repaired["by_outcome"],
        reasons=repaired.get("reasons", {}),
        samples=tuple(seen["samples"]) + tuple(str(step) for step in wrote["steppedBack"][:20]),
        held_ms=median(repaired.get("held") or [0.0]),
        longest_held_ms=max(repaired.get("held") or [0.0]),
        windows_ms=median(repaired.get("windows") or [0.0]),
        expected_share=expected_overwritten(wrote["cycles"][:2_000], repaired.get("windows", [])[:500]),
        kept_under_another=wrote["keptUnderAnother"],
    )
