"""The settings in .env.example and docs/reference/settings.md are those that the program has."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from app.settings import PREFIX, Settings, load_settings
from tests.unit.test_docs import table, text

COMPUTED = {
    "state_dir",
    "database_url",
    "allowed_hosts",
    "cors_origins",
    "webhook_urls",
    "webhook_secret",
    "api_token",
    "gateway_token",
}
"""Settings whose default is none, or is made at the start."""


def setting_name(field: str) -> str:
    return f"{PREFIX}{field}".upper()


def example_lines() -> dict[str, tuple[str, str]]:
    """Per setting of .env.example: the comment above it, and its value."""
    lines = text(".env.example").splitlines()
    found = {}
    for above, line in pairwise(lines):
        if match := re.fullmatch(r"#(CLAWMEND_[A-Z_]+)=(.*)", line):
            found[match[1]] = (above, match[2])
    return found


def test_the_example_file_names_every_setting_and_no_other_each_with_one_line_of_comment() -> None:
    lines = example_lines()
    assert set(lines) == {setting_name(f) for f in Settings.model_fields}
    assert all(re.fullmatch(r"# .{10,}\.", comment) for comment, _ in lines.values())


def test_the_example_file_with_its_marks_taken_off_says_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in example_lines():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, (_, value) in example_lines().items()))
    monkeypatch.chdir(tmp_path)

    assert load_settings() == Settings()
    empty = {name for name, (_, value) in example_lines().items() if not value}
    assert empty == {setting_name(f) for f in COMPUTED}, "every other default is shown"


def test_the_settings_page_names_every_setting_once() -> None:
    named = [row[0] for row in table("docs/reference/settings.md", "setting")]
    assert sorted(named) == sorted(setting_name(f) for f in Settings.model_fields)


@pytest.mark.parametrize("field", sorted(set(Settings.model_fields) - COMPUTED))
def test_the_settings_page_gives_each_default(field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (row,) = (r for r in table("docs/reference/settings.md", "setting") if r[0] == setting_name(field))
    monkeypatch.setenv(setting_name(field), row[1])
    monkeypatch.chdir(tmp_path)
    assert getattr(load_settings(), field) == Settings.model_fields[field].default


def bounds(field: FieldInfo) -> tuple[float | None, float | None, float | None]:
    def of(name: str) -> float | None:
        return next((getattr(m, name) for m in field.metadata if getattr(m, name, None) is not None), None)

    return of("ge"), of("gt"), of("le")


@pytest.mark.parametrize("field", sorted(n for n, f in Settings.model_fields.items() if any(bounds(f))))
def test_the_settings_page_gives_each_range(field: str) -> None:
    (row,) = (r for r in table("docs/reference/settings.md", "setting") if r[0] == setting_name(field))
    match = re.fullmatch(r"(over )?([\d.]+)(?: to ([\d.]+)| or more)", row[2])
    assert match, row[2]
    least, most = float(match[2]), float(match[3]) if match[3] else None
    assert (None if match[1] else least, least if match[1] else None, most) == bounds(Settings.model_fields[field])
