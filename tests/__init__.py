"""Tests of gpumon. Helpers that several tests share are imported as `tests.<folder>.<module>`."""
