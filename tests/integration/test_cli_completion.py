"""Completion in a real bash: the script that is shown completes commands, subcommands, options and their values."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import TOP

BASH = shutil.which("bash")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a command `clawmend` in its `bin`, as an installation makes one."""
    if BASH is None:
        pytest.skip("this machine has no bash")
    command = tmp_path / "bin" / "clawmend"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom app.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return tmp_path


def in_bash(home: Path, script: str) -> str:
    done = subprocess.run(
        [BASH or "bash", "--norc", "-c", script],
        env={"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}", "PYTHONPATH": str(TOP)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def completed(home: Path, *words: str) -> list[str]:
    """What bash offers behind these words, by the script that the command itself shows."""
    script = f"""
        source <(clawmend --show-completion)
        COMP_WORDS=({" ".join(f"'{word}'" for word in ("clawmend", *words))})
        COMP_CWORD={len(words)}
        _clawmend_completion clawmend
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return in_bash(home, script).split()


REPAIRS = {
    *("--apply", "--force", "--json", "--reason", "--help"),
    *("--all", "--verdict", "--agent", "--min-age", "--max"),
}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sc",), {"scan"}),
        (("repair", "--"), REPAIRS),
        (("repair", "--force", ""), {"done", "failed", "timeout", "killed"}),
        (("plugin", ""), {"install", "status", "remove"}),
    ],
)
def test_bash_completes_commands_options_and_values(home: Path, words: tuple[str, ...], offered: set[str]) -> None:
    assert set(completed(home, *words)) == offered


def test_installed_it_is_there_in_the_next_shell_and_nothing_else_of_the_home_is_touched(home: Path) -> None:
    (home / ".bashrc").write_text("# mine\n")
    in_bash(home, "clawmend --install-completion && true")  # by itself bash would become it, and no shell be found
    assert (home / ".bashrc").read_text().startswith("# mine\n")
    assert "_clawmend_completion" in in_bash(home, 'source "$HOME/.bashrc"; complete -p clawmend')
    assert oct((home / ".bash_completions" / "clawmend.sh").stat().st_mode)[-3:] == "600"
