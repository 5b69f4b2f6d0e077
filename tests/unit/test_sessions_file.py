"""A store on the disk that was read before: what is as it was is neither decoded again nor held in memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.openclaw.folder import FileProblem, Folder, stretch
from app.openclaw.sessions_file import read_store
from app.openclaw.sessions_json import Piece, StoreProblem, rows_of

LIMIT = 1 << 26
PLAIN = [f'"k{number}": {{"sessionId": "s-{number}"}}' for number in range(9)]


def plain(rows: list[str]) -> bytes:
    return f"{{{', '.join(rows)}}}".encode()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder(str(tmp_path)) as opened:
        yield opened


def read(folder: Folder, data: bytes, before: tuple[Piece, ...] = (), size: int = 60) -> tuple[Piece, ...]:
    Path(folder.path, "store").write_bytes(data)
    return read_store(folder, "store", LIMIT, before, size)[0]


def test_a_row_that_changed_has_its_own_piece_read_again_and_no_other(folder: Folder) -> None:
    before = read(folder, plain(PLAIN))
    assert [len(piece.rows) for piece in before] == [3, 3, 3, 0]
    changed = [*PLAIN[:4], '"k4": {"sessionId": "s-x"}', *PLAIN[5:]]

    after = read(folder, plain(changed), before)

    assert [now is then for now, then in zip(after, before, strict=True)] == [True, False, True, True]
    assert [row.session_id for row in after[1].rows] == ["s-3", "s-x", "s-5"]


def test_of_a_store_that_says_the_same_nothing_is_read_again(folder: Folder) -> None:
    before = read(folder, plain(PLAIN))
    after = read(folder, plain(PLAIN), before)
    assert all(now is then for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize(("at", "same"), [(0, [1, 2, 3]), (9, [0, 1, 2, 3])])
def test_a_row_that_came_first_or_last_leaves_the_pieces_of_the_others(
    folder: Folder, at: int, same: list[int]
) -> None:
    before = read(folder, plain(PLAIN))
    after = read(folder, plain([*PLAIN[:at], '"new": {}', *PLAIN[at:]]), before)
    assert [i for i, then in enumerate(before) if any(now is then for now in after)] == same
    assert len(rows_of(after)) == 10


def test_a_byte_that_changed_is_seen_in_every_slice_of_a_piece(folder: Folder) -> None:
    rows = [f'"k{number}": {{"status": "done", "label": "{"x" * 50_000}"}}' for number in range(12)]
    before = read(folder, plain(rows), size=1 << 18)
    assert len(before) == 3
    for changed in range(12):
        new = [*rows[:changed], rows[changed].replace("done", "gone"), *rows[changed + 1 :]]
        after = read(folder, plain(new), before, size=1 << 18)
        assert [row.status for row in rows_of(after)] == ["gone" if n == changed else "done" for n in range(12)]


def test_a_store_of_which_a_row_changed_is_never_in_memory_as_a_whole(folder: Folder) -> None:
    rows = [f'"k{number}": {{"label": "{"x" * 9_000}"}}' for number in range(1_000)]
    before = read(folder, plain(rows), size=1 << 16)
    Path(folder.path, "store").write_bytes(plain([*rows[:500], '"k500": {}', *rows[501:]]))
    tracemalloc.start()
    try:
        after, identity = read_store(folder, "store", LIMIT, before, 1 << 16)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rows_of(after)) == 1_000
    assert most < identity.size / 8


def test_the_limit_and_the_words_are_those_of_a_first_reading(folder: Folder) -> None:
    before = read(folder, plain(PLAIN))
    with pytest.raises(StoreProblem, match=r"the store does not parse: .* at byte 1") as caught:
        read(folder, b"{" + plain(PLAIN), before)
    assert caught.value.code == "not_json"
    with pytest.raises(StoreProblem) as caught:
        read(folder, plain([*PLAIN[:4], PLAIN[8], *PLAIN[5:]]), before)
    assert caught.value.code == "duplicate_keys"
    with pytest.raises(FileProblem) as too_large:
        read_store(folder, "store", 20, before)
    assert too_large.value.code == "too_large"


def written_while_it_is_read(file: Path, writes: Iterator[bytes]) -> Callable[[int, int], bytes | None]:
    """A reading in whose midst a gateway writes the next of `writes` in place."""

    def halves(fd: int, size: int) -> bytes | None:
        first = stretch(fd, 0, size // 2)
        if (new := next(writes, None)) is not None:
            file.write_bytes(new)
            stamp = file.stat().st_mtime_ns + 1_000_000  # the clock of a file system has coarse ticks
            os.utime(file, ns=(stamp, stamp))
        second = stretch(fd, size // 2, size)
        return None if first is None or second is None else first + second

    return halves


@pytest.mark.parametrize("wrote", [b"2" * 10, b"2" * 12, b"2" * 7, b"", b"2" * 4])
def test_a_version_that_is_written_while_it_is_read_is_read_again(folder: Folder, tmp_path: Path, wrote: bytes) -> None:
    file = tmp_path / "store"
    file.write_bytes(b"1" * 10)

    data, identity = folder.read_by("store", LIMIT, written_while_it_is_read(file, iter([wrote])))

    assert data == wrote
    assert identity == folder.identity("store")


def test_a_file_that_is_written_whenever_it_is_read_is_unsteady(folder: Folder, tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_bytes(b"1" * 10)
    with pytest.raises(FileProblem) as caught:
        folder.read_by("store", LIMIT, written_while_it_is_read(file, iter([b"2" * 10, b"3" * 4, b"4" * 4])))
    assert caught.value.code == "unsteady"


def test_a_reading_that_did_not_find_all_bytes_is_made_again_though_the_file_looks_the_same(
    folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "store").write_bytes(b"1" * 10)
    found: Iterator[bytes | None] = iter([None, b"all of it"])
    assert folder.read_by("store", LIMIT, lambda fd, size: next(found))[0] == b"all of it"


def test_a_stretch_that_is_not_there_is_none(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"0123456789")
    with folder.opened("store") as (fd, _):
        assert (stretch(fd, 2, 10), stretch(fd, 4, 4), stretch(fd, 2, 11)) == (b"23456789", b"", None)
