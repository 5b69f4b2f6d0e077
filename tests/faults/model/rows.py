"""The store's text as `JSON.stringify(rows, null, 2)` lays it out: one field a line, and every value as the text it is.

Nothing here uses our own reader: a row is a dict from a field's name to the text of its value.
"""

from __future__ import annotations

import json

Row = dict[str, str]
Rows = dict[str, Row]

FOUR = ("status", "endedAt", "runtimeMs", "abortedLastRun")
"""The only fields that a repair may write."""
_NAME = json.JSONDecoder().raw_decode


def text_of(rows: Rows) -> bytes:
    shown = [
        f"  {json.dumps(key, ensure_ascii=False)}: {{\n"
        + ",\n".join(f"    {json.dumps(name)}: {raw}" for name, raw in row.items())
        + "\n  }"
        for key, row in rows.items()
    ]
    return ("{\n" + ",\n".join(shown) + "\n}" if shown else "{}").encode()


def rows_of(data: bytes) -> Rows:
    """The rows of a text that is laid out so. Raises ValueError: also where JSON.parse would."""
    text = data.decode()
    json.loads(text)
    rows: Rows = {}
    row: Row = {}
    for line in text.split("\n")[1:-1]:
        if line.startswith("    "):
            name, end = _NAME(line.strip())
            row[name] = line.strip()[end:].removeprefix(": ").removesuffix(",")
        elif line.startswith('  "'):
            key, _ = _NAME(line.strip())
            row = rows.setdefault(key, {})
        elif line not in ("  },", "  }"):
            raise ValueError(f"not laid out as the gateway does: {line!r}")
    return rows


def without_the_four(rows: Rows) -> list[tuple[str, list[tuple[str, str]]]]:
    """All of it but the four fields, in the order in which it stands."""
    return [(key, [(n, raw) for n, raw in row.items() if n not in FOUR]) for key, row in rows.items()]


def the_four(row: Row) -> Row:
    return {name: row[name] for name in FOUR if name in row}
