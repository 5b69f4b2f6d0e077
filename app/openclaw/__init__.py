"""OpenClaw's own ground: where it keeps things, how it writes them, who of it is alive."""
