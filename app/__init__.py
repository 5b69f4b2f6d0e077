"""Clawmend: proves which OpenClaw sessions are finished and settles their rows, losing nothing."""

__version__ = "0.1.0"
