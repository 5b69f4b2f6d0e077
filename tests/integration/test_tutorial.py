"""docs/tutorial/first-repair.md, done by a newcomer: every command of it, and what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.served import FROM_CHECKOUT, TOP, environment, served

PAGE = TOP / "docs" / "tutorial" / "first-repair.md"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
END = "--- the end of a command ---"


def commands() -> list[tuple[str, str]]:
    """Each command behind a `$`, with what stands below it."""
    blocks = re.findall(r"((?:^    .*\n)+)", PAGE.read_text(), re.M)
    told = [part for block in blocks for part in re.split(r"^    \$ ", block, flags=re.M)[1:]]
    return [(first, rest) for first, _, rest in (part.partition("\n") for part in told)]


def alike(text: str) -> str:
    """`text` without what differs from one run to the next: ids, times, numbers with their blanks, line ends."""
    return re.sub(r"\s+", " ", re.sub(r"\d+", "0", ID.sub("ID", text))).strip()


def says(shown: str, said: str) -> bool:
    """Whether `said` is what the page shows; `…` stands for anything."""
    pattern = ".*".join(re.escape(alike(part)) for part in shown.split("…"))
    return re.fullmatch(rf"\s*{pattern}\s*", alike(said)) is not None


class Shell:
    """The reader's second terminal."""

    def __init__(self, env: dict[str, str], cwd: Path) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [shutil.which("bash") or pytest.skip("no bash")], env=env, cwd=cwd, stdin=pipe, stdout=pipe, text=True
        )

    def __call__(self, command: str) -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{command}\necho; echo '{END}'\n")
        self._process.stdin.flush()
        said = []
        for line in self._process.stdout:
            if line.strip() == END:
                break
            said.append(line)
        return "".join(said)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_every_command_of_the_tutorial_says_what_stands_there(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    env = environment(tmp_path / "reader", PATH=os.environ["PATH"])
    with served(*FROM_CHECKOUT, "serve", "--demo", env=env, cwd=tmp_path) as service:
        shell = Shell(env, tmp_path)
        last_id = ""
        seen = []
        try:
            for command, shown in commands():
                words = command.replace("http://127.0.0.1:8787", service.url).replace(" ID ", f" {last_id} ")
                said = shell(words.replace(".venv/bin/python", sys.executable))
                assert says(shown, said), f"$ {command}\n{said}"
                last_id = (ID.findall(said) or [last_id])[0]
                seen.append(command.split()[-1] if "app.cli" not in command else command.split()[3])
        finally:
            shell.close()
    assert {"audit", "undo", "scan", "repair"} <= set(seen)


def test_the_page_shows_the_words_of_the_demo(tmp_path: Path) -> None:
    (shown,) = re.findall(r"((?:^      .*\n)+)", PAGE.read_text(), re.M)
    with served(*FROM_CHECKOUT, "serve", "--demo", env=environment(tmp_path / "reader"), cwd=tmp_path) as service:
        said = service.said.partition("Watch it:")[0]
    assert says(shown, said), said
