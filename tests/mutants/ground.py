"""A copy of the project in which mutants are tried: quickly in forks, and by themselves in a process of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tests.mutants.forks import OTHERWISE, UNFIT, UNREACHED

TOP = Path(__file__).resolve().parents[2]
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".gateways", ".*_cache", ".hypothesis", "__pycache__")
_LINKED = (".git", ".gateways", ".venv")
_PATIENCE = 20.0

Stage = tuple[str, ...]
"""Tests to run together, as arguments of pytest."""
Fate = Literal["killed", "timeout", "survived"]
_ALONE: Stage = ()


class Broken(RuntimeError):
    """The tests fail without any mutant: then nothing that they say of a mutant is worth anything."""


class Ground:
    """Holds the copy and the processes that fork the test runs; use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self.top = folder / "project"
        self._folder = folder
        self._output = folder / "output"
        self._complaints = folder / "complaints"
        self._forks: dict[Stage, subprocess.Popen[str]] = {}
        self._usual: dict[tuple[Stage, bool], float] = {}
        self._learnt: set[tuple[Stage, str]] = set()

    def __enter__(self) -> Ground:
        shutil.copytree(TOP, self.top, ignore=_LEFT_OUT, symlinks=True)
        for name in _LINKED:
            if (TOP / name).exists():
                (self.top / name).symlink_to(TOP / name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.rest()

    def rest(self) -> None:
        """End the processes that fork."""
        self._learnt.clear()
        while self._forks:
            _, process = self._forks.popitem()
            process.kill()
            process.communicate()

    def fate(self, path: str, text: str, stages: tuple[Stage, ...]) -> tuple[Fate, int]:
        """What becomes of a mutant, `text` instead of the module at `path`, and after how many stages."""
        module = path.removesuffix(".py").replace("/", ".")
        reached = False
        for number, stage in enumerate(stages, 1):
            self._learn(stage, path, module)
            code = self._run(stage, self._patience(stage, alone=False), module=module, text=text)
            if code == OTHERWISE:
                return self.fate_alone(path, text, stages)
            if code == UNREACHED:
                continue
            reached = True
            if code != 0:
                return ("timeout" if code is None else "killed"), number
        if not reached:  # it is run by a process of its own, or only while something is imported
            return self.fate_alone(path, text, stages)
        return "survived", len(stages)

    def fate_alone(self, path: str, text: str, stages: tuple[Stage, ...]) -> tuple[Fate, int]:
        """The same with the mutant on disk, where everything of ours is loaded anew: slower, and sure."""
        usual = (self.top / path).read_text(encoding="utf-8")
        patience = [self._patience(stage, alone=True) for stage in stages]
        try:
            (self.top / path).write_text(text, encoding="utf-8")
            for number, (stage, timeout) in enumerate(zip(stages, patience, strict=True), 1):
                code = self._run_alone(stage, timeout)
                if code != 0:
                    return ("timeout" if code is None else "killed"), number
            return "survived", len(stages)
        finally:
            (self.top / path).write_text(usual, encoding="utf-8")

    def check(self, stage: Stage, *, alone: bool = False) -> float:
        """Raises Broken where something else than a mutant makes tests fail. Gives the seconds that they take."""
        began = time.monotonic()
        code = self._run_alone(stage, 3_600) if alone else self._run(stage, 3_600, module=None, text="")
        took = time.monotonic() - began
        if code != 0:
            again = code if alone else self._run_alone(stage, 3_600)  # one that was collected says not what failed
            said = self._output.read_text(errors="replace")[-4_000:]
            raise Broken(f"without any mutant these end with {code}, alone with {again}: {' '.join(stage)}\n{said}")
        return took

    def _learn(self, stage: Stage, path: str, module: str) -> None:
        """Which tests come to which functions of the module. Raises Broken if they do not pass without a mutant."""
        if (stage, module) in self._learnt:
            return
        began = time.monotonic()
        code = self._run(stage, 3_600, module=module, text=(self.top / path).read_text(encoding="utf-8"), learn=True)
        if code != 0:
            self.check(stage)
            raise Broken(f"these pass, but not where it is learnt what they come to: {' '.join(stage)}")
        self._usual[stage, False] = time.monotonic() - began
        self._learnt.add((stage, module))

    def _patience(self, stage: Stage, *, alone: bool) -> float:
        """Seconds after which a run of the tests has no end. Raises Broken if they do not pass without a mutant."""
        if (stage, alone) not in self._usual:
            self._usual[stage, alone] = self.check(stage, alone=alone)
        return _PATIENCE + 4 * self._usual[stage, alone]

    def _run(self, stage: Stage, timeout: float, *, module: str | None, text: str, learn: bool = False) -> int | None:
        code = self._ask(stage, {"module": module, "text": text, "timeout": timeout, "learn": learn})
        if code == UNFIT:
            raise Broken(self._output.read_text(errors="replace"))
        return code

    def _run_alone(self, stage: Stage, timeout: float) -> int | None:
        return self._ask(_ALONE, {"args": self._args(stage), "timeout": timeout})

    def _ask(self, stage: Stage, request: dict[str, Any]) -> int | None:
        if stage not in self._forks:
            self._forks[stage] = self._started(stage)
        process = self._forks[stage]
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            said = self._complaints.read_text(errors="replace")[-4_000:]
            raise Broken(f"these cannot be collected: {' '.join(stage)}\n{said}")
        code: int | None = json.loads(answer)
        return code

    def _started(self, stage: Stage) -> subprocess.Popen[str]:
        # Bytecode is told apart by second and size of its source only: too little for mutants.
        environ = {**os.environ, "PYTHONPATH": str(self.top), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):  # where pytest sees a CI it writes differences out whole
            environ.pop(name, None)
        with self._complaints.open("w") as complaints:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.mutants.forks", str(self._output), *(self._args(stage) if stage else ())],
                cwd=self.top,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def _args(self, stage: Stage) -> list[str]:
        return [f"--basetemp={self._folder / 'scratch'}", *stage]
