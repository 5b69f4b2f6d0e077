from __future__ import annotations

import pytest

from app.domain.model import Gateway
from app.domain.stand import Stand, stand

ABSENT, RUNNING, UNKNOWN = Gateway("absent"), Gateway("running", 1), Gateway("unknown", None, "a container?")


def test_a_gateway_that_is_provably_gone_is_stopped() -> None:
    assert stand(ABSENT, None, None, live_allowed=False) == Stand(False)


@pytest.mark.parametrize("gateway", [RUNNING, UNKNOWN, ABSENT])
def test_one_that_says_that_nothing_runs_may_be_written_beside(gateway: Gateway) -> None:
    assert stand(gateway, False, (), live_allowed=True) == Stand(True)
    assert stand(gateway, False, (), live_allowed=False).code == "gateway_live"


@pytest.mark.parametrize("gateway", [RUNNING, UNKNOWN, ABSENT])
@pytest.mark.parametrize(("active", "runs"), [(True, None), (True, ()), (False, ("r",)), (None, ("r",))])
def test_any_word_of_a_run_is_a_veto(gateway: Gateway, active: bool | None, runs: tuple[str, ...] | None) -> None:
    said = stand(gateway, active, runs, live_allowed=True)
    assert (said.live, said.code) == (None, "gateway_active")


@pytest.mark.parametrize(
    ("gateway", "active", "runs"),
    [
        (RUNNING, None, None),
        (UNKNOWN, None, None),
        (RUNNING, False, None),
        (RUNNING, None, ()),
        (ABSENT, False, None),
        (ABSENT, None, ()),
    ],
)
def test_half_a_word_is_none(gateway: Gateway, active: bool | None, runs: tuple[str, ...] | None) -> None:
    said = stand(gateway, active, runs, live_allowed=True)
    assert (said.live, said.code) == (None, "gateway_unsure")


def test_why_nobody_knows_is_said() -> None:
    assert stand(UNKNOWN, None, None, live_allowed=True).detail == "the gateway may run: a container?"
    assert stand(RUNNING, None, None, live_allowed=True).detail == "the gateway does not say that nothing runs"
