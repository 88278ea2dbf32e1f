"""Checks that want a real GPU, and the tests of those checks, which want none."""
