"""The lists of sessions: filtered, in pages, with a tag that changes when what was found changes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from app.api.conditions import Tagged
from app.api.views import describe_finding, describe_problems, describe_scan
from app.domain.model import Code, Policy
from app.reconcile.report import Finding, Report, age_order

_KEPT = 32
"""As many different answers are kept of one report."""

Words = tuple[str, bytes]
"""How a list was asked for: the path and the query string, as they came."""

Place = tuple[int, str, str]
"""Where a session stands in the order of a list."""


class BadCursor(ValueError):
    """It is none of ours."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which sessions are asked for. `min_age`: seconds."""

    codes: tuple[Code, ...]
    evidence: bool
    """With it, the oldest first; without it, by their names, and with what is wrong with the stores."""
    agent: str | None = None
    min_age: float | None = None
    limit: int | None = None
    cursor: str | None = None


class Lists:
    """The lists of one report, each session serialised once, whoever asks how often. Any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = -1
        self._made: OrderedDict[Query, Tagged] = OrderedDict()
        self._items: dict[tuple[tuple[str, str], bool], Item] = {}
        self._said: tuple[int, dict[Words, Tagged]] = (-1, {})
        """Of which report, and what was said. Replaced as one: it is read without the lock."""

    def said_before(self, report: Report, words: Words) -> Tagged | None:
        """What was said to the same words since `report`. Never waits."""
        number, said = self._said
        return said.get(words) if number == report.number else None

    def get(self, report: Report, policy: Policy, query: Query, words: Words | None = None) -> Tagged:
        """Of `query`, which is what `words` (where they are given) mean. Raises BadCursor."""
        after = _place_in(query.cursor)
        with self._lock:
            if self._number != report.number:
                self._number = report.number
                self._made, self._items, self._said = OrderedDict(), {}, (report.number, {})
            made = self._made.pop(query, None) or self._listing(report, policy, query, after)
            self._made[query] = made
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
            if words is not None:
                if len(self._said[1]) >= _KEPT:
                    self._said = report.number, {}
                self._said[1][words] = made
            return made

    def _listing(self, report: Report, policy: Policy, query: Query, after: Place | None) -> Tagged:
        now = report.finished_at or 0
        order = age_order if query.evidence else _name_order
        found = sorted((f for f in report.findings() if _wanted(f, query)), key=order)
        items = [(f, self._item(f, policy, now, evidence=query.evidence)) for f in found]
        if query.min_age is not None:
            items = [(f, item) for f, item in items if item.age is not None and item.age >= query.min_age]
        page = [(f, item) for f, item in items if after is None or order(f) > after]
        more = query.limit is not None and len(page) > query.limit
        page = page[: query.limit]
        answer: dict[str, Any] = {
            "count": len(items),
            "items": [orjson.Fragment(item.text) for _, item in page],
            "next": _cursor(order(page[-1][0])) if more else None,
            "scan": describe_scan(report),
        }
        said = hashlib.sha256(orjson.dumps([len(items), answer["next"]]))
        for _, item in page:
            said.update(item.digest)
        if not query.evidence:
            answer["problems"] = describe_problems(report)
            said.update(orjson.dumps(answer["problems"]))
        counted = {"x-stuck-count": str(report.counts.open[Code.STUCK])} if query.evidence else {}
        return Tagged(orjson.dumps(answer), f'W/"{said.hexdigest()[:32]}"', counted)

    def _item(self, finding: Finding, policy: Policy, now: int, *, evidence: bool) -> Item:
        name = finding.name, evidence
        if name not in self._items:
            self._items[name] = item_of(describe_finding(finding, policy, now, evidence=evidence))
        return self._items[name]


@dataclass(frozen=True, slots=True)
class Item:
    text: bytes
    digest: bytes
    """Of all that was found; not of what only the clock changes."""
    age: float | None


def item_of(item: dict[str, Any]) -> Item:
    """One session, described by `describe_finding`, as lists have it."""
    text, age = orjson.dumps(item), item.pop("stuck_for_seconds")
    del item["reason"]  # it tells ages too, and nothing else that is not in the fingerprint
    if "evidence" in item:
        calm = item["evidence"]["calm_seconds"] is not None
        evidence = {**item["evidence"], "watched_seconds": None, "calm_seconds": calm}
        item["evidence"] = {**evidence, "liveness": {**evidence["liveness"], "asked_at": None}}
    return Item(text, hashlib.sha256(orjson.dumps(item)).digest(), age)


def _wanted(finding: Finding, query: Query) -> bool:
    return finding.verdict.code in query.codes and query.agent in (None, finding.agent_id)


def _name_order(finding: Finding) -> Place:
    return 0, *finding.name


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode()


def _place_in(cursor: str | None) -> Place | None:
    """Raises BadCursor."""
    if cursor is None:
        return None
    try:
        match orjson.loads(base64.urlsafe_b64decode(cursor.encode())):
            case [int(since), str(path), str(key)]:
                return since, path, key
    except (binascii.Error, orjson.JSONDecodeError, UnicodeEncodeError):
        pass
    raise BadCursor
