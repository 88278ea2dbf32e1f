"""The options of ``gpumon plan``. What it does is in ``monitor.commands.plan``, which is loaded when it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from monitor.commands.access_options import reaching
from monitor.commands.option_types import Number

_AT_LEAST_1 = click.IntRange(min=1)


@click.command()
@reaching
@click.option("--model", metavar="MODEL", help="A config.json, its folder, its URL, or a name as on Hugging Face.")
@click.option(
    "--gpu", metavar="GPU", help="H100, A100-80GB, 4090, …, or its memory: 80GiB. Default: what a daemon sees."
)
@click.option("--gpus", type=_AT_LEAST_1, metavar="N", help="How many there are; the fewest that do are taken.")
@click.option("--context", type=_AT_LEAST_1, metavar="TOKENS", help="The longest request. Default: the model's.")
@click.option("--concurrency", type=_AT_LEAST_1, default=1, show_default=True, metavar="N", help="Requests at once.")
@click.option("--typical", type=_AT_LEAST_1, metavar="TOKENS", help="The usual request. Default: the longest.")
@click.option("--tensor-parallel", type=_AT_LEAST_1, metavar="N", help="Default: the fewest GPUs that do.")
@click.option("--pipeline-parallel", type=_AT_LEAST_1, default=1, show_default=True, metavar="N", help="Stages.")
@click.option("--kv-cache-dtype", "kv_dtype", default="auto", show_default=True, metavar="DTYPE", help="auto, fp8, …")
@click.option("--quantization", default="", metavar="METHOD", help="Quantize when loading: fp8, …")
@click.option(
    "--gpu-memory-utilization",
    "utilization",
    type=Number(0.05, 1.0),
    default=0.92,
    show_default=True,
    help="vLLM's share of a GPU.",
)
@click.option(
    "--block-size", type=_AT_LEAST_1, default=16, show_default=True, metavar="TOKENS", help="Of the KV cache."
)
@click.option("--max-num-batched-tokens", "batched_tokens", type=_AT_LEAST_1, metavar="N", help="Default: as vLLM's.")
@click.option("--max-num-seqs", "sequences", type=_AT_LEAST_1, metavar="N", help="Default: as vLLM's.")
@click.option("--kv-memory", metavar="SIZE", help="The KV cache of each GPU, instead of what is left: 40GiB.")
@click.option("--server", metavar="SERVER", help="A running one: http://HOST:PORT, or its name as a daemon has it.")
@click.option("--window", default="24h", show_default=True, metavar="TIME", help="With a name: how far to look back.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def plan(as_json: bool, **given: Any) -> None:
    """Say what a model takes on GPUs, how many requests fit, and what a running server leaves unused.

    \b
    gpumon plan --model config.json --gpu H100 --context 32768 --concurrency 16
    gpumon plan --server http://127.0.0.1:8000

    Blocks, tokens and requests that fit are vLLM's own arithmetic; activations and CUDA's own memory are an estimate.
    """
    if not given["model"] and not given["server"]:
        raise click.UsageError("name a model with --model, a running server with --server, or both")
    from monitor.commands.plan import Asked, run

    sys.exit(run(Asked(**given), as_json=as_json))
