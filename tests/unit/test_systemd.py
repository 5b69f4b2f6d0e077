"""What is told to systemd, and when."""

from __future__ import annotations

import pytest

from app.systemd import Manager, manager_of, words

OURS = 4711
WATCHED = Manager("/run/notify", 60.0)


def said(manager: Manager = WATCHED, **over: object) -> set[str]:
    now = {"was_ready": True, "passed": True, "idle": 0.0, "pause": 5.0, "status": "well"}
    return set(words(manager, **{**now, **over}))  # type: ignore[arg-type]


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "x"}])
def test_without_an_address_that_we_can_speak_to_nobody_is_told(env: dict[str, str]) -> None:
    assert manager_of({**env, "WATCHDOG_USEC": "1000000"}, OURS) is None


def test_an_address_with_an_at_sign_is_in_the_abstract_namespace() -> None:
    assert manager_of({"NOTIFY_SOCKET": "@a/b"}, OURS) == Manager("\0a/b", None)
    assert manager_of({"NOTIFY_SOCKET": "/run/x"}, OURS) == Manager("/run/x", None)


@pytest.mark.parametrize(
    ("env", "watchdog"),
    [
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(OURS)}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_only_where_it_names_our_process(env: dict[str, str], watchdog: float | None) -> None:
    assert manager_of({"NOTIFY_SOCKET": "/run/x", **env}, OURS) == Manager("/run/x", watchdog)


@pytest.mark.parametrize("watchdog", [0.3, 3.0, 120.0])
def test_two_words_may_be_lost_before_the_watchdog_bites(watchdog: float) -> None:
    assert Manager("/run/x", watchdog).tick * 3 <= watchdog


def test_ready_is_said_once_and_not_before_a_pass_has_ended_well() -> None:
    assert "READY=1" not in said(was_ready=False, passed=False)
    assert "READY=1" in said(was_ready=False)
    assert "READY=1" not in said()


def test_a_first_pass_that_gets_on_asks_for_more_time_and_one_that_hangs_does_not() -> None:
    assert "EXTEND_TIMEOUT_USEC=65000000" in said(was_ready=False, passed=False, idle=64.0)
    assert said(was_ready=False, passed=False, idle=66.0) == {"STATUS=well"}


def test_what_has_made_no_progress_for_the_watchdogs_time_is_not_called_alive() -> None:
    assert "WATCHDOG=1" in said(idle=64.0)
    assert said(idle=66.0) == {"STATUS=well"}


def test_the_pause_between_two_passes_is_not_held_against_it() -> None:
    assert "WATCHDOG=1" in said(idle=3_600.0, pause=3_600.0)
