"""Runs tests again and again, each time in a fork. Started by `ground.py` inside the copy of the project.

    python -m tests.mutants.forks OUTPUT PYTEST-ARGUMENTS     the tests are collected once, a fork only runs them
    python -m tests.mutants.forks OUTPUT                      only what is not ours is loaded, a fork does all the rest

A request is a line of JSON, and so is its answer. In the first way a mutant is put in place by exchanging the code of
the functions that it changes: what ran while its module was imported stays as it was; and only the tests are run that
come to one of these functions. In the second it stands on disk.
"""

from __future__ import annotations

import ast
import builtins
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.main import pytest_runtestloop
from hypothesis import Phase, settings

OTHERWISE = 99
"""The answer where a mutant is more than another code of a function: then only the second way will do."""
UNREACHED = 97
"""The answer where no test comes to what is changed, in this process."""
UNFIT = 98
"""The answer where the fault is ours."""
_PATIENCE = 20.0
_LOADED_ALREADY = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
_PR_SET_PDEATHSIG = 1
_NOT_OURS = (
    "alembic.command",
    "apscheduler.schedulers.background",
    "fastapi",
    "httpx",
    "orjson",
    "pyjson5",
    "sqlalchemy.orm",
    "uvicorn",
    "watchfiles",
)


class Loop:
    """The plugin that takes the place of pytest's own loop over the tests."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._noticed = channel.output.with_name("noticed")
        self._reached = channel.output.with_name("reached")
        self._here: set[str] = set()
        self._reaching: dict[str, dict[str, float]] = {}
        """Of each function of the module that is tried: the tests that come to it, and the seconds of each."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        def choose(request: Any) -> None:
            if request["module"] is None or request["learn"]:
                return
            changed = changed_functions(request["module"], request["text"]) or {}
            tests = {test: took for name in changed for test, took in self._reaching.get(name, {}).items()}
            request["tests"] = list(tests)
            request["timeout"] = min(request["timeout"], _PATIENCE + 4 * sum(tests.values()))

        def run(request: Any) -> int:
            if request["learn"]:
                vars(builtins)["_reached"] = self._here.add
                put_in_place(request["module"], with_marks(request["text"]))
            elif request["module"] is not None:
                if not put_in_place(request["module"], request["text"]):
                    return OTHERWISE
                session.items[:] = [item for item in session.items if item.nodeid in request["tests"]]
                if not session.items:
                    return UNREACHED
            with suppress(session.Failed):
                pytest_runtestloop(session)
            if request["learn"]:
                self._reached.write_text(json.dumps(self._reaching), encoding="utf-8")
            return int(session.testsfailed > 0)

        for request, _ in self._channel.answers(run, choose):
            if request["learn"] and self._reached.exists():
                self._reaching = json.loads(self._reached.read_text(encoding="utf-8"))
                self._reached.unlink()
            # The next mutant stands close by: the test that has noticed this one is the likeliest to notice it too.
            if self._noticed.exists():
                noticed = self._noticed.read_text(encoding="utf-8")
                session.items.sort(key=lambda item: item.nodeid != noticed)
                self._noticed.unlink()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._noticed.write_text(report.nodeid, encoding="utf-8")
        for name in self._here:
            tests = self._reaching.setdefault(name, {})
            tests[report.nodeid] = tests.get(report.nodeid, 0.0) + report.duration
        if report.when == "teardown":
            self._here.clear()


class Channel:
    """Where requests come from and answers go to."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._requests, self._answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def answers(
        self, run: Callable[[Any], int], before: Callable[[Any], None] = lambda _: None
    ) -> Iterator[tuple[Any, int | None]]:
        """Run each request in a fork and answer with what that ends with; None when it does not end in time. `before`
        is asked here, and may change the request.
        """
        gc.collect()
        gc.freeze()  # else every fork walks through, and so copies, all that is loaded here
        for line in self._requests:
            request = json.loads(line)
            before(request)
            child = os.fork()
            if child == 0:
                _end_with(run, request, self.output)
            watched = os.pidfd_open(child)
            ended, _, _ = select.select([watched], [], [], request["timeout"])
            os.close(watched)
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status) if ended else None
            self._answers.write(json.dumps(code) + "\n")
            self._answers.flush()
            yield request, code


def _end_with(run: Callable[[Any], int], request: Any, output: Path) -> None:
    code = UNFIT
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a mutant may hang for ever
        said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        for at in (1, 2):
            os.dup2(said, at)
        code = run(request)
    except BaseException:  # noqa: BLE001  # this process ends here, whatever it was
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def put_in_place(name: str, text: str) -> bool:
    """Give the functions of a module the code that they have in `text`; False where that is not all that it takes."""
    changed = changed_functions(name, text)
    if changed is None:
        return False
    for function, code in changed.values():
        function.__code__ = code
    return bool(changed)


def changed_functions(name: str, text: str) -> dict[str, tuple[FunctionType, CodeType]] | None:
    """By their names those that have another code in `text`; None where the code alone cannot be exchanged."""
    module = importlib.import_module(name)
    if _outside(Path(module.__file__ or "").read_text(encoding="utf-8")) != _outside(text):
        return None
    new = {code.co_qualname: code for code in _codes(compile(text, module.__file__ or "", "exec"))}
    changed = {}
    for function in _functions(vars(module).values(), module):
        code = new[function.__code__.co_qualname]
        if code.co_freevars != function.__code__.co_freevars:
            return None
        if code != function.__code__:
            changed[code.co_qualname] = function, code
    return changed


def _outside(text: str) -> str:
    """Everything that stands outside the bodies of functions; what lines it stands in does not matter."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = []
    return ast.dump(tree)


def with_marks(text: str) -> str:
    """`text` in which every function says its name to `_reached` when it is come to."""
    tree = ast.parse(text)
    _mark(tree, "")
    return ast.unparse(tree)


def _mark(node: ast.AST, within: str) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            _mark(child, f"{within}{child.name}.")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):  # what is inside it comes with it
            child.body.insert(0, ast.parse(f"_reached({within + child.name!r})").body[0])
        else:
            _mark(child, within)


def _codes(code: CodeType) -> Iterable[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            if inner.co_flags & 0x1 == 0:  # the body of a class; what is inside a function comes with it
                yield from _codes(inner)


def _functions(values: Iterable[Any], module: ModuleType) -> Iterable[FunctionType]:
    """Every function whose text stands in the module, whatever is wrapped around it."""
    for value in values:
        for held in (value, *(getattr(value, name, None) for name in ("fget", "__func__", "__wrapped__"))):
            if isinstance(held, FunctionType) and held.__code__.co_filename == module.__file__:
                yield held
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from _functions(vars(value).values(), module)


def main() -> int:
    output, *args = sys.argv[1:]
    channel = Channel(Path(output))
    settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), database=None)
    settings.load_profile("mutants")
    if args:
        return int(pytest.main(["-x", *_LOADED_ALREADY, *args], plugins=[Loop(channel)]))
    for name in _NOT_OURS:
        importlib.import_module(name)
    for _ in channel.answers(lambda request: int(pytest.main(["-x", *_LOADED_ALREADY, *request["args"]]))):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
