"""What another policy would have done with evidence that was recorded. Pure: sightings and a policy in, a course out.

A sighting is a session at one moment. From its end to that moment nothing followed, so for every moment between the two
the same verdict may be asked for, except that what only the moment itself could tell (the gateway's answers, locks,
other sessions at work) is taken to have been so all the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.domain.model import Code, Evidence, Policy, Verdict
from app.domain.verdict import judge

_OVER = (Code.STUCK, Code.ENDING)


class Change(StrEnum):
    """What another policy makes different; docs/how-to/try-another-policy.md explains each."""

    EARLIER = "earlier"
    LATER = "later"
    SAME = "same"
    ADDITIONAL = "additional"
    NOT_AT_ALL = "not at all"
    NEITHER = "neither"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One session, as its evidence was recorded once, and what is known to have come of it. Times are epoch ms."""

    evidence: Evidence
    at: int
    policy: Policy
    """By which it was judged then."""
    code: Code | None = None
    """What it was found to be; None: nobody judged it."""
    acted_at: int | None = None
    """When it was settled, or that was tried; None: nobody did."""
    by_person: bool = False
    followed_at: int | None = None
    """When its turn went on all the same: the end was not the last."""
    taken_back: bool = False
    """A person has undone what was settled."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One sighting under another policy."""

    change: Change
    was_at: int | None
    """When it was settled in fact, or would have been by the policy of then."""
    would_be_at: int | None
    why: str
    """Why it would be settled then, or would not be."""
    was_wrong: bool = False
    """In fact it was settled though its turn went on, or taken back by a person."""
    would_be_wrong: bool = False
    """The same, of the other policy."""

    @property
    def seconds(self) -> float | None:
        """How much later (below zero: earlier) than in fact."""
        if self.was_at is None or self.would_be_at is None:
            return None
        return (self.would_be_at - self.was_at) / 1000


def replay(seen: Sighting, policy: Policy) -> Replayed:
    """What `policy` would have done, compared with what was done."""
    then = judge(seen.evidence, seen.policy, seen.at)
    if seen.code is not None and not _alike(then.code, seen.code):
        why = f"it was found {seen.code}, which what was recorded does not show"
        return Replayed(Change.CANNOT_TELL, seen.acted_at, None, why)
    other = judge(seen.evidence, policy, seen.at)
    if seen.acted_at is None:
        was_at = _stands(_due(then), seen)
        late = 0
    else:
        was_at = seen.acted_at
        late = 0 if seen.by_person else max(0, seen.acted_at - (_due(then) or seen.acted_at))
    due_at = _due(other)
    planned = None if due_at is None else due_at + late
    would_be_at = _stands(planned, seen)
    overtaken = planned is not None and would_be_at is None
    return Replayed(
        _change(was_at, would_be_at),
        was_at,
        would_be_at,
        "another attempt of its turn followed before" if overtaken else other.reason,
        was_wrong=was_at is not None and _is_wrong(seen),
        would_be_wrong=would_be_at is not None and _is_wrong(seen),
    )


def totals(replayed: Iterable[Replayed]) -> Counter[str]:
    """How many of each Change, and under `wrong` and `was_wrong` how many would be, and were."""
    counted: Counter[str] = Counter()
    for one in replayed:
        counted[one.change] += 1
        counted["wrong"] += one.would_be_wrong
        counted["was_wrong"] += one.was_wrong
    return counted


def _alike(found: Code, recorded: Code) -> bool:
    """Whether both say the same of the turn: between the two of _OVER there is only the time."""
    return found == recorded or (found in _OVER and recorded in _OVER)


def _due(verdict: Verdict) -> int | None:
    return verdict.due_at if verdict.code in _OVER else None


def _stands(moment: int | None, seen: Sighting) -> int | None:
    """`moment`, unless the turn had gone on by then: nobody settles what is at work."""
    if moment is None or (seen.followed_at is not None and seen.followed_at <= moment):
        return None
    return moment


def _is_wrong(seen: Sighting) -> bool:
    return seen.followed_at is not None or seen.taken_back


def _change(was_at: int | None, would_be_at: int | None) -> Change:
    if was_at is None:
        return Change.NEITHER if would_be_at is None else Change.ADDITIONAL
    if would_be_at is None:
        return Change.NOT_AT_ALL
    if would_be_at == was_at:
        return Change.SAME
    return Change.EARLIER if would_be_at < was_at else Change.LATER
