"""No step of the repair is there for nothing: without it, a test fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.ablation import ABLATIONS, Ablation
from tests.faults.database_ablation import DATABASE_ABLATIONS

TOP = Path(__file__).resolve().parents[2]
EVERY_ABLATION = (*ABLATIONS, *DATABASE_ABLATIONS)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, to take steps out of."""
    place = tmp_path_factory.mktemp("without")
    for part in ("app", "alembic", "tests"):
        shutil.copytree(TOP / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "pyproject.toml", place)
    yield place
    shutil.rmtree(place)


def run(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    # Where pytest sees a CI it writes every difference out whole.
    desk = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS")}
    environment = {**desk, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "--no-header", "--tb=line", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_with_every_step_all_these_tests_pass(copy: Path) -> None:
    result = run(copy, *sorted({a.caught_by for a in EVERY_ABLATION}))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("ablation", EVERY_ABLATION, ids=lambda a: a.step)
def test_without_this_step_its_test_fails(copy: Path, ablation: Ablation) -> None:
    module = copy / ablation.module
    whole = module.read_text()
    assert whole.count(ablation.text) == 1, "the step is there, once"
    module.write_text(whole.replace(ablation.text, ablation.instead))
    try:
        result = run(copy, ablation.caught_by)
    finally:
        module.write_text(whole)
    died_of_it = result.returncode < 0 and ablation.step == "a signal that nobody dies of"
    assert died_of_it or (result.returncode == 1 and f"FAILED {ablation.caught_by}" in result.stdout), result.stdout
