"""One race for the rows of a database from start to end, and what it gives."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.faults.race.contest import FULL_SPEED, Pace, Racer
from tests.faults.race.field import NODE, TOP
from tests.faults.rows.field import TURN_MS, Field, Size, lay_out

GATEWAY = Path(__file__).with_name("gateway.mjs")
_TAKES_BACK = "a write that takes another back"


@dataclass(frozen=True, slots=True)
class Contest:
    """Who races, on what, until so many writes are acknowledged or the time is up."""

    size: Size
    repairer: str
    writes: int
    pace: Pace = FULL_SPEED
    most_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Result:
    """One race."""

    contest: Contest
    seconds: float
    acked: int
    lost: int
    """Gateway writes that were acknowledged and that the rows, in the end, do not count."""
    stepped_back: int
    """How often the gateway itself found a row other than it had left it, but for a repair."""
    conflicts: int
    """Gateway writes that failed since the row was repaired between its read and its write. Not acknowledged."""
    locked: int
    """Gateway writes that failed since somebody held the lock for 5 s."""
    slowest_write_ms: float
    reads: int
    corrupt: int
    backwards: int
    settled: int
    undone: int
    came_of_it: dict[str, int]
    unaccounted: dict[str, int]
    """By kind, the committed changes of rows less those that somebody says he made; nothing where the two agree."""
    integrity: str
    same_log: bool
    held_ms: tuple[float, float, float]
    """For how long we held the write lock: the median, the 95th hundredth, the longest."""
    samples: tuple[str, ...]


def race(contest: Contest, folder: Path) -> Result:
    field = lay_out(folder, contest.size)
    with ExitStack() as stack:
        gateway = Racer(stack, _gateway(contest, field), folder, TOP)
        gateway.ready()
        log = Path(f"{field.database}-wal").stat().st_ino
        given = {"state_dir": str(field.state_dir), "database": str(field.database), "keys": field.keys}
        repairer = Racer(stack, _python("repairers", json.dumps({"who": contest.repairer, **given})), folder, TOP)
        reader = Racer(stack, _python("reader", str(field.database)), folder, TOP)
        repairer.ready()
        reader.ready()
        for racer in (repairer, gateway):
            racer.go()
        wrote = gateway.wait(contest.most_seconds)
        same_log = Path(f"{field.database}-wal").stat().st_ino == log
        repaired = repairer.end()
        seen = reader.end()
    return _result(contest, field, wrote, repaired, seen, same_log=same_log)


def _gateway(contest: Contest, field: Field) -> list[str]:
    given = {
        "database": str(field.database),
        "keys": field.keys,
        "writes": contest.writes,
        "turnMs": TURN_MS,
        "burst": contest.pace.burst,
        "pauseMs": contest.pace.pause_ms,
    }
    return [str(NODE), "--disable-warning=ExperimentalWarning", str(GATEWAY), json.dumps(given)]


def _python(module: str, *given: str) -> list[str]:
    return [sys.executable, "-m", f"tests.faults.rows.{module}", *given]


def _result(
    contest: Contest,
    field: Field,
    wrote: dict[str, Any],
    repaired: dict[str, Any],
    seen: dict[str, Any],
    *,
    same_log: bool,
) -> Result:
    counts = "json_extract(entry_json, '$.counted') + json_extract(entry_json, '$.turn') - 1"
    ((counted,),) = field.ask(f"SELECT sum({counts}) FROM session_nodes WHERE session_key LIKE 'agent:main:turn-%'")
    held = repaired["held_ms"] or [0.0]
    said = {"a count": 0, "a turn": 0, "a settlement": repaired["settled"], "an undo": repaired["undone"]}
    unaccounted = {what: number - said.get(what, 0) for what, number in _committed(field).items()}
    by_the_gateway = unaccounted.pop("a count") + unaccounted.pop("a turn")
    unaccounted["a gateway write"] = by_the_gateway - wrote["acked"]
    return Result(
        contest=contest,
        seconds=wrote["seconds"],
        acked=wrote["acked"],
        lost=wrote["acked"] - counted,
        stepped_back=wrote["steppedBack"],
        conflicts=wrote["conflicts"],
        locked=wrote["locked"],
        slowest_write_ms=wrote["slowestMs"],
        reads=seen["reads"],
        corrupt=seen["corrupt"] + wrote["invalid"],
        backwards=seen["backwards"],
        settled=repaired["settled"],
        undone=repaired["undone"],
        came_of_it=repaired["came_of_it"],
        unaccounted={what: number for what, number in unaccounted.items() if number},
        integrity=field.ask("PRAGMA integrity_check")[0][0],
        same_log=same_log,
        held_ms=(median(held), quantiles([*held, held[-1]], n=20)[-1], held[-1]),
        samples=(*seen["samples"], *map(str, wrote["samples"])),
    )


def _committed(field: Field) -> dict[str, int]:
    """How many changes of each kind the history has; those that nobody should make took something back."""
    kinds = {"a count": 0, "a turn": 0, "a settlement": 0, "an undo": 0, _TAKES_BACK: 0}
    changes = field.ask(
        "SELECT counted - counted_was, turn - turn_was, status_was, status, count(*) FROM history GROUP BY 1, 2, 3, 4"
    )
    for counted, turns, was, now, number in changes:
        match counted, turns, was, now:
            case 1, 0, _, _ if was == now:
                kind = "a count"
            case 0, 1, "done", "running":
                kind = "a turn"
            case 0, 0, "running", "done":
                kind = "a settlement"
            case 0, 0, "done", "running":
                kind = "an undo"
            case _:
                kind = _TAKES_BACK
        kinds[kind] += number
    return kinds


_COLUMNS = (
    ("rows", lambda r: r.contest.size.name),
    ("repair", lambda r: r.contest.repairer),
    ("gateway", lambda r: f"{r.contest.pace.name}, {r.seconds:.0f} s"),
    ("acknowledged writes", lambda r: f"{r.acked:,}"),
    ("lost", lambda r: f"{r.lost:,}"),
    ("it found a row stepped back", lambda r: f"{r.stepped_back:,}"),
    ("its own conflicts", lambda r: f"{r.conflicts:,}"),
    ("locked out", lambda r: f"{r.locked:,}"),
    ("its slowest write", lambda r: f"{r.slowest_write_ms:.0f} ms"),
    ("reads", lambda r: f"{r.reads:,}"),
    ("not whole", lambda r: f"{r.corrupt:,}"),
    ("went back", lambda r: f"{r.backwards:,}"),
    ("settled, undone", lambda r: f"{r.settled:,}, {r.undone:,}"),
    ("came to nothing", lambda r: ", ".join(f"{n:,} {w}" for w, n in r.came_of_it.items() if w != "written") or "0"),
    ("changes that nobody should make", lambda r: f"{r.unaccounted.get(_TAKES_BACK, 0):,}"),
    (
        "lock held, median, 95 %, most",
        lambda r: ", ".join(f"{ms:.1f}" for ms in r.held_ms) + " ms" if any(r.held_ms) else "",
    ),
)


def table(results: list[Result]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(name for name, _ in _COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(cell(result) for _, cell in _COLUMNS) + " |" for result in results]
    return "\n".join(lines)
