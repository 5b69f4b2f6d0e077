"""A module that is run as a program of its own: what is heard of it. The rest is in test_database_process."""

from __future__ import annotations

import pytest

from app.own_process import run_module


def test_what_it_complains_of_comes_out_as_our_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_module("app.there_is_none", b"").returncode == 1
    assert "app.there_is_none" in capfd.readouterr().err


def test_of_one_that_is_to_be_quiet_nothing_comes_out(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_module("app.there_is_none", b"", quiet=True).returncode == 1
    assert capfd.readouterr() == ("", "")
