"""Clawmend beside real gateways from npm, with a model server of our own: `make test-live`."""
