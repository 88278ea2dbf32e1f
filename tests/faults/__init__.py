"""Breaks a real daemon, one thing at a time, and looks at what was told and what was lost: `python -m tests.faults`."""
