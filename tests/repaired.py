"""A repair of the stuck recording, decided at this moment, and the looks at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.audit.models import Attempt
from app.reconcile.asking import Ask
from app.reconcile.looks import Looker
from app.reconcile.reconciler import Reconciler
from tests.world import World, finding_of, run_pass


class Repaired:
    """A repair of a person, decided at this moment; its looks are taken by hand."""

    def __init__(self, world: World) -> None:
        world.stuck()
        self.world = world
        self.before = world.store().read_bytes()
        self.reconciler: Reconciler = world.reconciler(auto_repair=False)
        finding = finding_of(run_pass(self.reconciler))
        self.attempt = self.reconciler.repairer.settle(finding, Ask("cli", "a person", "it is over"))
        self.after = world.store().read_bytes()
        self.at = world.clock.now()
        self.looker = Looker(world.clock, self.reconciler.audit, 1 << 30)

    def was(self, **columns: Any) -> None:
        """Let the audit say something else of the attempt."""
        self.reconciler.audit.change(self.attempt.id, **columns)

    def now_is(self) -> Attempt:
        found = self.reconciler.audit.get(self.attempt.id)
        assert found is not None
        return found

    def look(self, after: float) -> list[Attempt]:
        self.world.clock.advance(after - (self.world.clock.now() - self.at) / 1000)
        return self.looker.take_due()

    def beside(self, name: str, data: bytes) -> Path:
        """A file as this attempt would have left it."""
        path = self.world.sessions() / f".clawmend-{self.attempt.id}{name}"
        path.write_bytes(data)
        return path

    def left_open(self) -> Attempt:
        """As a crash would leave it, then resolved."""
        self.was(outcome=None, outcome_reason=None, mode=None, decided_at=None)
        assert self.looker.resolve_left_open() == 1
        return self.now_is()
