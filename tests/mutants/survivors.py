"""The mutants that no test can tell from the program, each with the reason (`survivors.toml`)."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.mutants.mutant import Mutant

LIST = Path(__file__).with_name("survivors.toml")


def listed() -> dict[Mutant, str]:
    """Every mutant on the list and why it survives."""
    found: dict[Mutant, str] = {}
    for entry in tomllib.loads(LIST.read_text(encoding="utf-8")).get("survivor", []):
        reason = str(entry.pop("reason")).strip()
        mutant = Mutant(**entry)
        if mutant in found or not reason:
            raise ValueError(f"twice on the list, or without a reason: {mutant}")
        found[mutant] = reason
    return found


def as_entry(mutant: Mutant, reason: str = "") -> str:
    """What would put `mutant` on the list."""
    lines = ["[[survivor]]"]
    for name in ("path", "function", "was", "now"):
        lines.append(f"{name} = {_quoted(getattr(mutant, name))}")
    if mutant.nth > 1:
        lines.append(f"nth = {mutant.nth}")
    return "\n".join([*lines, f"reason = {_quoted(reason)}", ""])


def _quoted(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    return f"'''{text}'''"
