"""The exit codes of the command; docs/reference/cli.md explains each."""

from __future__ import annotations

DONE = NOTHING_STUCK = 0
SOMETHING_STUCK = 1
COULD_NOT_TELL = 2
NOT_NOW = 3
INTERRUPTED = 130
