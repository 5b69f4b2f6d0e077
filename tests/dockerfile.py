"""deploy/docker/Dockerfile as a list of instructions, and the files that `.dockerignore` lets it see."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
DOCKERFILE = TOP / "deploy" / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments on one line, in the order of the file."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [arguments for word, arguments in instructions() if word == name]


def health_check() -> list[str]:
    """The command that tells whether the container is healthy."""
    (check,) = of("HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD ")[2])
    return command


def context() -> list[Path]:
    """The files that a build sees: nothing but what `.dockerignore` names with `!`."""
    lines = [line for line in (TOP / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    wanted = [line[1:] for line in lines if line.startswith("!")]
    left_out = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    found = []
    for name in wanted:
        place = TOP / name
        assert place.exists(), name
        for file in [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()):
            parts = file.relative_to(TOP).parts
            if not any(fnmatch.fnmatch(part, pattern) for part in parts for pattern in left_out):
                found.append(file)
    return found
