"""Fixtures for tests that want the stub driver: a conftest.py imports them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nvml_stub.control import Stub, compile_library

__all__ = ["nvml", "nvml_library"]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled stub library, once for all tests."""
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(tmp_path: Path, nvml_library: Path) -> Iterator[Stub]:
    """A driver with two idle H200."""
    stub = Stub(tmp_path, nvml_library)
    yield stub
    stub.close()
