"""The same workload against one real vLLM, by the probes' client and by ``vllm bench serve`` of the same install, turn
about: so many requests of fixed lengths, so many at once, ``ignore_eos``, temperature 0, and no prompt twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics as median_of
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from monitor.probes import load, statistics
from monitor.probes.client import Client
from monitor.probes.context import Ask, Closed, StepPlan
from monitor.probes.prompts import Prompts
from tests.live import install_vllm
from tests.live.servers import MODEL

VOCABULARY = 2000
"""Of the tiny model."""
SERVER = ("--no-enable-prefix-caching", "--max-num-seqs", "16")
"""A warm-up of ``vllm bench serve`` is its first prompt, which would then be in the cache."""
# The median ITL says little where a server's chunks come in pairs: it is near 0 or twice the pace, by chance.
FIGURES = {
    "TTFT": ("median_ttft_ms", "ms"),
    "TPOT": ("median_tpot_ms", "ms"),
    "ITL": ("median_itl_ms", "ms"),
    "ITL, mean": ("mean_itl_ms", "ms"),
    "E2EL": ("median_e2el_ms", "ms"),
    "output throughput": ("output_throughput", "tok/s"),
}


@dataclass(frozen=True)
class Work:
    """What both are asked for."""

    requests: int = 64
    concurrency: int = 4
    input_tokens: int = 64
    output_tokens: int = 64
    warmups: int = 4
    model: str = MODEL
    as_text: bool = True
    """Ours: prompts as texts, made by the server itself; else as token ids."""


def _texts(url: str, work: Work, seed: int, count: int) -> list[str]:
    """Prompts of exactly so many tokens, as texts: that is how ``vllm bench serve`` sends its own, and a server takes
    a while to make tokens of them."""
    rng = random.Random(seed)
    prompts = Prompts(rng, VOCABULARY)
    texts: list[str] = []
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:

        def tokens(text: str) -> list[int]:
            found: list[int] = http.post("/tokenize", json={"model": work.model, "prompt": text}).json()["tokens"]
            return found

        def text(ids: list[int]) -> str:
            return str(http.post("/detokenize", json={"model": work.model, "tokens": ids}).json()["prompt"])

        while len(texts) < count:
            # What is written of random tokens is read as others: cut or fill until they are as many.
            ids = prompts.tokens(work.input_tokens)
            for _ in range(20):
                made = text(ids)
                ids = tokens(made)
                if len(ids) == work.input_tokens:
                    texts.append(made)
                    break
                ids = (ids + prompts.tokens(work.input_tokens))[: work.input_tokens]
    return texts


def ours(url: str, work: Work, seed: int) -> dict[str, float]:
    """By the probes' client, in the names of ``vllm bench serve``."""
    count = work.requests + work.warmups
    if work.as_text:
        asks = iter([Ask(text, work.output_tokens) for text in _texts(url, work, seed, count)])
    else:
        prompts = Prompts(random.Random(seed), VOCABULARY)
        asks = iter([Ask(prompts.tokens(work.input_tokens), work.output_tokens) for _ in range(count)])
    plan = StepPlan(
        "throughput", "beside", {}, asks, Closed(work.concurrency), requests=work.requests, warmups=work.warmups
    )

    async def run() -> load.LoadResult:
        async with Client(url, work.model) as client:
            return await load.run(client, plan, asyncio.Event())

    made = asyncio.run(run())
    found = statistics.metrics(made.records, made.duration_s)
    figures = {
        "completed": float(found.completed),
        "failed": float(found.failed),
        "total_input_tokens": float(found.input_tokens),
        "total_output_tokens": float(found.output_tokens),
        "output_throughput": found.output_throughput,
    }
    for name in ("ttft", "tpot", "itl", "e2el"):
        figures[f"median_{name}_ms"] = getattr(found, name).median or 0.0
        figures[f"mean_{name}_ms"] = getattr(found, name).mean or 0.0
    return figures


def theirs(url: str, work: Work, seed: int, folder: Path) -> dict[str, float]:
    """By ``vllm bench serve``."""
    command = [
        str(install_vllm.python()), "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai",
        "--base-url", url, "--model", work.model, "--tokenizer", str(install_vllm.model()), "--dataset-name", "random",
        "--random-input-len", str(work.input_tokens), "--random-output-len", str(work.output_tokens),
        "--random-range-ratio", "0", "--num-prompts", str(work.requests), "--num-warmups", str(work.warmups),
        "--max-concurrency", str(work.concurrency), "--ignore-eos", "--temperature", "0", "--seed", str(seed),
        "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99", "--disable-tqdm",
        # As the probes ask: a floor below which no end is allowed costs the server a little at each step.
        "--extra-body", json.dumps({"min_tokens": work.output_tokens}),
        "--save-result", "--result-dir", str(folder), "--result-filename", f"{seed}.json",
    ]  # fmt: skip
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CACHE_ROOT": str(folder / "cache"),
        "VLLM_CONFIG_ROOT": str(folder / "config"), "no_proxy": "*", "TMPDIR": str(folder),
    }  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"vllm bench serve: {done.stderr.strip()[-2000:]}")
    found: dict[str, float] = json.loads((folder / f"{seed}.json").read_text())
    return found


def alternate(url: str, work: Work, folder: Path, rounds: int, seed: int = 1) -> Iterator[dict[str, dict[str, float]]]:
    """Both, so many times, each time the other first."""
    for number in range(rounds):
        one: dict[str, dict[str, float]] = {}
        for kind in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            fresh = seed + 2 * number + (kind == "theirs")
            one[kind] = ours(url, work, fresh) if kind == "ours" else theirs(url, work, fresh, folder)
        yield one


def medians(rounds: list[dict[str, dict[str, float]]]) -> Mapping[str, tuple[float, float]]:
    """Of each figure: ours, theirs."""
    return {
        name: (
            median_of.median(one["ours"][key] for one in rounds),
            median_of.median(one["theirs"][key] for one in rounds),
        )
        for name, (key, _unit) in FIGURES.items()
    }
