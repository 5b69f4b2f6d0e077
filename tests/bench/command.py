"""What one `clawmend scan` costs from its cold start to its output: beside OpenClaw's own list, and beside a script."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.clock import SystemClock
from tests.bench.disk import one_turn
from tests.bench.measure import CannotMeasure, Line, against
from tests.faults.crowd import Crowd

TOP = Path(__file__).resolve().parents[2]
OPENCLAW = "2026.5.18"
WEIGHT = 6_000
"""Of the text in a row: about what the recorded ones have."""


def lines(folder: Path) -> Iterator[Line]:
    yield from beside_openclaw(folder / "openclaw")
    yield beside_a_script(folder / "script")


@dataclass
class Command:
    """A program, run as a person would; `codes` are the exit codes that tell of no error."""

    words: list[str]
    env: Mapping[str, str]
    codes: tuple[int, ...] = (0,)
    memory: list[float] = field(default_factory=list)
    """Of every run, the most that was resident, in bytes."""

    def __call__(self) -> float:
        launched = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")), *self.words]
        where = self.env["HOME"]
        done = subprocess.run(launched, env=dict(self.env), cwd=where, capture_output=True, text=True, check=True)
        seconds, memory, code = done.stdout.split()
        if int(code) not in self.codes:
            raise CannotMeasure(f"{' '.join(self.words)} ended with {code}: {done.stderr[-300:]}")
        self.memory.append(float(memory))
        return float(seconds)


def scan(state: Path, home: Path) -> Command:
    """The command in a checkout, with no gateway to ask and no audit yet."""
    env = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(TOP),
        "CLAWMEND_STATE_DIR": str(state),
        "CLAWMEND_DATABASE_URL": f"sqlite:///{home}/audit.db",
        "CLAWMEND_GATEWAY": "off",
    }
    return Command([sys.executable, "-m", "app.cli", "scan"], env, codes=(0, 1))


def openclaw(state: Path, home: Path) -> Command:
    node, place = TOP / ".gateways" / "bin" / "node", TOP / ".gateways" / OPENCLAW
    program = place / "node_modules" / "openclaw" / "openclaw.mjs"
    if not (program.exists() and node.exists()):
        raise CannotMeasure(f"OpenClaw {OPENCLAW} is not there: make .gateways/{OPENCLAW}/.installed")
    env = {
        "HOME": str(home),
        "PATH": f"{node.parent}:{os.environ['PATH']}",
        "OPENCLAW_STATE_DIR": str(state),
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }
    return Command([str(node), str(program), "sessions", "--json"], env)


def crowd_of(folder: Path, agents: int, settled: int, running: int) -> tuple[Crowd, str]:
    """Every session has a trajectory of one turn as it was recorded; one of each store is stuck. With what it is."""
    crowd = Crowd(folder / "state", SystemClock().now())
    turn = one_turn(crowd)
    body = folder / "turn.jsonl"
    folder.mkdir()
    body.write_bytes(turn)
    for agent in (f"a{number}" for number in range(agents)) if agents > 1 else ("main",):
        crowd.ended(agent, "stuck", ago=600, weight=WEIGHT, before=turn)
        for number in range(running - 1):
            crowd.at_work(agent, f"r{number}", ago=100, weight=WEIGHT, before=turn)
        for number in range(settled):
            crowd.settled(agent, f"s{number}", weight=WEIGHT)
            os.link(body, crowd.trajectory(agent, f"s{number}"))
    crowd.write()
    total = agents * (settled + running)
    return crowd, f"{total:,} sessions, {agents * running:,} running, {len(turn) / 1e3:.0f} KB of trajectory each"


def beside_openclaw(folder: Path) -> Iterator[Line]:
    crowd, of = crowd_of(folder, agents=1, settled=450, running=50)
    ours, theirs = scan(crowd.state, folder), openclaw(crowd.state, folder)
    what = f"one `clawmend scan` from its start to its output, {of}"
    yield against(what, ours, theirs, most=0.25, rounds=9, of="`openclaw sessions --json`")
    mine, base = statistics.median(ours.memory), statistics.median(theirs.memory)
    shown = f"`openclaw sessions --json`: {base / 1e6:.0f} MB"
    yield Line("its memory", shown, f"{mine / 1e6:.0f} MB", mine / base, "<= 0.25x", mine / base <= 0.25)


def beside_a_script(folder: Path) -> Line:
    crowd, of = crowd_of(folder, agents=50, settled=180, running=20)
    script = Command(
        [sys.executable, str(Path(__file__).with_name("workaround.py")), str(crowd.state)], {"HOME": str(folder)}
    )
    return against(
        f"one `clawmend scan`, {of}",
        scan(crowd.state, folder),
        script,
        most=0.05,
        rounds=3,
        of="a script that parses every store and every trajectory (workaround.py)",
    )
