"""`clawmend explain`: one session, and all that its verdict rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.cli.exits import NOTHING_STUCK, SOMETHING_STUCK
from app.cli.looking import looker, only_one
from app.cli.options import Json, SessionId
from app.cli.screen import COLOURS, console, is_terminal, say, say_json, shown, table


def explain(name: SessionId, as_json: Json = False) -> int:
    """Show the verdict on one session and its evidence."""
    from app.settings import load_settings

    settings = load_settings()
    report = looker(settings)()
    from app.api.views import describe_finding
    from app.domain.model import Code

    finding = only_one(report, name)
    described = describe_finding(finding, settings.policy, report.finished_at or 0)
    verdict = finding.verdict
    if as_json:
        say_json(described)
    elif is_terminal():
        _draw(finding.key, str(verdict.code), verdict.reason, described)
    else:
        say(finding.key)
        say(f"  {verdict.code}: {verdict.reason}")
        say_json(described)
    return SOMETHING_STUCK if verdict.code is Code.STUCK else NOTHING_STUCK


def _draw(key: str, code: str, reason: str, described: dict[str, Any]) -> None:
    from rich.text import Text

    screen = console()
    screen.print(Text(shown(key), style="bold"))
    screen.print(Text.assemble((code, COLOURS.get(code, "")), ": ", shown(reason)))
    screen.print(table(("evidence", ""), _leaves(described["evidence"])))


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Everything that is known, by its place: `trajectories.0.end.status`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}")
    elif value is not None:
        yield path, value
