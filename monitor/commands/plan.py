"""``gpumon plan``: what a model takes on GPUs and how many requests fit; or what a running server leaves unused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

import click

from monitor.commands.for_programs import json_text
from monitor.planning.advice import Advice, advise
from monitor.planning.fetch import load
from monitor.planning.gpus import MIB, BadGpu, Gpu, find, size_of
from monitor.planning.memory import Layout, gib, kv_of_blocks
from monitor.planning.model import BadModel, Model
from monitor.planning.observed import Observed, Rows, of_scrape, of_store
from monitor.planning.plan import Plan, Wish, flags, make, token_size

_LARGE = 70 * 1024 * MIB
"""From this size on vLLM takes 8,192 tokens in a step and 1,024 sequences, else 2,048 and 256."""
_WINDOW = re.compile(r"\d+[smhdw]")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says; None for what it does not."""

    model: str | None
    gpu: str | None
    gpus: int | None
    context: int | None
    concurrency: int
    typical: int | None
    tensor_parallel: int | None
    pipeline_parallel: int
    kv_dtype: str
    quantization: str
    utilization: float
    block_size: int
    batched_tokens: int | None
    sequences: int | None
    kv_memory: str | None
    server: str | None
    url: Any
    window: str


class _Wrong(Exception):
    """A sentence for a person."""


def run(asked: Asked, *, as_json: bool) -> int:
    """Print the plan, the advice, or both; 0, or 1 where what was asked for does not fit or cannot be had."""
    try:
        model = load(asked.model) if asked.model else None
        seen = asyncio.run(_look(asked)) if asked.server else None
        plan = _plan(asked, model, seen) if model is not None else None
    except (BadModel, BadGpu, _Wrong) as error:
        click.echo(f"gpumon plan: {error}", err=True)
        return 1
    advice = advise(seen) if seen is not None else ()
    if as_json:
        click.echo(json_text(_as_json(plan, seen, advice), indent=2))
    else:
        for line in _lines(plan, seen, advice):
            click.echo(line)
    return 0 if plan is None or plan.fit.fits else 1


# -- what is to be planned ---------------------------------------------------------------------------------------------


def _plan(asked: Asked, model: Model, seen: Observed | None) -> Plan:
    kv_memory = None
    if asked.kv_memory is not None:
        kv_memory = size_of(asked.kv_memory)
        if kv_memory is None:
            raise _Wrong(f'--kv-memory "{asked.kv_memory}" is no size, such as 40GiB')
    gpu = _gpu(asked, needed=kv_memory is None)
    large = gpu is not None and gpu.memory >= _LARGE and "a100" not in gpu.name.lower()
    context = asked.context or (seen.context if seen is not None else None) or model.context
    layout = Layout(
        context,
        asked.tensor_parallel or 1,
        asked.pipeline_parallel,
        asked.block_size,
        asked.kv_dtype,
        asked.quantization,
        asked.batched_tokens or (8192 if large else 2048),
        asked.sequences or (1024 if large else 256),
        batches_in_flight=2 if asked.pipeline_parallel == 1 else asked.pipeline_parallel,
    )
    count = asked.gpus or (asked.tensor_parallel or 8) * asked.pipeline_parallel
    return make(
        model,
        gpu,
        count,
        layout,
        Wish(context, asked.concurrency, asked.typical),
        asked.utilization,
        kv_memory=kv_memory,
        choose=asked.tensor_parallel is None,
    )


def _gpu(asked: Asked, *, needed: bool) -> Gpu | None:
    if asked.gpu is not None:
        return find(asked.gpu)
    if not needed:
        return None
    found = asyncio.run(_gpu_here(asked))
    if found is None:
        raise _Wrong("say which GPU it is to run on: --gpu H100, or its memory, --gpu 80GiB; no daemon here sees one")
    return found


async def _gpu_here(asked: Asked) -> Gpu | None:
    """The smallest GPU that a daemon sees."""
    from monitor.client.errors import ClientError

    try:
        used = await _ask(asked, "DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE + DCGM_FI_DEV_FB_RESERVED")
        named = await _ask(asked, "DCGM_FI_DEV_FB_FREE")
    except ClientError:
        return None
    if not used:
        return None
    name = next((labels.get("modelName", "") for labels, _ in named), "")
    return Gpu(name or "GPU", round(min(value for _, value in used) * MIB))


# -- a server that runs ------------------------------------------------------------------------------------------------


async def _look(asked: Asked) -> Observed:
    from monitor.client.errors import ClientError

    server = asked.server or ""
    if server.startswith(("http://", "https://")):
        return await _scrape(server.rstrip("/"))
    if not _WINDOW.fullmatch(asked.window):
        raise _Wrong(f'--window "{asked.window}" is no duration, such as 24h or 7d')
    if any(sign in server for sign in '"\\\n'):
        raise _Wrong(f"{server!r} is no server's name")

    async def ask(expr: str) -> Rows:
        return await _ask(asked, expr)

    try:
        found = await of_store(server, asked.window, ask)
        known = (
            [] if found else sorted({labels.get("server", "") for labels, _ in await ask("vllm:num_requests_running")})
        )
    except ClientError as error:
        raise _Wrong(str(error)) from None
    if found is None:
        raise _Wrong(
            f'nothing is known of a server "{server}" in the last {asked.window}: '
            + (f"there is {', '.join(known)}" if known else "none is watched; give its URL, http://HOST:PORT")
        )
    return found


async def _ask(asked: Asked, expr: str) -> Rows:
    from monitor.client.api import Client
    from monitor.client.discover import find as find_daemon
    from monitor.client.errors import Unreachable

    found = find_daemon(asked.url)
    if found is None:
        raise Unreachable("no daemon runs here", "gpumon", "Name one with --url, or a server with --server http://…")
    async with Client(found.target) as client:
        return [(one.metric, float(one.value[1])) for one in await client.query(expr) if one.value is not None]


async def _scrape(url: str) -> Observed:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
            metrics = await client.get(f"{url}/metrics")
            if metrics.status_code != 200:
                raise _Wrong(f"{url}/metrics: HTTP {metrics.status_code}: is that a vLLM server?")
            models = await client.get(f"{url}/v1/models")
        served = models.json()["data"] if models.status_code == 200 else []
        first = served[0] if isinstance(served, list) and served else {}
        context = first.get("max_model_len")
        return of_scrape(
            url.split("://", 1)[1],
            metrics.text,
            context if isinstance(context, int) else None,
            str(first.get("id", "")),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _Wrong(f"{url}: {str(error) or type(error).__name__}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Wrong(f"{url} does not answer as a vLLM server does: {error}") from None


# -- how it is printed -------------------------------------------------------------------------------------------------


def _lines(plan: Plan | None, seen: Observed | None, advice: Sequence[Advice]) -> Iterator[str]:
    if plan is not None:
        yield from _plan_lines(plan)
    if seen is not None:
        if plan is not None:
            yield ""
        yield from _seen_lines(seen, plan)
        for one in advice:
            sign = {"warning": "!", "good": "+", "info": "-"}[one.level]
            yield from _wrapped(f"  {sign} ", one.text)
            for flag in one.flags:
                yield f"      {flag}"


def _plan_lines(plan: Plan) -> Iterator[str]:
    model, fit, layout = plan.model, plan.fit, plan.fit.layout
    yield f"{model.name}   {_count(model.parameters)} parameters{_active(model)}, {_made_of(model)}"
    on = f"on {fit.gpus} × {plan.gpu.name} ({gib(plan.gpu.memory):.1f} GiB each)" if plan.gpu else f"on {fit.gpus} GPUs"
    shared = [f"tensor parallel {layout.tensor_parallel}"] if layout.tensor_parallel > 1 else []
    shared += [f"pipeline parallel {layout.pipeline_parallel}"] if layout.pipeline_parallel > 1 else []
    yield ", ".join([on, *shared])
    yield ""
    if (share := fit.share) is not None:
        how = "of its files" if share.weights_known else "reckoned from its shape"
        left = f"what is left of {plan.utilization:.0%}"
        yield f"each GPU{'GiB':>34}"
        yield from (
            f"  {what:<29}{gib(size):>11.1f}   {note}"
            for what, size, note in (
                ("weights", share.weights, how),
                ("the largest step", share.step, "an estimate"),
                ("CUDA, graphs, NCCL", share.other, "an estimate"),
                ("KV cache", share.kv, left if share.kv > 0 else f"{left}: it does not fit"),
            )
        )
        yield ""
    if fit.kv is not None:
        each, whole = token_size(model, layout)
        windows = "; layers with a window keep theirs alone" if any(one.window for one in model.layers) else ""
        yield f"KV cache of {gib(fit.kv_memory):.1f} GiB on each GPU"
        yield f"  one token takes      {whole / 1024:,.1f} KiB, {each / 1024:,.1f} on each GPU{windows}"
        yield f"  it holds             {fit.kv.tokens:,} tokens, {fit.kv.blocks:,} blocks of {layout.block_size}"
        yield f"  requests at once     {fit.kv.requests:,.2f} of {layout.context:,} tokens, the longest"
        if plan.wish.typical is not None and plan.wish.typical < layout.context:
            yield f"                       {fit.at_once:,.2f} of {plan.wish.typical:,} tokens, the usual"
    wish = plan.wish
    usual = f"{wish.typical or wish.context:,} tokens"
    verdict = "fits" if fit.fits else "DOES NOT FIT"
    yield f"  {wish.concurrency} at once, of {usual} each: {verdict}"
    if plan.others:
        yield ""
        yield "what would fit, or come nearer"
        for other in plan.others:
            word = "fits" if other.fit.fits else "not yet"
            yield f"  {other.change:<45}{other.fit.at_once:>9,.2f} at once   {word}"
    for note in plan.notes:
        yield from _wrapped("  note: ", note)
    yield ""
    yield "vllm serve " + " \\\n    ".join([model.name, *flags(plan)])


def _seen_lines(seen: Observed, plan: Plan | None) -> Iterator[str]:
    yield f"{seen.server}   {seen.model or 'model unknown'}   {seen.since}"

    def line(what: str, text: str | None) -> Iterator[str]:
        if text is not None:
            yield f"  {what:<21}{text}"

    held = None if seen.kv_tokens is None else f"{seen.kv_tokens:,} tokens"
    if held and seen.blocks and seen.block_size:
        held += f", {seen.blocks:,} blocks of {seen.block_size}"
    yield from line("KV cache", held)
    if seen.kv_requests and seen.context:
        yield from line("requests at once", f"{seen.kv_requests:,.2f} of {seen.context:,} tokens, the longest")
    yield from line("KV cache used", None if seen.kv_usage_max is None else f"{seen.kv_usage_max:.1%} at the most")
    running = None if seen.running_max is None else f"{seen.running_max:,.0f} at the most"
    if running and seen.waiting_max is not None:
        running += f", {seen.waiting_max:,.0f} waiting"
    yield from line("running", running)
    if seen.prompt_mean is not None and seen.output_mean is not None:
        beyond = "more than " if seen.longest_open else "at most "
        longest = "" if seen.longest is None else f"; {beyond}{seen.longest:,} together"
        yield from line("lengths", f"{seen.prompt_mean:,.0f} in, {seen.output_mean:,.0f} out, mean{longest}")
    yield from line("prefix hits", None if seen.hit_rate is None else f"{seen.hit_rate:.1%} of prompt tokens")
    if plan is not None and seen.blocks and plan.fit.kv is not None and seen.kv_tokens:
        ours = kv_of_blocks(plan.model, plan.fit.layout, seen.blocks)
        yield from line("by the formulas", f"{ours.tokens:,} tokens in as many blocks")


def _wrapped(sign: str, text: str) -> Iterator[str]:
    yield from wrap(text, 100, initial_indent=sign, subsequent_indent=" " * len(sign), break_on_hyphens=False)


def _made_of(model: Model) -> str:
    kinds = {kind: sum(1 for one in model.layers if one.kind == kind) for kind in ("full", "sliding", "chunked")}
    layers = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    if kinds["full"] == len(model.layers) and not model.others:
        layers = f"{len(model.layers)}"
    heads = f"{model.heads} heads, {model.kv_heads} KV heads of {model.head}"
    if (latent := model.latent) is not None:
        heads = f"{model.heads} heads, MLA of {latent.kv_rank}+{latent.rope}"
    weights = model.quantization or model.dtype
    return f"{layers} layers, {heads}, {weights}"


def _active(model: Model) -> str:
    return f" ({_count(model.active_parameters)} active)" if model.experts is not None else ""


def _count(number: float) -> str:
    return f"{number / 1e9:,.1f} B" if number >= 1e9 else f"{number / 1e6:,.1f} M"


def _as_json(plan: Plan | None, seen: Observed | None, advice: Sequence[Advice]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if plan is not None:
        each, whole = token_size(plan.model, plan.fit.layout)
        found["plan"] = {
            **asdict(plan),
            "parameters": plan.model.parameters,
            "active_parameters": plan.model.active_parameters,
            "token_bytes": whole,
            "token_bytes_per_gpu": each,
            "gpus": plan.fit.gpus,
            "flags": list(flags(plan)),
        }
    if seen is not None:
        found["server"] = asdict(seen)
        found["advice"] = [asdict(one) for one in advice]
    return found
