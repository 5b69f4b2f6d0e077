"""What a pass saw where nothing had to be looked at: until a notice comes, the next one sees the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.domain.model import Gateway
from app.openclaw.paths import StoreTarget
from app.reconcile.report import StoreState
from app.reconcile.resting import Spell


@dataclass(frozen=True, slots=True)
class Unmoved:
    """A pass that believed the notices in all, and what it saw."""

    targets: list[StoreTarget]
    gateways: Mapping[str, Gateway]
    """By state dir, as far as one was asked for."""
    spell: Spell
    stores: list[StoreState]
    at_work: frozenset[str]
    """State dirs in which somebody is at work."""

    def still(
        self, targets: list[StoreTarget], now: int, monotonic: float, gateway_of: Callable[[str], Gateway]
    ) -> bool:
        """Whether a pass of which no notice tells anything sees the same."""
        if targets != self.targets or not self.spell.lasts(now, monotonic):
            return False
        return all(gateway_of(state_dir) == gateway for state_dir, gateway in self.gateways.items())
