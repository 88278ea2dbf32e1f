"""What the server is, before it is loaded: its model and limits, from which token ids a prompt can be made, what its
API takes, and whether it has other work.

``find`` and ``busy`` send nothing that the engine computes; ``try_out`` sends a few tokens, twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import math
import random
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from monitor import __version__
from monitor.plain import one_line
from monitor.probes.accuracy_text import TEXT
from monitor.probes.context import Ask
from monitor.probes.errors import CannotStart
from monitor.probes.prompts import Prompts
from monitor.probes.schema import Facts, Record, Spec
from monitor.records import replace

MANY_SCRIPTS = (
    "Größe, façade, señor, naïveté, łódka, åska, İstanbul; ΑΒΓΔ αλφάβητο; Привет, как дела? Здравствуйте; "
    "日本語のテキスト、ひらがなとカタカナ。 漢字。 你好，世界！今天天气很好。 "
    "안녕하세요 세계; مرحبا بالعالم; שלום עולם; "
    "नमस्ते दुनिया; สวัสดีชาวโลก; 1234567890 3.14159 0x7f; ∑∫√≤≥ ±×÷ €£¥; 😀🚀🎉👍; {[()]} <html><body></body></html> "
    '\n\n\t\tfor (int i = 0; i < n; ++i) { printf("%d\\n", i); } SELECT * FROM table WHERE id = 1;'
)
"""Its tokens, with those of ``TEXT``, show how far the vocabulary reaches."""
SPECIAL = (
    "<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>",
    "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|im_start|>", "<|im_end|>", "<|end|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<|eos|>",
    "<|bos|>", "<|return|>", "<|start|>", "<|message|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<think>",
    "</think>", "<tool_call>", "</tool_call>",
)  # fmt: skip
"""What begins or ends a text or a turn in the vocabularies that are about."""
UNTOLD_IDS = range(1000, 8000)
"""Where the server does not tokenize for us: ids that every vocabulary of 32,000 and more has, none of them special."""
SMALL_OUTPUT = 4
BUSY_SECONDS = 1.5
_SECONDS = 10.0
"""For an answer that costs the engine nothing."""
_CANARY_TOKENS = 2
_CACHE_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs")
_WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs")
_GENERATED = ("vllm:generation_tokens_total", "vllm:generation_tokens", "sglang:generation_tokens_total")
_CACHE_CONFIG = "vllm:cache_config_info"
_CLOUDS = {"169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "metadata.google.internal"}
"""Where a machine in a cloud asks for its own credentials, and would do so for whoever may start a probe."""


class Http(Protocol):
    """As ``monitor.probes.client.Client``: the status and the text of an answer. Raises ``CannotStart`` where there is
    none."""

    async def get(self, path: str) -> tuple[int, str]: ...

    async def post(self, path: str, body: object = None) -> tuple[int, str]: ...


Send = Callable[[Ask], Awaitable[Record]]


@dataclass(frozen=True, slots=True)
class Target:
    """A server, as far as it is known."""

    facts: Facts
    avoid: frozenset[int] = frozenset()
    """Ids that begin or end a text, or a turn."""
    metrics: bool = False
    """Whether its ``/metrics`` says what it has to do."""
    ids: bool = True
    """Whether it takes token ids for a prompt; else words, and then no prompt's length is exact."""
    exact: bool = True
    """Whether it takes ``ignore_eos`` and ``min_tokens``."""
    usage: bool = True
    """Whether it takes ``stream_options``, and says how many tokens there were."""
    notes: tuple[str, ...] = ()
    """What it cannot, and what follows."""
    other_models: tuple[str, ...] = field(default=())


# -- looking ----------------------------------------------------------------------------------------------------------


def address(url: str) -> str:
    """The server's address without a path, however it was written: ``…/v1`` and a slash at the end are taken off.
    Raises ``CannotStart`` for what is none."""
    base = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(base)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        # After either of them no path of ours would be one: what was named would be called, whatever it is.
        valid = valid and not {"?", "#"} & set(base)
    except ValueError:
        valid = False
    if not valid:
        raise CannotStart(f"{url!r} is no server's address: write it as http://127.0.0.1:8000")
    if _numeric(parts.hostname or "") in _CLOUDS:
        raise CannotStart(f"{parts.hostname} is where a cloud keeps its machines' secrets: no server is probed there")
    return base


def _numeric(host: str) -> str:
    """A host as it would be reached: an address in its usual form, however it was written; else the name."""
    with contextlib.suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))  # 0xa9fea9fe and 2852039166, too
    with contextlib.suppress(ValueError):
        found = ipaddress.IPv6Address(host)
        return str(found.ipv4_mapped or found)
    return host.rstrip(".")


async def find(http: Http, spec: Spec) -> Target:
    """What the server is. Raises ``CannotStart`` where it does not answer, does not let us in or does not serve the
    model. Nothing that it is asked here costs its engine a step."""
    model, limit, owner, others = _model(spec, await _models(http, spec))
    metrics = await _text(http, "/metrics")
    known = metrics is not None and any(line.startswith((*_RUNNING, *_GENERATED)) for line in metrics.splitlines())
    notes: list[str] = []
    if not known:
        why = "it has no /metrics" if metrics is None else "its /metrics are not vLLM's"
        notes.append(f"whether the server has other work cannot be seen: {why}")
    caches = _cache_configs(metrics or "")
    labels = caches[0] if caches else {}
    version = await _version(http, owner, metrics or "")
    vocabulary, avoid = await _vocabulary(http, model)
    if vocabulary is None:
        notes.append(
            "the server has no /tokenize, or not vLLM's: prompts are made of the ids "
            f"{UNTOLD_IDS.start}–{UNTOLD_IDS.stop - 1}"
        )
    block = _int(labels.get("block_size"))
    facts = Facts(
        server=spec.server or urlsplit(address(spec.url)).netloc.rpartition("@")[2],
        url=address(spec.url),
        model=model,
        server_version=version,
        max_model_len=limit,
        vocabulary=vocabulary,
        block_size=block,
        kv_cache_tokens=_kv_cache_tokens(caches, block),
        cache_config=labels,
        prefix_caching={"True": True, "False": False}.get(labels.get("enable_prefix_caching", "")),
        gpumon=__version__,
        simulated=spec.simulated,
    )
    return Target(facts, avoid, known, notes=tuple(notes), other_models=others)


async def _models(http: Http, spec: Spec) -> list[dict[str, Any]]:
    url = f"{address(spec.url)}/v1/models"
    try:
        async with asyncio.timeout(_SECONDS):
            status, text = await http.get("/v1/models")
    except TimeoutError as error:
        raise CannotStart(f"{url} gave no answer within {_SECONDS:g} s: does the server still load?") from error
    except CannotStart as error:
        raise CannotStart(f"no server answers at {address(spec.url)}: {error.why or error}", error.why) from error
    if status in (401, 403):
        raise CannotStart(f"{url} does not let us in (HTTP {status}): give the server's API key with --api-key-file")
    if status != 200:
        raise CannotStart(f"{url} answers HTTP {status}: {words(text)}; is this an OpenAI-compatible server?")
    try:
        models = [model for model in json.loads(text)["data"] if isinstance(model.get("id"), str)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CannotStart(f"{url} does not say which models it serves: is this an OpenAI-compatible server?") from None
    if not models:
        raise CannotStart(f"{url} serves no model now")
    return models


def _model(spec: Spec, models: Sequence[dict[str, Any]]) -> tuple[str, int | None, str, tuple[str, ...]]:
    """The model to ask for, its longest context, who made the server, and the other models."""
    names = [str(model["id"]) for model in models]
    if spec.model and spec.model not in names:
        raise CannotStart(f"{address(spec.url)} does not serve {spec.model!r}; it serves {', '.join(names[:20])}")
    model = next(each for each in models if each["id"] == spec.model) if spec.model else models[0]
    limit = model.get("max_model_len")
    owner = model.get("owned_by")
    if not isinstance(limit, int) and isinstance(model.get("parent"), str):
        # An adapter takes what its base model takes.
        limit = next((each.get("max_model_len") for each in models if each["id"] == model["parent"]), None)
    name = str(model["id"])
    return (
        name,
        limit if isinstance(limit, int) else None,
        owner if isinstance(owner, str) else "",
        tuple(each for each in names if each != name),
    )


async def _text(http: Http, path: str, body: dict[str, Any] | None = None) -> str | None:
    """What it answers; None for anything but 200. That the server is there has been seen."""
    try:
        async with asyncio.timeout(_SECONDS):
            status, text = await (http.get(path) if body is None else http.post(path, body))
    except (CannotStart, TimeoutError):
        return None
    return text if status == 200 else None


async def _version(http: Http, owner: str, metrics: str) -> str:
    text = await _text(http, "/version")
    try:
        said = json.loads(text or "")["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return owner if owner not in ("", "system", "user", "organization-owner") else ""
    is_vllm = owner == "vllm" or "vllm:" in metrics
    return f"vLLM {said}" if is_vllm else f"{owner} {said}".strip()


def _cache_configs(metrics: str) -> list[dict[str, str]]:
    """What each engine says of its cache; several are engines of data parallelism."""
    return [
        {name: value.replace('\\"', '"') for name, value in _CACHE_LABEL.findall(line)}
        for line in metrics.splitlines()
        if line.startswith(_CACHE_CONFIG + "{")
    ]


def _int(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _kv_cache_tokens(caches: Sequence[dict[str, str]], block: int | None) -> int | None:
    """Of all engines together; None where one does not say."""
    found: list[int] = []
    for labels in caches:
        said, blocks = _int(labels.get("kv_cache_size_tokens")), _int(labels.get("num_gpu_blocks"))
        if said is None and blocks is not None and block is not None:
            said = blocks * block
        if said is None:
            return None
        found.append(said)
    return sum(found) if found else None


async def _vocabulary(http: Http, model: str) -> tuple[int | None, frozenset[int]]:
    """A range of ids that are all in the vocabulary, and those in it that are special.

    The highest id of a long and mixed text: each below it exists, since ids are numbered through, and none has to be
    tried out, which some servers do not survive. The whole vocabulary is larger, and nothing is lost by that."""
    highest = -1
    for text in (TEXT, MANY_SCRIPTS):
        ids = await _tokenize(http, model, text)
        if not ids:
            return None, frozenset()
        highest = max(highest, *ids)
    special: set[int] = set()
    for word in SPECIAL:
        ids = await _tokenize(http, model, word) or []
        if len(ids) == 1:  # it is a token of its own
            special.add(ids[0])
    begins = await _tokenize(http, model, "", add_special=True)
    return highest + 1, frozenset({*special, *(begins or [])})


async def _tokenize(http: Http, model: str, text: str, add_special: bool = False) -> list[int] | None:
    answer = await _text(http, "/tokenize", {"model": model, "prompt": text, "add_special_tokens": add_special})
    try:
        ids = json.loads(answer or "")["tokens"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return ids if isinstance(ids, list) and all(isinstance(one, int) and one >= 0 for one in ids) else None


# -- other work -------------------------------------------------------------------------------------------------------


def total(metrics: str, names: Sequence[str]) -> float | None:
    """The sum of all samples of the first of these that is there; what is no sample is none."""
    for name in names:
        lines = [line for line in metrics.splitlines() if line.startswith((name + "{", name + " "))]
        found = [value for line in lines if (value := _value(line)) is not None]
        if found:
            return sum(found)
    return None


def _value(line: str) -> float | None:
    try:
        value = float(line.rsplit("}", 1)[-1].split()[0] if "}" in line else line.split()[1])
    except (ValueError, IndexError):
        return None
    return value if math.isfinite(value) else None


async def busy(
    http: Http, seconds: float = BUSY_SECONDS, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> str:
    """What other work it has: ``12 running, 3 waiting, 480 tok/s for others``; "" for none, and where it does not say.

    It is looked at four times: a canary of gpumon's, one token that is there and gone, is no work."""
    first: float | None = None
    last: float | None = None
    seen: list[tuple[float, float]] = []
    looks = 4
    for look in range(looks):
        if look:
            await sleep(seconds / (looks - 1))
        metrics = await _text(http, "/metrics")
        if metrics is None:
            continue
        generated = total(metrics, _GENERATED)
        if generated is not None:
            first, last = generated if first is None else first, generated
        running, waiting = total(metrics, _RUNNING), total(metrics, _WAITING)
        if running is not None or waiting is not None:
            seen.append((running or 0.0, waiting or 0.0))
    tokens = max(0.0, last - first) if first is not None and last is not None else 0.0
    always = bool(seen) and all(running + waiting > 0 for running, waiting in seen)
    several = any(running + waiting > 1 for running, waiting in seen)
    if not always and not several and tokens <= _CANARY_TOKENS:
        return ""
    running, waiting = max(seen, default=(0.0, 0.0), key=sum)
    parts = [f"{running:.0f} running"] if running else []
    parts += [f"{waiting:.0f} waiting"] if waiting else []
    parts += [f"{tokens / seconds:,.0f} tok/s for others"] if tokens > _CANARY_TOKENS else []
    return ", ".join(parts)


# -- trying out -------------------------------------------------------------------------------------------------------


_WAYS = (
    (True, True, True), (True, False, True), (False, True, True), (False, False, True), (True, False, False),
    (False, False, False),
)  # fmt: skip
"""To ask, the most exact one first: with token ids, with ``ignore_eos``, with ``stream_options``."""


async def try_out(send: Send, target: Target, rng: random.Random, *, chat: bool = False) -> Target:
    """Send a small request, in the plainest way that the server takes it, and the same again to see what usage says of
    a cache. Raises ``CannotStart`` where it takes none."""
    refusal: Record | None = None
    for ids, exact, usage in _WAYS:
        if chat and not ids:
            continue  # chat has no token ids in any case: the client writes words for them
        tried = replace(target, ids=ids, exact=exact, usage=usage)
        ask = small(tried, rng)
        record = await send(ask)
        if record.outcome == "ok":
            return _learn(tried, ask, (record, await send(ask)), refusal, chat=chat)
        refusal = refusal or record
        if record.outcome != "http" or record.status not in (400, 404, 415, 422, 501):
            break
    said = refusal.error or str(refusal.outcome) if refusal is not None else ""
    raise CannotStart(f"{target.facts.url} does not answer a small request for {target.facts.model}: {said}")


def small(target: Target, rng: random.Random) -> Ask:
    """A request of a few tokens, long enough for two blocks of the cache where the model takes that."""
    length = min(2 * (target.facts.block_size or 16) + 8, 600)
    if target.facts.max_model_len is not None:
        length = max(1, min(length, target.facts.max_model_len - SMALL_OUTPUT))
    return dialect(Ask(prompts(target, rng).tokens(length), SMALL_OUTPUT), target)


def prompts(target: Target, rng: random.Random) -> Prompts:
    """What draws prompts for it."""
    if target.facts.vocabulary is None:
        return Prompts(rng, UNTOLD_IDS.stop, frozenset(range(UNTOLD_IDS.start)))
    return Prompts(rng, target.facts.vocabulary, target.avoid)


_WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea kid body face door "
    "reason art war history party result change morning girl guy moment air teacher force road paper music ring tree"
)
WORDS = tuple(_WORDS.split())
"""One token each, more or less, in most vocabularies."""


def dialect(ask: Ask, target: Target) -> Ask:
    """The request in the way in which the server takes it: words for ids, and without what it refuses."""
    if not target.exact and ask.exact:
        ask = replace(ask, exact=False)
    if not target.usage:
        ask = replace(ask, extra={**ask.extra, "stream_options": None})
    if not target.ids and not isinstance(ask.prompt, str):
        # Two prompts that begin alike share the beginning, as they do when they are ids: a workload may mean that.
        ask = replace(ask, prompt=" ".join(WORDS[one % len(WORDS)] for one in ask.prompt))
    return ask


def _learn(target: Target, ask: Ask, pair: tuple[Record, Record], refusal: Record | None, *, chat: bool) -> Target:
    """What two equal requests have shown."""
    first, second = pair
    notes = list(target.notes)
    if not target.ids:
        notes.append(
            "the server takes no token ids for a prompt, so prompts are words and their lengths only about right"
            + (f" ({refusal.error})" if refusal is not None and refusal.error else "")
        )
    if chat:
        notes.append("chat: the server adds its template, so prompts are words and longer than what was asked for")
    if not target.exact:
        said = f" ({refusal.error})" if refusal is not None and refusal.error else ""
        notes.append(f"the server refuses ignore_eos and min_tokens, so answers may be shorter than asked{said}")
    if not target.usage:
        notes.append(
            "the server takes no stream_options and counts no tokens for us: each chunk is taken for one token"
        )
    if target.ids and not chat and first.prompt_tokens is not None and first.prompt_tokens != len(ask.prompt):
        notes.append(f"the server counts {first.prompt_tokens} tokens in a prompt of {len(ask.prompt)} ids")
    details = first.cached_tokens is not None or second.cached_tokens is not None
    caching = target.facts.prefix_caching
    if second.outcome == "ok" and second.cached_tokens:
        caching = True
    facts = msgspec.structs.replace(target.facts, usage_details=details, prefix_caching=caching)
    return replace(target, facts=facts, notes=tuple(notes))


def words(text: str) -> str:
    """The message in an answer, on one line."""
    try:
        body = json.loads(text)
        error = body.get("error", body) if isinstance(body, dict) else None
        said = error.get("message") if isinstance(error, dict) else error
        text = said if isinstance(said, str) else text
    except (ValueError, RecursionError):
        pass
    return one_line(text, 200) or "(no text)"
