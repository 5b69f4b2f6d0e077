"""What a pass found: immutable, swapped in whole, the only thing that API, CLI and metrics read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from app.domain.fingerprint import fingerprint_of
from app.domain.flapping import Flapping
from app.domain.model import Code, Evidence, FileIdentity, Verdict
from app.domain.signatures import KnownIssue, known_issue
from app.openclaw.paths import StoreTarget
from app.reconcile.hands import NOTHING_TO_WRITE, Hand


@dataclass(frozen=True, slots=True)
class Finding:
    """One session and its verdict."""

    target: StoreTarget
    evidence: Evidence
    verdict: Verdict
    hand: Hand = NOTHING_TO_WRITE
    """Who would settle it."""
    held_by: str | None = None
    """The undo that keeps the scheduler away from it."""
    put_off_until: int | None = None
    """Epoch ms: repairs of it failed, and the next one waits."""
    flapping: Flapping | None = None
    """It was settled and came back too often: the scheduler leaves it alone for a while."""

    @property
    def key(self) -> str:
        return self.evidence.row.key

    @property
    def session_id(self) -> str | None:
        return self.evidence.row.session_id

    @property
    def agent_id(self) -> str:
        return self.target.agent_id or self.evidence.row.agent_in_key or "main"

    @property
    def fingerprint(self) -> str:
        """What it was found to be, in 32 hex digits (app.domain.fingerprint)."""
        return fingerprint_of(self.evidence, self.verdict)

    @property
    def unwritable(self) -> str | None:
        """Why none of our hands can settle it; it is shown, and not tried."""
        return self.hand.why_not

    def age(self, now: int) -> float | None:
        """Seconds since its end, or since its start where it has none; None where it does not run, or nobody knows."""
        if self.verdict.code is Code.SETTLED:
            return None
        settlement = self.verdict.settlement
        since = settlement.ended_at if settlement else self.evidence.row.started_at
        return max(0, now - since) / 1000 if since is not None else None

    @property
    def known_issue(self) -> KnownIssue | None:
        """The issue of OpenClaw that makes it flap, where that can be told; None also where it does not."""
        return known_issue(self.evidence) if self.flapping else None

    @property
    def name(self) -> tuple[str, str]:
        """Which session this is, among all state dirs."""
        return self.target.path, self.key


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a store, or a whole state dir, could not be judged; `code` is one of docs/reference/errors.md."""

    code: str
    detail: str


@dataclass(frozen=True)
class StoreState:
    """One store, as the pass saw it. Without slots: it keeps its codes, from pass to pass where nothing has changed."""

    target: StoreTarget
    identity: FileIdentity | None = None
    problem: Problem | None = None
    """Why it is not judged; where it has findings, what is to be said of it besides."""
    open: tuple[Finding, ...] = ()
    """Sessions that are not settled."""
    settled: tuple[Finding, ...] = ()

    @cached_property
    def codes(self) -> frozenset[Code]:
        """The verdicts of those that are not settled: where one is not among them, nobody looks for it."""
        return frozenset(f.verdict.code for f in self.open)

    @property
    def findings(self) -> Iterator[Finding]:
        yield from self.open
        yield from self.settled


@dataclass(frozen=True, slots=True)
class Counts:
    """What was found in a pass, in numbers."""

    open: Counter[Code]
    """Sessions that are not settled, by their verdict."""
    flapping: int
    readable: int
    """Stores without a problem."""
    problems: Counter[str]
    """By their code."""


@dataclass(frozen=True)
class Report:
    """One pass. Times are epoch ms. Without slots: it keeps its counts."""

    number: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    stores: tuple[StoreState, ...] = ()
    state_problems: tuple[tuple[str, Problem], ...] = ()
    """State dirs of which not even the stores could be found."""
    bytes_read: int = 0

    def findings(self) -> Iterator[Finding]:
        for store in self.stores:
            yield from store.findings

    def open(self) -> Iterator[Finding]:
        """Those that are not settled: few, as a rule, among many."""
        for store in self.stores:
            yield from store.open

    @cached_property
    def counts(self) -> Counts:
        """Counted once, whoever asks how often."""
        return Counts(
            open=Counter(f.verdict.code for f in self.open()),
            flapping=sum(1 for f in self.open() if f.flapping),
            readable=sum(1 for s in self.stores if s.problem is None),
            problems=Counter(p.code for p in self.problems()),
        )

    def with_code(self, *codes: Code) -> list[Finding]:
        """Findings of these verdicts, the oldest first."""
        if Code.SETTLED in codes:
            among = self.findings()
        else:
            among = (f for store in self.stores if not store.codes.isdisjoint(codes) for f in store.open)
        return sorted((f for f in among if f.verdict.code in codes), key=age_order)

    def find(self, name: str) -> list[Finding]:
        """The sessions that answer to `name`: a sessionId or a key."""
        return [f for f in self.findings() if name in (f.key, f.session_id)]

    def problems(self) -> list[Problem]:
        return [p for _, p in self.state_problems] + [s.problem for s in self.stores if s.problem]


@dataclass(frozen=True, slots=True)
class Change:
    """A session that is found to be something else than in the report before."""

    finding: Finding
    """As it is now; of one that is gone, as it was."""
    was: Code | None
    """None: it was not there."""
    gone: bool = False
    flaps_now: bool = False
    """It flaps, and did not before."""

    @property
    def now(self) -> Code | None:
        """None: it is gone."""
        return None if self.gone else self.finding.verdict.code


def changes(before: Report, now: Report) -> Iterator[Change]:
    """Sessions whose verdict is another now, those that came running, that flap now or no more, and that are gone."""
    was = {f.name: f for f in before.findings()}
    for finding in now.findings():
        earlier = was.pop(finding.name, None)
        told = earlier.verdict.code if earlier else None
        flapped = earlier is not None and earlier.flapping is not None
        another = told != finding.verdict.code or flapped != (finding.flapping is not None)
        if another and not (earlier is None and finding.verdict.code is Code.SETTLED):
            yield Change(finding, told, flaps_now=finding.flapping is not None and not flapped)
    for finding in was.values():
        if finding.verdict.code is not Code.SETTLED:
            yield Change(finding, finding.verdict.code, gone=True)


def age_order(finding: Finding) -> tuple[int, str, str]:
    """Since when it has been over, or has run; then its name."""
    settlement = finding.verdict.settlement
    since = settlement.ended_at if settlement else finding.evidence.row.started_at
    return since or 0, finding.target.path, finding.key
