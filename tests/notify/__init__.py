"""Tests of the way from a state change to a message that arrived."""
