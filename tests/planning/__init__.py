"""Tests of ``monitor.planning``."""
