"""Fuzzing of what reads bytes from outside: ``python -m tests.fuzz``. ``targets/`` has one module for each reader."""
