"""The mutants of a module: every small change that mutmut knows, and a few that it does not."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

MODULE = "<module>"
_NEVER_CHANGED = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.TypeAlias)


@dataclass(frozen=True, slots=True, order=True)
class Mutant:
    """Named by what is changed and where, so that the name outlives every edit elsewhere in the file."""

    path: str
    function: str
    was: str
    now: str
    nth: int = 1
    """Which one, where the same change can be made at several places of one function."""

    @property
    def lot(self) -> str:
        """Orders mutants in a way that is fixed but has nothing to do with their place: for samples."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def __str__(self) -> str:
        more = f" (the {self.nth}.)" if self.nth > 1 else ""
        return f"{self.path} {self.function}{more}\n  - {self.was}\n  + {self.now}"


def mutants_of(top: Path, path: str) -> dict[Mutant, str]:
    """Every mutant of the module at `path` below `top`, with the whole text of the mutated module."""
    source = (top / path).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor(wrapper.module)
    wrapper.visit(visitor)
    tops = _beginnings(source)
    made: dict[Mutant, str] = {}
    seen = {source}
    for function, (start, end), instead in visitor.changes:
        text = source[:start] + instead + source[end:]
        top_start = max(at for at in tops if at <= start)
        top_end = min((at for at in tops if at > start), default=len(source)) + len(text) - len(source)
        if text in seen or not _parses(text[top_start:top_end]):
            continue
        seen.add(text)
        first, last = source.rfind("\n", 0, start) + 1, source.find("\n", end)
        was, now = _lines(source[first:last]), _lines(text[first : last + len(text) - len(source)])
        nth = 1
        while (mutant := Mutant(path, function, was, now, nth)) in made:
            nth += 1
        made[mutant] = text
    return made


def _lines(text: str) -> str:
    """Without indentation, and no more of a long statement than shows what is changed."""
    return " ".join(line.strip() for line in text.splitlines())


def _beginnings(source: str) -> list[int]:
    """Where the statements of the module begin: to parse one of them again is quicker than to parse them all."""
    lines = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    nodes = ast.parse(source).body
    return [lines[min([n.lineno, *(d.lineno for d in getattr(n, "decorator_list", ()))]) - 1] for n in nodes]


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


class _Visitor(cst.CSTVisitor):
    """Collects (function, where a node stands, what is to stand there)."""

    METADATA_DEPENDENCIES = (WhitespaceInclusivePositionProvider,)

    def __init__(self, module: cst.Module) -> None:
        super().__init__()
        self.changes: list[tuple[str, tuple[int, int], str]] = []
        self._names: list[str] = []
        self._module = module
        self._line_starts = [0, *accumulate(len(line) for line in module.code.splitlines(keepends=True))]

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _NEVER_CHANGED) or _is_literal(node):
            return False
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._names.append(node.name.value)
        for old, new in (*((node, new) for new in _by_mutmut(node)), *_by_us(node)):
            self.changes.append((".".join(self._names) or MODULE, self._span(old), self._module.code_for_node(new)))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, (cst.FunctionDef, cst.ClassDef)):
            self._names.pop()

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        found = self.get_metadata(WhitespaceInclusivePositionProvider, node)
        start, end = (self._line_starts[at.line - 1] + at.column for at in (found.start, found.end))
        return start, end


def _by_mutmut(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from operator(node)


def _by_us(node: cst.CSTNode) -> Iterable[tuple[cst.CSTNode, cst.CSTNode]]:
    """What mutmut leaves alone: a condition forced either way, a call that is not made, nothing given back."""
    match node:
        case cst.If(test=test) | cst.CompIf(test=test):
            return ((test, _forced(test, way)) for way in ("False", "True"))
        case cst.While(test=test):
            return ((test, _forced(test, "False")),)
        case cst.Expr(value=cst.Call()) | cst.Raise():
            return ((node, cst.Pass()),)
        case cst.Return(value=cst.BaseExpression() as value) if not _is_none(value):
            return ((value, cst.Name("None")),)
    return ()


def _forced(test: cst.BaseExpression, way: str) -> cst.BaseExpression:
    """`test`, still asked, but with an answer that does not depend on it."""
    held = test if test.lpar else test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    operator = cst.Or() if way == "True" else cst.And()
    return cst.BooleanOperation(left=held, operator=operator, right=cst.Name(way))


def _is_literal(node: cst.CSTNode) -> bool:
    """Words that only the type checker reads."""
    return isinstance(node, cst.Subscript) and isinstance(node.value, cst.Name) and node.value.value == "Literal"


def _is_none(value: cst.BaseExpression) -> bool:
    return isinstance(value, cst.Name) and value.value == "None"
