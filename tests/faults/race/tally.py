"""What a race gives, and the table of many."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from app.audit.models import Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """One race. Who is right about overwritten repairs is told without the audit: see `count_overwritten`."""

    size: str
    repairer: str
    pace: str
    seconds: float
    acked: int
    lost: int
    """Gateway writes that were acknowledged and are not in the store: counted ones, and turns begun."""
    gateway_stepped_back: int
    """How often the gateway itself found a row older than it had written it."""
    gateway_found_no_row: int
    slowest_write_ms: float
    reads: int
    unparsable: int
    missing: int
    backwards: int
    strange: int
    taken_back: int
    slowest_open_ms: float
    held_opens: int
    published: int
    """Repairs put in place: of a version that settles several rows each counts."""
    together: int
    """Those of them that had a version in common with others."""
    crossed: int
    """Versions that a gateway write crossed; and those of them that were to settle several rows."""
    crossed_together: int
    untrue: tuple[str, ...]
    """Where the audit and what was published do not agree: see `untrue_lines`."""
    overwritten: int
    noticed: int
    unnoticed: int
    falsely_noticed: int
    left_running: int
    litter: tuple[str, ...]
    kept: tuple[str, ...]
    """Gateway versions that are kept for a person, each named by an attempt that is `unknown`: two writes crossed one
    exchange and its putting back, and our reader had the first of them open.
    """
    by_outcome: dict[str, int]
    reasons: dict[str, int]
    samples: tuple[str, ...]
    held_ms: float
    """The median of how long ours was held shut while it was live; and the longest."""
    longest_held_ms: float
    windows_ms: float
    """The median of what lies between our read of the store and our exchange, of repairs that went live."""
    expected_share: float | None
    """Of repairs that went live, how many a write that was in flight must overwrite: see `expected_overwritten`."""
    kept_under_another: int
    """How often the gateway kept rows under the mtime of a version that it had not read."""

    @property
    def overwritten_share(self) -> float:
        return self.overwritten / self.published if self.published else 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"overwritten_share": round(self.overwritten_share, 4)}


Turn = tuple[str, int]
"""A row's key and the `startedAt` of its turn: never used twice."""


def count_overwritten(published: list[Turn], survived: set[Turn]) -> Counter[Turn]:
    """How often a repair of each turn was overwritten.

    Each was published on a row that said `running`. So of several of one turn all but the last were overwritten, and
    the last as well unless it `survived`: the gateway began the next turn on it, or the store says so in the end.
    """
    return Counter({turn: count - (turn in survived) for turn, count in Counter(published).items()})


@dataclass(frozen=True, slots=True)
class Line:
    """What the audit says of one attempt. `files_named`: the id that is in the name of the version it had a part in."""

    files_named: str
    turn: Turn
    outcome: str | None


def untrue_lines(versions: list[tuple[str, list[Turn]]], lines: list[Line]) -> list[str]:
    """What the audit says that is not so. `versions`: what went live, by its name, and the turns that it settles, as a
    comparison with the version before it tells.
    """
    live = {(name, turn) for name, turns in versions for turn in turns}
    wrong = [
        f"{line.outcome} of {line.turn}, which {line.files_named} did not settle"
        for line in lines
        if line.outcome in _WENT_LIVE and (line.files_named, line.turn) not in live
    ]
    said = Counter((line.files_named, line.turn) for line in lines if line.outcome in _MAY_HAVE_GONE_LIVE)
    return wrong + [f"{said[each]} attempts say that {each} went live" for each in live if said[each] != 1]


_WENT_LIVE = (Outcome.APPLIED, Outcome.OVERWRITTEN)
_MAY_HAVE_GONE_LIVE = (*_WENT_LIVE, Outcome.UNKNOWN)


def expected_overwritten(cycles: list[tuple[float, float]], windows: list[float]) -> float | None:
    """The share of repairs that go live while a gateway write is in flight, which nothing can help.

    A cycle of the gateway is idle, then in flight from its load to its rename. A repair goes live at any moment at
    least its own window after the last rename (it has read the store since then) and before the next.
    """
    live = lost = 0.0
    for window in windows:
        for idle, flight in cycles:
            room = max(0.0, idle + flight - window)
            live += room
            lost += min(flight, room)
    return lost / live if live else None


_COLUMNS = (
    ("store", lambda r: r.size),
    ("repair", lambda r: r.repairer),
    ("gateway", lambda r: r.pace),
    ("acknowledged writes", lambda r: f"{r.acked:,}"),
    ("lost", lambda r: f"{r.lost:,}"),
    ("reads", lambda r: f"{r.reads:,}"),
    ("unparsable", lambda r: f"{r.unparsable + r.missing:,}"),
    ("went back", lambda r: f"{r.backwards + r.strange:,}"),
    ("repairs published", lambda r: f"{r.published:,}"),
    ("of these together", lambda r: f"{r.together:,}"),
    ("crossed", lambda r: f"{r.crossed:,}"),
    ("overwritten", lambda r: f"{r.overwritten:,} ({r.overwritten_share:.0%})"),
    ("unnoticed", lambda r: f"{r.unnoticed:,}"),
    ("untrue", lambda r: f"{len(r.untrue):,}"),
    ("held shut, median and most", lambda r: f"{r.held_ms:.1f}, {r.longest_held_ms:.1f} ms" if r.held_ms else ""),
    ("seconds", lambda r: f"{r.seconds:.0f}"),
)


def table(results: list[Result]) -> str:
    """Markdown."""
    lines = [
        "| " + " | ".join(name for name, _ in _COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
    ]
    lines += ["| " + " | ".join(cell(result) for _, cell in _COLUMNS) + " |" for result in results]
    return "\n".join(lines)
