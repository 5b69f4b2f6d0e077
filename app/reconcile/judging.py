"""One row that runs: its evidence gathered, from the disk, the processes and the gateway, and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from app.clock import Clock
from app.domain.model import FORCEABLE, RUNNING, Code, Evidence, Gateway, Row
from app.domain.verdict import judge
from app.openclaw.paths import StateDir, StoreTarget, state_dir_of
from app.openclaw.place import OpenPlaces
from app.openclaw.processes import Bystanders, running_gateway
from app.reconcile.hands import Hand, hand_for
from app.reconcile.report import Finding, StoreState
from app.reconcile.stores import Stores
from app.reconcile.watch import Watches
from app.settings import Settings

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks

Children = Mapping[tuple[str, str], Sequence[str]]
"""Who works for whom: by state dir and key of the parent, the keys that run or wait to run."""
OVER = (Code.STUCK, Code.ENDING)
AT_ONCE = 64
"""Rows whose folders and files are open at once, and whose tails the disk brings at once."""


class Judging:
    """Looks for each gateway once a pass. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        env: Mapping[str, str],
        stores: Stores,
        *,
        gateway_of: Callable[[StateDir], Gateway] | None,
        links: GatewayLinks | None,
    ) -> None:
        """`gateway_of`: how to find the gateway of a state dir; by default among the processes of this machine.
        `links` to ask the gateways by; None asks nobody.
        """
        self._settings = settings
        self._policy = settings.policy
        self._clock = clock
        self._env = env
        self._stores = stores
        self._links = links
        self._gateway_now = gateway_of or running_gateway
        self._gateway_in_a_pass = gateway_of or partial(running_gateway, bystanders=Bystanders(clock))
        self.watches = Watches(clock)
        self.gateways: dict[str, Gateway] = {}
        """By state dir, as far as one was asked for since this pass began."""

    def gateway(self, state_dir: str, *, now: bool = False) -> Gateway:
        """The gateway of a state dir, looked for once a pass; `now` looks at every process."""
        if state_dir not in self.gateways:
            look = self._gateway_now if now else self._gateway_in_a_pass
            try:
                self.gateways[state_dir] = look(state_dir_of(state_dir, self._env))
            except OSError as error:
                self.gateways[state_dir] = Gateway("unknown", None, f"processes cannot be listed: {error.strerror}")
        return self.gateways[state_dir]

    def judged(self, target: StoreTarget, rows: Sequence[Row], children: Children) -> list[Finding]:
        """These rows of one store that run, as a pass finds them."""
        found: list[Finding] = []
        for at in range(0, len(rows), AT_ONCE):
            with OpenPlaces() as places:
                self._stores.ask_ahead(target, rows[at : at + AT_ONCE], places)
                found += (self._judge(target, row, children, places) for row in rows[at : at + AT_ONCE])
        return found

    def judged_now(self, target: StoreTarget, row: Row, children: Children) -> Finding:
        """One row, of which the store has just been read; its gateway is asked, and waited for."""
        with OpenPlaces() as places:
            return self._judge(target, row, children, places, ask_now=True)

    def calmed(self, store: StoreState) -> StoreState:
        """`store`, whose sessions that are over are judged again with what this pass knows of the others."""
        calm, now = self.watches.calm(store.target.state_dir), self._clock.now()

        def again(finding: Finding) -> Finding:
            evidence = replace(finding.evidence, calm=calm)
            verdict = judge(evidence, self._policy, now)
            due_at = self.watches.steady(finding.name, verdict.due_at, now)
            return replace(finding, evidence=evidence, verdict=replace(verdict, due_at=due_at))

        return replace(store, open=tuple(again(f) if f.verdict.code in OVER else f for f in store.open))

    def hand_now(self, target: StoreTarget, row: Row, agent_id: str) -> Hand:
        """Who can write to `row` at this moment, whatever it is found to be."""
        evidence = Evidence(row, gateway=self.gateway(target.state_dir, now=True))
        if self._links is not None:
            evidence = replace(evidence, liveness=self._links.ask(target, row, agent_id))
        return self._hand(target, evidence, asked=True)

    def _judge(
        self, target: StoreTarget, row: Row, children: Children, places: OpenPlaces, *, ask_now: bool = False
    ) -> Finding:
        """Gather the evidence for one running row and judge it; `ask_now` waits for the gateway's answer."""
        now = self._clock.now()
        if row.problem or row.status != RUNNING:
            evidence = Evidence(row)
            return Finding(target, evidence, judge(evidence, self._policy, now))
        evidence = self._stores.evidence(target, row, places)
        watched, witnessed = self.watches.watched((target.path, row.key), evidence)
        evidence = replace(
            evidence,
            children=tuple(k for k in children.get((target.state_dir, row.key), ()) if k != row.key),
            gateway=self.gateway(target.state_dir, now=ask_now),
            watched=watched,
            witnessed=witnessed,
            calm=self.watches.calm(target.state_dir),
        )
        finding = Finding(target, evidence, judge(evidence, self._policy, now))
        if finding.verdict.code not in FORCEABLE:
            return finding
        asked = ask_now or finding.verdict.code in OVER
        if asked:
            evidence = self._stores.claimed(target, evidence)
            finding = Finding(target, evidence, judge(evidence, self._policy, now))
            if finding.verdict.code not in FORCEABLE:
                return finding
        if self._links is not None and asked:
            ask = self._links.ask if ask_now else self._links.remembered
            evidence = replace(evidence, liveness=ask(target, row, finding.agent_id))
            finding = Finding(target, evidence, judge(evidence, self._policy, self._clock.now()))
            if finding.verdict.code not in FORCEABLE:
                return finding
        return replace(finding, hand=self._hand(target, evidence, asked=asked))

    def _hand(self, target: StoreTarget, evidence: Evidence, *, asked: bool) -> Hand:
        known = self._stores.known(target.path)
        return hand_for(
            target,
            evidence,
            self._settings.database_writes,
            known_schema=known is not None and known.doubt is None,
            asked=asked,
        )
