"""Marks of bytes: the same for the same, and made beside other threads."""

from __future__ import annotations

import os
import sys
import threading

from app.openclaw.marks import mark_of


def test_the_mark_of_bytes_is_made_of_what_python_hashes_them_to() -> None:
    for data in (b"", b"a", b"a\0b", bytes(range(256)) * 9_000):
        assert mark_of([data, b"x"]) == hash((hash(data), hash(b"x")))


def test_other_threads_run_while_a_mark_is_made() -> None:
    steps, over = [0], threading.Event()

    def go_on() -> None:
        while not over.is_set():
            steps[0] += 1
            os.stat("/")  # which hands the interpreter over

    def went_on_meanwhile() -> bool:
        before = steps[0]
        mark_of([data])
        return steps[0] != before

    data, interval = bytes(8 << 20), sys.getswitchinterval()
    other = threading.Thread(target=go_on)
    sys.setswitchinterval(1_000)  # seconds: nobody has to hand it over
    try:
        other.start()
        assert any(went_on_meanwhile() for _ in range(1_000))
    finally:
        over.set()
        sys.setswitchinterval(interval)
        other.join()
