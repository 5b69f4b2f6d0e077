"""Marks by which bytes are known again: Python's `hash`, which is SipHash, 64 bits, keyed anew in each process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable

SLICE = 1 << 20
"""Bytes that are marked at once."""


def mark_of(slices: Iterable[bytes]) -> int:
    """Of bytes that are given in slices of SLICE."""
    return hash(tuple(map(_HASH, slices)))


def _load_hash() -> Callable[[bytes], int]:
    """`hash`, in which other threads can run. Python itself holds them up, for a third of a millisecond a slice."""
    python = ctypes.CDLL(None)
    for name in ("Py_HashBuffer", "_Py_HashBytes"):  # the first is there from Python 3.14 on
        try:
            function = python[name]
        except AttributeError:
            continue
        function.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t]
        function.restype = ctypes.c_ssize_t
        return lambda data: int(function(data, len(data)))
    return hash


_HASH = _load_hash()
