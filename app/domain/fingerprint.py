"""What a finding was when somebody looked at it: a request that names it is carried out only while it still is that."""

from __future__ import annotations

import hashlib

from app.domain.model import Evidence, Verdict


def fingerprint_of(evidence: Evidence, verdict: Verdict) -> str:
    """32 hex digits that change with the verdict, with what it would be settled to, and with what both rest on.

    They do not change with what only the clock changes, nor with the gateway's word, which a repair asks for anew:
    where that matters, it makes another verdict.
    """
    rests_on = (
        evidence.fingerprint,
        evidence.lock,
        sorted(evidence.children),
        (evidence.gateway.state, evidence.gateway.since),
        evidence.standing_claims,
        evidence.claims_problem,
        evidence.trail_problem,
        [trail.problem for trail in evidence.trails],
        (verdict.code, verdict.settlement),
    )
    return hashlib.blake2b(repr(rests_on).encode(), digest_size=16).hexdigest()
