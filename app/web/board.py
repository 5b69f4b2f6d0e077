"""What the page shows of a report: its counts, and the sessions in the order in which a person wants them. Pure."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.model import Code
from app.reconcile.report import Finding, Report, age_order
from app.web.words import MEANING

PAGE = 50
"""As many sessions stand on one page."""
NEEDS_A_LOOK = "look"
ALL = "all"
LOOK_CODES = tuple(code for code in MEANING if code not in (Code.SETTLED, Code.WORKING, Code.WAITING))
_RANK = {code: rank for rank, code in enumerate(MEANING)}
_SALT = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions; `show` is NEEDS_A_LOOK, ALL or a verdict. Pages count from 1."""

    show: str = NEEDS_A_LOOK
    agent: str = ""
    words: str = ""
    page: int = 1

    @property
    def codes(self) -> tuple[Code, ...]:
        if self.show == NEEDS_A_LOOK:
            return LOOK_CODES
        return tuple(Code) if self.show == ALL else (Code(self.show),)


@dataclass(frozen=True, slots=True)
class Line:
    """One session of the list. `since`: since when (epoch ms) it has been over, or has run; None: it does not run."""

    reference: str
    finding: Finding
    since: int | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page of the list; `found` on all pages."""

    lines: tuple[Line, ...]
    found: int
    page: int
    pages: int


@dataclass(frozen=True, slots=True)
class Board:
    """One report, ready to be looked at."""

    report: Report
    lines: tuple[Line, ...] = ()
    counts: Mapping[Code, int] = field(default_factory=Counter)
    agents: tuple[str, ...] = ()
    by_reference: Mapping[str, Line] = field(default_factory=dict)

    @property
    def stuck(self) -> int:
        return self.counts[Code.STUCK]

    @property
    def stuck_since(self) -> int | None:
        """Since when the oldest one waits (epoch ms)."""
        return self.lines[0].since if self.stuck else None

    @property
    def needs_a_look(self) -> int:
        return sum(self.counts[code] for code in LOOK_CODES)

    @property
    def state(self) -> str:
        """Changes when the counts do, or what is wrong with the stores."""
        said = repr((sorted(self.counts.items()), self.agents, self.report.problems(), self.report.state_problems))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def sheet(self, wanted: Wanted) -> Sheet:
        """The page that is wanted, or the last one there is."""
        codes, words = frozenset(wanted.codes), wanted.words.strip().lower()
        lines = [line for line in self.lines if _fits(line.finding, codes, wanted.agent, words)]
        pages = max(1, -(-len(lines) // PAGE))
        page = min(max(1, wanted.page), pages)
        return Sheet(tuple(lines[(page - 1) * PAGE : page * PAGE]), len(lines), page, pages)


def board_of(report: Report) -> Board:
    """All of a report, sorted: the stuck first, and of each verdict the oldest."""
    findings = sorted(report.findings(), key=lambda f: (_RANK[f.verdict.code], *age_order(f)))
    lines = tuple(Line(reference_of(f.target.path, f.key), f, _since(f)) for f in findings)
    return Board(
        report,
        lines,
        Counter(f.verdict.code for f in findings),
        tuple(sorted({f.agent_id for f in findings})),
        {line.reference: line for line in lines},
    )


def reference_of(store_path: str, key: str) -> str:
    """What stands for a session in the addresses of the console, for the life of this process: a key may hold a
    phone number, and a browser remembers addresses.
    """
    name = f"{store_path}\0{key}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, key=_SALT, digest_size=12).hexdigest()


def _since(finding: Finding) -> int | None:
    if finding.verdict.code is Code.SETTLED:
        return None
    settlement = finding.verdict.settlement
    return settlement.ended_at if settlement else finding.evidence.row.started_at


def _fits(finding: Finding, codes: frozenset[Code], agent: str, words: str) -> bool:
    if finding.verdict.code not in codes or agent not in ("", finding.agent_id):
        return False
    return not words or words in finding.key.lower() or words in (finding.session_id or "").lower()
