"""What decides, splices and repairs is changed a little, in every way that we know; some test must notice each change.

What no test can notice stands in tests/mutants/survivors.toml, with the reason. The bounded form tries a fixed handful
of every module's mutants, the long form all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.forks import changed_functions
from tests.mutants.ground import TOP, Ground
from tests.mutants.modules import TRIED
from tests.mutants.mutant import Mutant, mutants_of
from tests.mutants.survivors import LIST, as_entry, listed

HANDFUL = 3


@cache
def mutants(path: str) -> dict[Mutant, str]:
    return mutants_of(TOP, path)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Ground(tmp_path_factory.mktemp("ground")) as made:
        yield made


@pytest.mark.parametrize("path", TRIED)
def test_every_mutant_is_noticed_or_has_a_reason(path: str, ground: Ground, soak: bool) -> None:
    made, known = mutants(path), listed()
    tried = sorted(made, key=lambda m: m.lot) if soak else handful(made, known)
    wrong: list[str] = []
    for mutant in tried:
        fate, _ = ground.fate(path, made[mutant], TRIED[path])
        if fate == "survived" and mutant not in known:
            wrong.append(as_entry(mutant))
        elif fate != "survived" and mutant in known:
            wrong.append(f"{fate}, so it does not belong on the list: {mutant}")
    ground.check(TRIED[path][0])
    ground.rest()
    assert not wrong, "\n".join(wrong)


def handful(made: dict[Mutant, str], known: dict[Mutant, str]) -> list[Mutant]:
    """The same ones each time, wherever they stand in the module; and not those that will survive."""
    return sorted(made.keys() - known.keys(), key=lambda m: m.lot)[:HANDFUL]


def test_the_list_names_only_what_can_still_be_made() -> None:
    made = {mutant for path in TRIED for mutant in mutants(path)}
    gone = [str(mutant) for mutant in listed() if mutant not in made]
    assert not gone, f"take these off {Path(LIST).name}, or name them anew:\n" + "\n".join(gone)


def test_the_page_on_safety_says_how_many_are_on_the_list() -> None:
    page = (TOP / "docs" / "explanation" / "safety.md").read_text(encoding="utf-8")
    assert re.findall(r"\((\d+) do\)", page) == [str(len(listed()))]


def test_one_that_nobody_can_notice_is_told_from_the_others(ground: Ground) -> None:
    """A way of trying in which everything is noticed would prove nothing."""
    path, stages = "app/domain/settlement.py", TRIED["app/domain/settlement.py"]
    text = (TOP / path).read_text(encoding="utf-8")
    nobody, everybody = text + "\n\ndef never_called() -> int:\n    return 1\n", text.replace('"done"', '"gone"')
    assert text != everybody

    assert ground.fate(path, nobody, stages) == ("survived", 1)
    assert ground.fate(path, everybody, stages) == ("killed", 1)
    ground.rest()


def test_a_constant_in_fewer_lines_is_not_taken_for_the_functions_below_it() -> None:
    text = (TOP / "app/openclaw/claims.py").read_text(encoding="utf-8")
    constant = re.sub(r'_PLACED = """.*?"""', "_PLACED = None", text, count=1, flags=re.DOTALL)
    assert changed_functions("app.openclaw.claims", constant) is None
    function = text.replace("return known.claims", "return None")
    assert list(changed_functions("app.openclaw.claims", function) or {}) == ["ClaimsReader.read"]
