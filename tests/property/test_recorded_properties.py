"""Evidence that was written down and read back says the same as before."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from app.domain.describe import LATEST, describe_evidence
from app.domain.model import (
    Claim,
    End,
    Event,
    Evidence,
    FileIdentity,
    Gateway,
    Liveness,
    Policy,
    Row,
    Trail,
    TranscriptLock,
)
from app.domain.recorded import epoch_ms, evidence_of, policy_of

moments = st.integers(0, LATEST)
words = st.text(max_size=20)
maybe_words = st.none() | words
flags = st.booleans()
files = st.builds(
    FileIdentity, st.just(1), st.integers(0, 2**63), st.integers(0, 2**40), moments.map(lambda m: m * 10**6)
)
events = st.builds(Event, words, moments, maybe_words)
ends = st.builds(
    End,
    ts=moments,
    status=maybe_words,
    aborted=flags,
    external_abort=flags,
    timed_out=flags,
    compaction=flags,
    run_id=maybe_words,
    error=maybe_words,
)
trails = st.builds(
    Trail,
    path=words,
    session_id=words,
    identity=files,
    events=st.lists(events, max_size=3).map(tuple),
    end=st.none() | ends,
    torn=flags,
    full=flags,
    problem=maybe_words,
    registered=flags,
)
rows = st.builds(
    Row,
    key=words,
    session_id=maybe_words,
    status=maybe_words,
    started_at=st.none() | moments,
    ended_at=st.none() | moments,
    updated_at=st.none() | moments,
    family=st.lists(words, max_size=2).map(tuple),
    recovery=st.lists(words, max_size=2).map(tuple),
    guards=st.lists(words, max_size=2).map(tuple),
)
seconds = st.floats(0, 1e9, allow_nan=False)
evidences = st.builds(
    Evidence,
    row=rows,
    trails=st.lists(trails, max_size=2).map(tuple),
    trail_problem=maybe_words,
    transcript=st.none() | files,
    lock=st.none() | st.builds(TranscriptLock, st.none() | st.integers(1, 2**22), st.none() | flags),
    children=st.lists(words, max_size=2).map(tuple),
    gateway=st.builds(Gateway, st.sampled_from(["running", "absent", "unknown"]), st.none() | moments, words),
    liveness=st.builds(
        Liveness,
        active=st.none() | flags,
        idle=flags,
        asked_at=st.none() | moments,
        why=words,
        by_plugin=flags,
        runs=st.none() | st.lists(words, max_size=2).map(tuple),
    ),
    claims=st.lists(st.builds(Claim, words, flags), max_size=2).map(tuple),
    claims_problem=maybe_words,
    watched=seconds,
    calm=st.none() | seconds | st.just(math.inf),
)
policies = st.builds(Policy, stale_after=seconds, error_quiet=seconds, compaction_quiet=seconds)


@given(evidences, policies)
def test_evidence_that_was_written_down_and_read_back_is_described_the_same(evidence: Evidence, policy: Policy) -> None:
    described = describe_evidence(evidence, policy)
    written = json.loads(json.dumps(described))

    read = evidence_of(written, evidence.row.key, evidence.row.session_id)

    assert describe_evidence(read, policy_of(written, Policy())) == described


@given(moments)
def test_every_moment_that_can_be_said_is_read_back_to_the_millisecond(moment: int) -> None:
    from app.domain.describe import rfc3339

    assert epoch_ms(rfc3339(moment)) == moment
