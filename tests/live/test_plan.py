"""`gpumon plan` beside what a real vLLM logs of its KV cache, for shapes of models that make it differently."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.planning.gpus import GIB
from monitor.planning.memory import Layout, kv_of
from monitor.planning.model import read_model
from tests.live import install_vllm
from tests.live.servers import real_vllm
from tests.planning.models import GQA, HYBRID, LATENT

pytestmark = pytest.mark.live

_LOGGED = re.compile(r"KV cache size: ([\d,]+) tokens, Maximum concurrency for ([\d,]+) tokens per request: ([\d.]+)x")
_CONTEXT = 1024
"""What ``real_vllm`` is told."""


@pytest.mark.parametrize(
    ("config", "block_size", "arguments", "layout"),
    [
        (GQA, 128, ("--kv-cache-dtype", "fp8"), {"kv_dtype": "fp8"}),
        (HYBRID, 128, ("--max-num-batched-tokens", "256"), {"batched_tokens": 256}),
        (LATENT, 16, (), {}),
    ],
    ids=["grouped heads, fp8", "windows and full", "latent"],
)
def test_the_kv_cache_is_as_large_as_vllm_says(
    tmp_path: Path, config: dict[str, Any], block_size: int, arguments: tuple[str, ...], layout: dict[str, Any]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(install_vllm.model(), model)
    (model / "config.json").write_text(json.dumps(config))
    with real_vllm(tmp_path, *arguments, model=model) as server:
        logged = _LOGGED.search(server.process.log.read_text())
        assert logged is not None, server.process.tail()
        tokens, context, requests = (float(part.replace(",", "")) for part in logged.groups())
        assert context == _CONTEXT
        given: dict[str, Any] = {"batched_tokens": 2048, **layout}
        plan = Layout(_CONTEXT, block_size=block_size, batches_in_flight=1, **given)
        found = kv_of(read_model(config), plan, GIB)
        print(f"\n{os.path.basename(tmp_path)}: vLLM {tokens:,.0f} tokens, {requests}x; plan {found.tokens:,}")
        assert (found.tokens, f"{found.requests:.2f}") == (tokens, f"{requests:.2f}")
        # And of the running server, by what it reports.
        told = json.loads(CliRunner().invoke(cli, ["plan", "--server", server.url, "--json"]).stdout)["server"]
        assert (told["context"], told["kv_tokens"], told["block_size"]) == (_CONTEXT, tokens, block_size)
        assert told["kv_requests"] == pytest.approx(requests, abs=0.01)
