"""What the tests here share."""

from __future__ import annotations

from tests.nvml_stub.fixtures import nvml, nvml_library

__all__ = ["nvml", "nvml_library"]
