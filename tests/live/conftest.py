"""What tests of the live tier share: one vLLM, made for preemption storms, for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.servers import STORM_ARGUMENTS, Vllm, real_vllm


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """A real vLLM whose KV cache is too small for 16 requests of 500 tokens. A test that loads it waits for its end."""
    with real_vllm(tmp_path_factory.mktemp("vllm"), *STORM_ARGUMENTS) as server:
        yield server
