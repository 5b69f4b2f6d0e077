"""The ten invariants of a repair, each as one function. They raise AssertionError, with the number in front.

`gateway` is the plain model of what the gateway wrote; `live` is what stands on the disk (None: nothing).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from app.audit.models import Attempt
from tests.faults.model.gateway import STORE, GatewaySide, Version
from tests.faults.model.oddities import Oddities
from tests.faults.model.record import Proof, Record, Standing
from tests.faults.model.rows import FOUR, Rows, rows_of, the_four
from tests.faults.model.trails import SETTLED_AS

SUCCESS_WINDOW, OTHER_WINDOW, BUSY_WINDOW = 30.0, 120.0, 1200.0
_SLACK = 0.01


def i1_the_store_is_a_gateway_version_or_that_and_our_edit(gateway: GatewaySide, live: bytes | None) -> Version | None:
    """I1 atomic: at every instant and after any crash the store parses and equals a version that the gateway wrote, or
    that and our patch. Gives the version.
    """
    if live is None:
        return None
    try:
        rows = rows_of(live)
    except ValueError as error:
        raise AssertionError(f"I1: the store does not parse: {error}") from None
    at = gateway.version_of(rows)
    assert at is not None, "I1: the store is no version that the gateway wrote, with or without our four fields"
    return gateway.versions[at]


def i2_not_a_byte_outside_the_four_fields_differs(version: Version, live: bytes) -> None:
    """I2 minimal: bytes outside the patched entry's four fields are identical; a row without an edit is identical."""
    assert _lines_but_the_four(live) == _lines_but_the_four(version.data), "I2: a byte outside the four fields differs"
    rows = rows_of(live)
    if rows == version.rows:
        assert live == version.data, "I2: no field differs, but the bytes do"


def i3_no_version_is_lost(gateway: GatewaySide, live: bytes | None, kept: list[bytes]) -> None:
    """I3 no lost update: each gateway version is live, or kept in a file of ours, or an ancestor of such a one."""
    if not gateway.exists:
        return
    standing = i1_the_store_is_a_gateway_version_or_that_and_our_edit(gateway, live)
    there = [i for i, version in enumerate(gateway.versions) if version is standing or version.data in kept]
    accounted: set[int] = set()
    while there:
        at = there.pop()
        accounted.add(at)
        parent = gateway.versions[at].parent
        if parent is not None and parent not in accounted:
            there.append(parent)
    lost = [index for index in range(gateway.forgotten, len(gateway.versions)) if index not in accounted]
    assert not lost, f"I3: versions {lost} of the gateway are neither live, nor kept, nor ancestors of one that is"


def i4_a_deleted_store_stays_deleted(gateway: GatewaySide, live: bytes | None) -> None:
    """I4 never resurrects: the gateway deleted the store, so nobody but the gateway brings one back."""
    assert gateway.exists or live is None, "I4: a deleted store is back"


def i5_what_is_called_applied_is_on_the_disk(record: Record, just_applied: list[Attempt]) -> None:
    """I5 durable: a success is reported when file and folder are synced, not before."""
    for attempt in just_applied:
        synced = attempt.files_named not in record.names_unsynced
        assert synced, "I5: called applied, but the folder was not synced since the exchange"


def i6_every_outcome_is_what_happened(record: Record, attempts: Iterable[Attempt]) -> None:
    """I6 accounted: no write without an intent; `applied` only what stood so; what stood is never called undone."""
    stood: dict[str, list[Standing]] = {}
    for standing in record.stood:
        stood.setdefault(standing.named, []).append(standing)
    known = set()
    for attempt in attempts:
        known.add(attempt.files_named)
        mine = stood.get(attempt.files_named, [])
        if attempt.outcome in ("applied", "overwritten") and not mine and attempt.files_named not in record.placed:
            so = any(_says(rows.get(attempt.session_key, {}), attempt) for rows in record.stores)
            assert so, f"I6: attempt {attempt.id} is called {attempt.outcome}, but its row never stood so"
        undone = attempt.outcome in ("refused", "superseded") and any(standing.on_newest for standing in mine)
        assert not undone, f"I6: attempt {attempt.id} is called {attempt.outcome}, but its version stood"
    assert not stood.keys() - known, f"I6: a version stood whose attempt no audit knows: {sorted(stood.keys() - known)}"


def i6_no_attempt_is_left_open(attempts: Iterable[Attempt]) -> None:
    """I6 accounted: behind a whole pass of a Clawmend on this audit, every intent has its outcome."""
    left = [attempt.id for attempt in attempts if attempt.outcome is None]
    assert not left, f"I6: open behind a pass: {left}"


def i7_no_row_changed_that_no_attempt_is_at(standing: Standing, attempts: list[Attempt]) -> None:
    """I7 justified: in a version of ours just those rows are others whose attempts it was published for."""
    changed = [key for key in standing.rows if standing.rows[key] != standing.before.get(key)]
    assert sorted(changed) == sorted(a.session_key for a in attempts), f"I7: it changed {changed}"


def i7_what_was_settled_was_over(standing: Standing, attempt: Attempt, *, clock_was_set: bool) -> None:
    """I7 justified: settled are rows of a turn that has ended, that nothing follows, and whose window has passed."""
    row, before = standing.rows[attempt.session_key], standing.before[attempt.session_key]
    assert before.get("status") == '"running"', "I7: the row did not say running"
    if attempt.forced or not standing.on_newest:  # what was known of the older version is not known any more
        return
    proof = standing.proofs[attempt.session_key]
    last = proof.last
    assert last is not None and proof.regular, "I7: no trajectory tells of an end"
    assert last.end in SETTLED_AS, f"I7: something follows the end: {last.kind} ({last.end})"
    assert not proof.torn, "I7: its trajectory is torn"
    assert last.key.lower() == attempt.session_key.lower(), "I7: the end belongs to another row"
    assert last.at >= int(before["startedAt"]), "I7: the end is older than the turn"
    assert not proof.open_runs, "I7: another run in its trajectory is open"
    assert clock_was_set or not proof.truly_open, "I7: the turn was not over"
    window = _window(proof, last.end)
    assert proof.age >= (SUCCESS_WINDOW if last.end == "success" else OTHER_WINDOW), "I7: its window has not passed"
    if attempt.trigger == "scheduler" and attempt.retry_of is None:
        passed = min(proof.quiet, standing.watched)
        assert passed >= window - _SLACK, f"I7: {passed:g} s were watched of a window of {window:g} s"
    ended_at = str(last.at)
    expected = {
        "status": f'"{SETTLED_AS[last.end]}"',
        "endedAt": ended_at,
        "runtimeMs": str(max(0, last.at - int(before["startedAt"]))),
        "abortedLastRun": "true" if SETTLED_AS[last.end] == "killed" else "false",
    }
    assert the_four(row) == expected, f"I7: settled to {the_four(row)}, not to {expected}"


def i7_what_was_undone_is_as_it_was(standing: Standing, attempt: Attempt, settled: Standing) -> None:
    """I7 justified: an undo takes back what still stood as the repair left it, to the text of each value."""
    key = attempt.session_key
    assert the_four(standing.before[key]) == the_four(settled.rows[key]), "I7: the row had moved on before the undo"
    assert the_four(standing.rows[key]) == the_four(settled.before[key]), "I7: undone is not as it was"
    assert _turn(standing.rows, key) == _turn(settled.rows, key), "I7: another turn had begun before the undo"


def i7_what_a_person_took_back_is_held(attempt: Attempt, earlier: Iterable[Attempt]) -> None:
    """I7 justified: the scheduler leaves a turn alone whose repair a person has undone (`earlier`: of this audit)."""
    turn = (attempt.session_key, attempt.session_id, attempt.started_at)
    last = [a for a in earlier if a.outcome == "applied" and (a.session_key, a.session_id, a.started_at) == turn]
    held = bool(last) and last[-1].kind == "undo"
    assert not held or attempt.trigger != "scheduler", "I7: a turn was settled again that a person had taken back"


def i8_nothing_is_left_to_do(gateway: GatewaySide, folder: Path, attempts: list[Attempt], *, crashed: bool) -> None:
    """I8 convergent and idempotent: behind a quiet period the gateway's newest version is live, and no file of ours is
    left but a version that is kept for a person, of which the audit says so. That may be the newest one where a crash
    left ours live in a crossing, and the gateway built on that.
    """
    store = folder / STORE
    live = store.read_bytes() if store.is_file() else None
    kept = []
    for name in (n for n in os.listdir(folder) if n.startswith(".clawmend-")):
        data = (folder / name).read_bytes()
        says = {a.outcome for a in attempts if name.startswith(f".clawmend-{a.files_named}.")}
        known = any(version.data == data for version in gateway.versions)
        assert known and data != live, f"I8: {name} was left behind"
        assert says == {"unknown"}, f"I8: {name} is kept, and the audit says {says}"
        kept.append(data)
    if live is not None and gateway.versions[-1].data not in (kept if crashed else []):
        assert gateway.version_of(rows_of(live)) == len(gateway.versions) - 1, "I8: the gateway's newest is not live"


def i9_nothing_is_held_and_modes_are_kept(folder: Path, descriptors: int) -> None:
    """I9 bounded: no descriptor or lock is held behind a step, and no file of ours is for other eyes."""
    assert open_below(folder) == descriptors, "I9: a descriptor in the store's folder is still open"
    for path in (p for p in folder.iterdir() if p.name == STORE or p.name.startswith(".clawmend-")):
        assert path.is_symlink() or not path.is_file() or path.stat().st_mode & 0o777 == 0o600, f"I9: {path.name} mode"


def i10_on_doubt_nothing_is_written(oddities: Oddities) -> None:
    """I10 inert on doubt: a store that is a link, has a second name, or does not parse, stays as it turned out."""
    if oddities.of_the_store is not None:
        assert oddities.seen() == oddities.as_turned, f"I10: a store in doubt ({oddities.of_the_store}) was written to"


def open_below(folder: Path) -> int:
    """How many descriptors this process has open on the folder and what is in it."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        found += target.startswith(str(folder))
    return found


def _lines_but_the_four(data: bytes) -> list[bytes]:
    names = tuple(b'    "' + name.encode() + b'": ' for name in FOUR)
    return [line.removesuffix(b",") for line in data.split(b"\n") if not line.startswith(names)]


def _says(row: dict[str, str], attempt: Attempt) -> bool:
    """Whether a row says what an attempt was to write."""
    as_status = None if attempt.after.get("status") is None else f'"{attempt.after["status"]}"'
    return row.get("status") == as_status and row.get("endedAt") == _number(attempt.after.get("endedAt"))


def _number(value: object) -> str | None:
    return None if value is None else str(value)


def _turn(rows: Rows, key: str) -> tuple[str | None, str | None]:
    return rows[key].get("sessionId"), rows[key].get("startedAt")


def _window(proof: Proof, end: str | None) -> float:
    if end == "success":
        return SUCCESS_WINDOW
    return BUSY_WINDOW if proof.other_at_work or end == "compaction" else OTHER_WINDOW
