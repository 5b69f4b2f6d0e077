"""Nonsense: Node's own JSON.parse as the judge of ours, and a coverage-guided search for what nobody thought of."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.domain.splice import CannotSplice, splice
from app.openclaw.sessions_json import StoreProblem, read_rows
from tests.faults.nonsense.documents import documents
from tests.faults.nonsense.json_parse import DEEP, Parsed, depth, parse

TOP = Path(__file__).parents[2]
NODE = TOP / ".gateways" / "bin" / "node"
NAMES = ("status", "endedAt", "runtimeMs", "abortedLastRun")
SETTLED: dict[str, str | int | bool] = {"status": "killed", "endedAt": 7, "runtimeMs": 3, "abortedLastRun": True}


def node_says(cases: list[bytes]) -> list[dict[str, Any]]:
    """What Node makes of each, all in one process."""
    if not NODE.exists():
        pytest.skip("there is no Node here: make test-faults installs it")
    script = Path(__file__).parent / "nonsense" / "node_parse.mjs"
    given = b"".join(base64.b64encode(case) + b"\n" for case in cases)
    ran = subprocess.run([NODE, script], input=given, capture_output=True, check=True, timeout=600)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(said) == len(cases)
    return said


def as_node_shows(value: Any) -> list[Any]:
    if isinstance(value, bool) or value is None:
        return ["null" if value is None else "boolean"]
    if isinstance(value, float):
        return ["number", value]
    if isinstance(value, str):
        return ["string", value]
    return ["array" if isinstance(value, list) else "object"]


def fields_of(row: list[list[Any]]) -> list[list[Any]]:
    """Node's own text of a number is the shortest that reads back as the same double."""
    return [[field[0], float(field[1])] if field[0] == "number" else field for field in row]


def model_says(data: bytes) -> dict[str, Any]:
    text = data.decode("utf-8", "replace")
    try:
        store = parse(text)
    except ValueError:
        return {"takes": False}
    if not isinstance(store, Parsed):
        return {"takes": True}
    rows = {
        key: [as_node_shows(row[n]) if n in row else ["absent"] for n in NAMES] if isinstance(row, Parsed) else None
        for key, row in store.items()
    }
    return {"takes": True, "rows": rows}


def test_the_model_and_every_reader_of_ours_agree_with_nodes_json_parse(soak: bool) -> None:
    """Accepted or refused, and the four fields of every row; then the same of every store that we changed."""
    cases = list(documents(60_000 if soak else 8_000, seed=20261122))
    changed: list[tuple[bytes, str]] = []
    read = 0
    for data, said in zip(cases, node_says(cases), strict=True):
        if "rows" in said:
            said["rows"] = {key: row and fields_of(row) for key, row in said["rows"]}
        assert model_says(data) == said, data
        try:
            rows = read_rows(data)
        except StoreProblem as problem:
            assert_refused_for_a_reason(data, problem, said)
            continue
        read += 1
        assert said["takes"], data
        for row, shown in zip(rows, by_place(data, said), strict=True):
            if row.problem is None and shown is not None:
                assert same_word(row.status, shown[0]), data
                assert same_time(row.ended_at, shown[1]), data
                assert same_time(row.runtime_ms, shown[2]), data
                assert (row.aborted_last_run is None) == (shown[3][0] != "boolean"), data
            try:
                changed.append((splice(data, row.key, SETTLED)[0], row.key))
            except CannotSplice:
                continue
    print(f"{len(cases)} documents, {read} of them read, {len(changed)} rows settled")
    assert min(read, len(changed)) > 1_000
    expected = [["string", "killed"], ["number", 7.0], ["number", 3.0], ["boolean"]]
    for (new, key), said in zip(changed, node_says([new for new, _ in changed]), strict=True):
        assert fields_of(dict(said["rows"])[key]) == expected, new


def by_place(data: bytes, said: dict[str, Any]) -> list[Any]:
    """Node puts keys that look like indexes first; ours stand as in the file."""
    return [said["rows"][key] for key in parse(data.decode())]


def same_word(ours: str | None, nodes: list[Any]) -> bool:
    return ours == (nodes[1].encode("utf-8", "replace").decode() if nodes[0] == "string" else None)


def same_time(ours: int | None, nodes: list[Any]) -> bool:
    """Beyond 2**53 a double is no exact number of milliseconds any more; we read all of them as the first such."""
    if nodes[0] != "number":
        return ours is None
    return ours == (int(nodes[1]) if abs(nodes[1]) < 2**53 else 2**53)


def assert_refused_for_a_reason(data: bytes, problem: StoreProblem, said: dict[str, Any]) -> None:
    """A store that Node takes and we do not: each kind of it is named here, and there is no other."""
    if said["takes"]:
        ours = {
            "not_an_object": "rows" not in said,
            "duplicate_keys": "rows" in said,
            "not_utf8": "\ufffd" in data.decode("utf-8", "replace"),
            "not_json": depth(data.decode("latin-1")) > DEEP,
        }
        assert ours[problem.code], (problem.code, data)


@pytest.mark.parametrize(("target", "bounded", "long"), [("store", 4_000, 400_000), ("trajectory", 8_000, 600_000)])
def test_a_search_guided_by_coverage_finds_nothing(
    target: str, bounded: int, long: int, soak: bool, tmp_path: Path
) -> None:
    """The same seed and number of runs each time; what it finds goes to `found/` when it is mended."""
    pytest.importorskip("atheris", reason="there is no atheris here: make test-faults installs it")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults.nonsense.fuzz", target, f"-runs={long if soak else bounded}",
         "-seed=20261122", "-max_len=8192", "-timeout=60", "-rss_limit_mb=1024", f"-artifact_prefix={tmp_path}/",
         corpus, Path(__file__).parent / "nonsense" / "found" / target],
        cwd=TOP, capture_output=True, text=True, timeout=7_200, check=False,
    )  # fmt: skip
    found = [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
    assert (ran.returncode, found) == (0, []), ran.stdout[-2_000:] + ran.stderr[-2_000:]
    done = re.findall(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)", ran.stderr)
    assert done, ran.stderr[-2_000:]
    runs, covered, features, kept = (int(number) for number in done[-1])
    print(f"{target}: {runs} runs, {covered} edges, {features} features, {kept} cases kept")
    assert runs >= (long if soak else bounded)
    assert covered > 60, "the grammars are not instrumented"
