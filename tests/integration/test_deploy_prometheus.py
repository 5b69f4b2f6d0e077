"""The alert rules and the dashboard are about metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FOLDER = TOP / "deploy" / "prometheus"
OTHERS = {"up", "process_resident_memory_bytes"}


def documented() -> dict[str, set[str]]:
    """The metrics of docs/reference/metrics.md, which a test holds against those that are shown, and their labels."""
    rows = re.findall(
        r"^\| `(clawmend_\w+)` \| ([^|]*)\|", (TOP / "docs" / "reference" / "metrics.md").read_text(), re.MULTILINE
    )
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def selectors(text: str) -> list[tuple[str, set[str]]]:
    """Every metric that an expression names, with the labels in its braces."""
    found = re.findall(r"\b(clawmend_\w+|up|process_\w+)\b(?:\{([^}]*)\})?", text)
    return [(name, set(re.findall(r"(\w+)\s*[=!]", braces))) for name, braces in found]


def alert_expressions() -> list[str]:
    return re.findall(r"^\s+expr: (.+)$", (FOLDER / "alerts.yml").read_text(), re.MULTILINE)


def panel_expressions() -> list[str]:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expressions", [alert_expressions, panel_expressions])
def test_only_metrics_and_labels_that_are_documented_are_asked_for(expressions: object) -> None:
    known = documented()
    asked = [each for expression in expressions() for each in selectors(expression)]  # type: ignore[operator]
    assert len(asked) > 7
    for name, labels in asked:
        if name not in OTHERS:
            assert labels - {"instance", "job"} <= known[name], name


def test_every_metric_of_ours_has_its_place_on_the_dashboard() -> None:
    shown = {name for expression in panel_expressions() for name, _ in selectors(expression)}
    assert set(documented()) - shown <= {"clawmend_info", "clawmend_stores", "clawmend_put_off_sessions"}


def test_every_panel_has_a_place_and_a_title_of_its_own() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert len(set(places)) == len({p["id"] for p in board["panels"]}) == len({p["title"] for p in board["panels"]})


def test_the_page_on_alerting_has_every_alert() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (TOP / "docs" / "how-to" / "alerting.md").read_text(), re.MULTILINE)
    assert rows == re.findall(r"alert: (\w+)", (FOLDER / "alerts.yml").read_text())


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    """`alerts_test.yml` has a case for and against each; Prometheus's own tool runs them."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    names = re.findall(r"alert: (\w+)", (FOLDER / "alerts.yml").read_text())
    tested = (FOLDER / "alerts_test.yml").read_text()
    for name in names:
        assert tested.count(f"alertname: {name}\n") == 2, name
    for words in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run([tool, *words], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
