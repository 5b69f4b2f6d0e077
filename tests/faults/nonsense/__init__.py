"""Stores and trajectories that nobody would write, what must hold for each, and a fuzzer that looks for more."""
