"""A race: OpenClaw's own session-store module writes, somebody repairs beside it, and a third process reads.

`field` is the state dir they meet in, `gateway_writer.mjs` the gateway, `repairers` those who repair, `reader` the one
who only looks, `contest` one race from start to end, `tally` what it gives and the table of many.
"""
