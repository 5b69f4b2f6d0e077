"""Stores and trajectories grown from single choices, whoever makes them: Hypothesis, or chance with a seed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
Below = Callable[[int], int]
"""A choice: a number from 0 to one below what is asked; 0 is the plainest."""

SPACES = ("", "", "", " ", "\n  ", "\t", "\r\n", " \t\r\n ")
NUMBERS = (
    "0", "1", "-0", "1795327557860", "1795327557860.9", "9007199254740991", "9007199254740992", "9007199254740993",
    "-9007199254740993", "18446744073709551616", "1e400", "-1e400", "1E+3", "1.0e-7", "0.1", "-0.0", "1.5e300",
    "123456789012345678901234567890", "9" * 401, "9" * 4301, "-" + "8" * 4500, "1" + "0" * 400 + ".5", "4.9e-324",
    "1e-400",
)  # fmt: skip
STRINGS = (
    '"running"', '"done"', '""', '"s-1"', '"\\ud83d"', '"\\ude00\\ud83d"', '"\\ud83d\\ude00"', '"é😀\u2028\x7f"',
    '"run\\u006eing"', '"\\/\\b\\f\\n\\r\\t\\"\\\\"', '"}{][,:\\""', '"\\u0000"', '"{\\"type\\":\\"session.ended\\"}"',
    '"2026-11-22T05:59:38.961Z"', '"agent:main:main"', '"Ã©"', '"\\u00e9"', '"\ufeff"',
)  # fmt: skip
WRONG = (
    "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "-", "1e", "0x1", "'a'", "undefined", '"\n"', '"\t"',
    '"\x00"', '"\\x41"', '"\\u12g4"', '"\\ud8', "tru", "True", "{,}", "[1,]", "{1:2}", "//", "/* */", "\ufeff", "\x0b",
    "\xa0", '"\\u+123"', '"\\u 123"', '"a', "1_000", "²",
)  # fmt: skip
KEYS = (
    '"agent:main:main"', '"agent:main:\\u006dain"', '"a"', '"agent:main:é"', '"agent:main:\\u00e9"',
    '"agent:main:\\ud83d"', '""', '"status"', '"__proto__"', '"1"', '"agent:main:?"', '"\\"\\\\"', '"agent:main:Ã©"',
)  # fmt: skip
FIELDS = (
    '"status"', '"endedAt"', '"runtimeMs"', '"abortedLastRun"', '"startedAt"', '"sessionId"', '"updatedAt"', '"x"',
    '"st\\u0061tus"', '"\\u0065ndedAt"', '"é"', '"restartRecoveryRuns"', '"restartRecovery\\ud83d"', '"spawnedBy"',
    '"usageFamilySessionIds"', '"sessionFile"', '"pendingFinalDelivery"', '"__proto__"', '""',
)  # fmt: skip


def pick(below: Below, options: Sequence[T]) -> T:
    return options[below(len(options))]


def value(below: Below, room: int = 3) -> str:
    kind = below(12 if room else 8)
    if kind < 3:
        return pick(below, STRINGS)
    if kind < 6:
        return pick(below, NUMBERS)
    if kind < 8:
        return pick(below, ("true", "false", "null", "{}", "[]", "[ ]"))
    if kind < 10:
        inner = [value(below, room - 1) for _ in range(below(4))]
        return "[" + pick(below, SPACES) + (pick(below, SPACES) + ",").join(inner) + "]"
    return object_of(below, [(pick(below, FIELDS), value(below, room - 1)) for _ in range(below(4))])


def object_of(below: Below, named: list[tuple[str, str]]) -> str:
    members = [f"{n}{pick(below, SPACES)}:{pick(below, SPACES)}{v}" for n, v in named]
    between = pick(below, SPACES) + "," + pick(below, SPACES)
    return "{" + pick(below, SPACES) + between.join(members) + pick(below, SPACES) + "}"


def row(below: Below) -> str:
    """Mostly a running row, with fields missing, twice, of any type and in any order."""
    named = [('"sessionId"', '"s-1"'), ('"status"', '"running"'), ('"startedAt"', pick(below, NUMBERS[:8]))]
    for _ in range(below(7)):
        at = below(len(named) + 1)
        named.insert(at, (pick(below, FIELDS), value(below)))
    if below(3):  # most rows name no field twice
        named = list({json.loads(name): (name, held) for name, held in named}.values())
    for _ in range(below(3)):
        named.pop(below(len(named))) if named else None
    return object_of(below, named)


def store(below: Below) -> bytes:
    """A store that JSON.parse would take, but for its flaws if it has any: see `flawed`."""
    keys = [pick(below, KEYS) for _ in range(below(5))]
    if below(4):
        keys = list({json.loads(key): key for key in keys}.values())
    rows: list[tuple[str, str]] = []
    for key in keys:
        kind = below(8)
        rows.append((key, rows[-1][1] if kind == 7 and rows else row(below) if kind else value(below)))
    text = pick(below, SPACES) + object_of(below, rows) + pick(below, SPACES)
    return text.encode("utf-8", "surrogatepass")


NOISE = (
    b"\xff",
    b"\xed\xa0\xbd",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\0",
    b"\r",
    b"\n",
    b"{",
    b"}",
    b'"',
    b"\\",
    b",",
    b":",
    b"0",
)


WORD = re.compile(rb"[-+.\w]+")


def flawed(below: Below, data: bytes) -> bytes:
    """`data` with one to three things wrong with it."""
    for _ in range(1 + below(3)):
        at = below(len(data) + 1)
        kind = below(6)
        if kind == 0:
            data = data[:at] + pick(below, NOISE) + data[at:]
        elif kind == 1:
            word = WORD.search(data, at)
            start, end = word.span() if word and below(3) else (at, at + below(8))
            data = data[:start] + pick(below, WRONG).encode() + data[end:]
        elif kind == 2:
            data = data[:at] + data[at + 1 + below(4) :]
        elif kind == 3:
            data = data[:at]
        elif kind == 4:
            data = data[:at] + data[at : at + below(40)] + data[at:]
        else:
            deep = pick(below, (2, 50, 480, 960, 980, 990, 1000, 2000))
            data = data[:at] + b"[" * deep + b"]" * deep + data[at:]
    return data


TYPES = (
    '"session.ended"',
    '"session.started"',
    '"model.completed"',
    '"trace.truncated"',
    '""',
    '"session.\\u0065nded"',
    "7",
)
TIMES = (
    '"2026-11-22T05:59:38.961Z"', '"2026-11-22T05:59:38Z"', '"2026-11-22T05:59:38.9615Z"', '"2026-11-22T05:59:38.961"',
    '"2026-11-22T05:59:38.961+00:00"', '"2026-11-22 05:59:38Z"', '"2026-02-30T00:00:00Z"', '"2026-11-22T24:00:00Z"',
    '"2026-12-31T23:59:60Z"', '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999Z"',
    '"+010000-01-01T00:00:00Z"', '"２０２６-11-22T05:59:38Z"', '"2026-11-22T05:59:38.961Z\\n"',
    '"2026-W47-7T00:00:00Z"',
    "1795327557860", "null", '""', '"2026-11-22T05:59:38.9999995Z"', '"2026-11-22T05:59:38.0005Z"',
)  # fmt: skip
ERRORS = (
    "Context overflow", "max tokens", "maxmaxmax", "prompt is too long", "request timed out", "max_input_x tokens",
    "context - length", "429", "x" * 300,
)  # fmt: skip


def line(below: Below) -> str:
    """An event, mostly as OpenClaw writes it."""
    named = {
        "traceSchema": '"openclaw-trajectory"' if below(12) else pick(below, STRINGS),
        "schemaVersion": "1" if below(12) else pick(below, ("1.0", "true", "2", '"1"', "1e0", "null")),
        "traceId": '"s"',
        "source": '"runtime"',
        "type": pick(below, TYPES[:3]) if below(4) else pick(below, TYPES),
        "ts": TIMES[0] if below(3) else pick(below, TIMES),
        "seq": pick(below, NUMBERS[:4]),
        "sourceSeq": pick(below, NUMBERS[:4]),
        "sessionId": '"s"',
        "sessionKey": '"agent:main:main"' if below(3) else pick(below, STRINGS),
        "runId": pick(below, ('"r-1"', '"r-2"', *STRINGS)),
        "data": _data(below),
    }
    for _ in range(below(3)):
        if not below(3):
            del named[pick(below, sorted(named))]
    if not below(8):
        return object_of(
            below, [(json.dumps(n), v) for n, v in named.items()] + [(pick(below, ('"type"', '"ts"')), value(below))]
        )
    return "{" + ",".join(f'"{n}":{v}' for n, v in named.items()) + "}"


def _data(below: Below) -> str:
    if not below(4):
        return value(below)
    flags = ("aborted", "externalAbort", "timedOut", "idleTimedOut", "timedOutDuringCompaction", "yieldDetected")
    named = {"status": pick(below, ('"success"', '"error"', '"interrupted"', '"cleanup"', *STRINGS))}
    for _ in range(below(4)):
        named[pick(below, flags)] = pick(below, ("true", "false", "1", '"true"'))
    if not below(2):
        name = pick(below, ("promptError", "terminalError"))
        named[name] = json.dumps(pick(below, ERRORS)) if below(3) else value(below)
    return "{" + ",".join(f'"{n}":{v}' for n, v in named.items()) + "}"


def trajectory(below: Below) -> bytes:
    """Lines, torn ones, blank ones, lines with other ends, and some that are no events."""
    ends = ("\n", "\n", "\n", "\n", "\n", "\r\n", "\n\n", "\n \t\n", "\r", "", "\n\0\n")
    text = "".join(line(below) + pick(below, ends) for _ in range(below(5)))
    if not below(4):
        text += line(below)[: below(200)]
    return text.encode("utf-8", "surrogatepass")
