"""Tests of the rules: files, templates, the engine over moved time, and the shipped rules."""
