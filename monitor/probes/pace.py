"""A simulated server: OpenAI's API as vLLM has it, over an engine without a model whose pace is known exactly.

    python -m monitor.probes.pace --port 8000 --itl-ms 5 --prefill-ms 20

It is for tests, measurements of the client itself, and the demo. Whatever it says of itself says that it is simulated.
On demand it does what servers do at their worst: see ``Fault``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import click
import msgspec
from aiohttp import web

from monitor.probes.pace_engine import Engine, Generation, Pace
from monitor.probes.pace_faults import (
    STREAMED,
    Fault,
    FaultKind,
    Refused,
    Writer,
    before_stream,
    in_stream,
    transport_of,
)

__all__ = ["Fault", "FaultKind", "Pace", "PaceServer", "logprob"]

VERSION = "0.32.0 (simulated)"
_MAX_BODY = 1 << 26
_ORDINARY = 256


@dataclass
class _Asked:
    prompt: list[int]
    max_tokens: int
    stream: bool
    usage: bool
    chat: bool
    salt: str
    priority: int
    logprobs: bool


class PaceServer:
    """``async with PaceServer(Pace(itl_s=0.01)) as server: server.url``. On loopback; port 0 is a free one.

    ``stamps``: the text of each token is the ``perf_counter`` at which it was written, with a space after it.
    ``usage_details``: usage says how many tokens were cached. ``profiler``: it has ``/start_profile``."""

    def __init__(
        self,
        pace: Pace | None = None,
        *,
        port: int = 0,
        model: str = "simulated",
        vocabulary: int = 32_000,
        fault: Fault | None = None,
        usage_details: bool = True,
        profiler: bool = False,
        api_key: str | None = None,
        stamps: bool = False,
        dialect: Literal["vllm", "openai"] = "vllm",
        max_waiting: int | None = None,
    ) -> None:
        self.engine = Engine(pace or Pace())
        self.model = model
        self.vocabulary = vocabulary
        self.fault = fault
        """May be set at any time, for the requests that come after."""
        self.profiling = False
        self.profiles = 0
        """How often the profiler was started."""
        self.asked: deque[dict[str, Any]] = deque(maxlen=1000)
        """The bodies of completions, the last ones."""
        self.completions = 0
        self.url = ""
        self._port = port
        self._usage_details = usage_details
        self._profiler = profiler
        self._api_key = api_key
        self._stamps = stamps
        self._dialect = dialect
        self._max_waiting = max_waiting
        self._runner: web.AppRunner | None = None
        self._transports: set[asyncio.Transport] = set()

    async def __aenter__(self) -> PaceServer:
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[self._around])
        app.add_routes(
            [
                web.get("/health", _ok),
                web.get("/ping", _ok),
                web.get("/version", self._version),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._completions),
                web.post("/tokenize", self._tokenize),
                web.post("/reset_prefix_cache", self._reset),
            ]
        )
        if self._profiler:
            app.add_routes([web.post("/start_profile", self._profile), web.post("/stop_profile", self._profile)])
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.die()

    async def die(self) -> None:
        """End at once, with every connection cut."""
        runner, self._runner = self._runner, None
        for transport in self._transports:
            transport.abort()
        if runner is not None:
            await runner.cleanup()

    # -- what it says of itself ---------------------------------------------------------------------------------------

    @web.middleware
    async def _around(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        status = 200
        try:
            if self._api_key and request.path.startswith("/v1/"):
                given = request.headers.get("Authorization", "")
                if given != f"Bearer {self._api_key}":
                    raise Refused(401, "Unauthorized", "AuthenticationError")
            response = await handler(request)
            status = response.status
        except Refused as refused:
            status = refused.status
            return web.json_response(refused.body, status=status)
        except web.HTTPException as answer:
            status = answer.status
            raise
        else:
            return response
        finally:
            self.engine.tally.http[request.method, request.path, f"{status // 100}xx"] += 1

    async def _version(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"version": VERSION})

    async def _models(self, request: web.Request) -> web.StreamResponse:
        one = {
            "id": self.model, "object": "model", "created": int(time.time()), "owned_by": "gpumon (simulated)",
            "root": self.model, "parent": None, "max_model_len": self.engine.pace.max_model_len,
        }  # fmt: skip
        return web.json_response({"object": "list", "data": [one]})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        engine, pace = self.engine, self.engine.pace
        gauges = {
            "num_requests_running": float(len(engine.running)),
            "num_requests_waiting": float(len(engine.waiting)),
            "kv_cache_usage_perc": engine.kv_usage,
        }
        config = {
            "block_size": pace.block_size, "cache_dtype": "auto", "enable_prefix_caching": pace.prefix_caching,
            "gpu_memory_utilization": 0.9, "num_gpu_blocks": engine.blocks.total,
            "kv_cache_size_tokens": engine.blocks.total * pace.block_size,
        }  # fmt: skip
        text = "\n".join(engine.tally.lines(self.model, gauges, config)) + "\n"
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        body = await _json_body(request)
        tokens = self._tokens(str(body.get("prompt", "")))
        return web.json_response(
            {"count": len(tokens), "max_model_len": self.engine.pace.max_model_len, "tokens": tokens}
        )

    async def _reset(self, request: web.Request) -> web.StreamResponse:
        self.engine.blocks.forget()
        return web.json_response({"success": True})

    async def _profile(self, request: web.Request) -> web.StreamResponse:
        self.profiling = request.path == "/start_profile"
        self.profiles += self.profiling
        return web.Response()

    # -- completions --------------------------------------------------------------------------------------------------

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await _json_body(request)
        self.completions += 1
        self.asked.append(body)
        fault = self._due_fault()
        if fault is not None and fault.kind not in STREAMED:
            early = await before_stream(request, fault.kind, self.url)
            if early is not None:
                return early
        asked = self._parse(body, request.path.endswith("/chat/completions"))
        if self._max_waiting is not None and len(self.engine.waiting) >= self._max_waiting:
            raise Refused(429, "Too many requests are waiting", "RateLimitError")
        if asked.stream:
            return await self._stream(request, asked, fault)
        return await self._whole(asked)

    def _due_fault(self) -> Fault | None:
        fault = self.fault
        number = self.completions - 1 - (fault.skip if fault is not None else 0)
        return fault if fault is not None and number >= 0 and number % fault.every == 0 else None

    def _parse(self, body: dict[str, Any], chat: bool) -> _Asked:
        """What is asked for. Raises ``Refused`` as vLLM does."""
        if body.get("model") not in (None, "", self.model):
            raise Refused(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if self._dialect == "openai":
            unknown = sorted({"ignore_eos", "min_tokens", "cache_salt", "priority"} & set(body))
            if unknown:
                raise Refused(400, f"Unrecognized request argument supplied: {', '.join(unknown)}")
        priority = body.get("priority") or 0
        if priority and not self.engine.pace.priority:
            raise Refused(400, f"Got priority {priority} but Priority scheduling is not enabled.")
        if chat:
            tokens = self._tokens(json.dumps(body.get("messages", "")))
        else:
            prompt = body.get("prompt", "")
            tokens = prompt if isinstance(prompt, list) else self._tokens(str(prompt))
        if not tokens or not all(type(one) is int and 0 <= one < self.vocabulary for one in tokens):
            raise Refused(400, f"The prompt must be token ids below {self.vocabulary}, or a text")
        most = body.get("max_completion_tokens") or body.get("max_tokens") or 16
        if not self.engine.fits(len(tokens) + most):
            raise Refused(
                400,
                f"This model's maximum context length is {self.engine.pace.max_model_len} tokens. However, you "
                f"requested {most} output tokens and your prompt contains {len(tokens)} input tokens.",
            )
        return _Asked(
            prompt=tokens,
            max_tokens=most,
            stream=bool(body.get("stream")),
            usage=bool((body.get("stream_options") or {}).get("include_usage")),
            chat=chat,
            salt=body.get("cache_salt") or "",
            priority=priority,
            logprobs=body.get("prompt_logprobs") is not None,
        )

    def _tokens(self, text: str) -> list[int]:
        """A token for four characters."""
        span = max(self.vocabulary - _ORDINARY, 1)
        first = _ORDINARY if self.vocabulary > _ORDINARY else 0
        return [first + zlib.crc32(text[at : at + 4].encode()) % span for at in range(0, len(text), 4)]

    def _generation(self, asked: _Asked, emit: Callable[[Generation], None]) -> Generation:
        return Generation(
            asked.prompt,
            asked.max_tokens,
            emit,
            asyncio.get_running_loop().create_future(),
            salt=asked.salt,
            priority=asked.priority,
        )

    def _usage(self, asked: _Asked, generation: Generation) -> dict[str, Any]:
        prompt = len(asked.prompt)
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": generation.generated,
            "total_tokens": prompt + generation.generated,
        }
        if self._usage_details:
            usage["prompt_tokens_details"] = {"cached_tokens": generation.cached}
        return usage

    async def _whole(self, asked: _Asked) -> web.StreamResponse:
        generation = self._generation(asked, lambda one: None)
        self.engine.submit(generation)
        try:
            await generation.ended
        finally:
            self.engine.abort(generation)
        text = " a" * generation.generated
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
        if asked.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
            choice["prompt_logprobs"] = _logprobs(asked.prompt) if asked.logprobs else None
        return web.json_response(
            {
                "id": f"cmpl-{generation.number}",
                "object": "text_completion",
                "created": int(time.time()),
                "model": self.model,
                "choices": [choice],
                "usage": self._usage(asked, generation),
            }
        )

    async def _stream(self, request: web.Request, asked: _Asked, fault: Fault | None) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = transport_of(request)
        self._transports.add(transport)
        kind = "chat.completion.chunk" if asked.chat else "text_completion"
        head = (
            f'{{"id":"cmpl-{self.completions}","object":"{kind}","created":{int(time.time())},"model":"{self.model}",'
        )
        write = Writer(transport, head.encode(), asked.chat, self._stamps)
        ended = asyncio.Event()

        def emit(one: Generation) -> None:
            if fault is not None and one.generated > fault.after_chunks:
                ended.set()
            elif not ended.is_set():
                write.token(one.generated >= one.max_tokens)

        generation = self._generation(asked, emit)
        generation.ended.add_done_callback(lambda _: ended.set())
        try:
            if asked.chat:
                write.role()
            self.engine.submit(generation)
            await ended.wait()
            if fault is not None and not await in_stream(fault.kind, write, transport):
                return response
            if fault is None and asked.usage:
                write.event(b'"choices":[],"usage":' + msgspec.json.encode(self._usage(asked, generation)) + b"}")
            if fault is None:
                write.raw(b"data: [DONE]\n\n")
            await response.write_eof()
        finally:
            self._transports.discard(transport)
            self.engine.abort(generation)
        return response


async def _ok(request: web.Request) -> web.StreamResponse:
    return web.Response()


async def _json_body(request: web.Request) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(await request.read())
    except msgspec.DecodeError as error:
        raise Refused(400, f"The body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "The body is no object")
    return body


def logprob(token: int) -> float:
    """What the simulated model thinks of a token of the prompt."""
    return -(1 + token % 7) / 2


def _logprobs(prompt: list[int]) -> list[dict[str, Any] | None]:
    rest = [{str(one): {"logprob": logprob(one), "rank": 1 + one % 7, "decoded_token": "a"}} for one in prompt[1:]]
    return [None, *rest]


async def _serve(server: PaceServer) -> None:
    ending = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, ending.set)
    async with server:
        click.echo(f"simulated server: {server.url}")
        await ending.wait()


def main() -> None:
    """Serve until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m monitor.probes.pace", description="A simulated server.")
    parser.add_argument("--port", type=int, default=0, help="0 is a free one, which is printed")
    parser.add_argument("--prefill-ms", type=float, default=10.0)
    parser.add_argument("--prefill-per-token-us", type=float, default=0.0)
    parser.add_argument("--itl-ms", type=float, default=10.0)
    parser.add_argument("--itl-per-sequence-us", type=float, default=0.0)
    parser.add_argument("--max-batch", type=int, default=256)
    parser.add_argument("--kv-tokens", type=int, default=1 << 20)
    parser.add_argument("--priority", action="store_true", help="schedule by priority")
    parser.add_argument("--profiler", action="store_true", help="have /start_profile")
    parser.add_argument("--stamps", action="store_true", help="the text of a token is when it was written")
    parser.add_argument("--fault", help="what goes wrong, as in monitor.probes.pace.Fault")
    parser.add_argument("--fault-every", type=int, default=1)
    options = parser.parse_args()
    pace = Pace(
        prefill_s=options.prefill_ms / 1e3,
        prefill_per_token_s=options.prefill_per_token_us / 1e6,
        itl_s=options.itl_ms / 1e3,
        itl_per_sequence_s=options.itl_per_sequence_us / 1e6,
        max_batch=options.max_batch,
        kv_tokens=options.kv_tokens,
        priority=options.priority,
    )
    fault = Fault(options.fault, every=options.fault_every) if options.fault else None
    asyncio.run(
        _serve(PaceServer(pace, port=options.port, profiler=options.profiler, stamps=options.stamps, fault=fault))
    )


if __name__ == "__main__":
    main()
