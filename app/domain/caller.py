"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """From the least to the most: each one has those before it in it (docs/decisions/0014)."""

    READ = "read"
    """Look at sessions, their evidence, and what was done to them."""
    REPAIR = "repair"
    """Settle what is proven, and take a repair back."""
    ADMIN = "admin"
    """Overrule the evidence, by settling what is not proven, and the breaker, by closing it."""

    @property
    def all_in_it(self) -> frozenset[Scope]:
        order = tuple(Scope)
        return frozenset(order[: order.index(self) + 1])


@dataclass(frozen=True, slots=True)
class Caller:
    """One who asks; `name` goes into the audit as the actor of what is done for them."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes


NOBODY = Caller("nobody", frozenset())
"""Who has shown nothing that is known here."""
SCHEDULER = "clawmend"
"""The actor of what nobody asked for."""
INSTALLATION = Caller("api", Scope.ADMIN.all_in_it)
"""Who has the token of the installation; everybody, where CLAWMEND_AUTH is off."""
