"""One request to an OpenAI-compatible server, timed chunk by chunk.

What is timed is what ``vllm bench serve`` times: from just before the POST to the arrival of each chunk. The time is
taken as soon as bytes are read, before anything is made of them; chunks that come in one read have one time. Whatever
goes wrong is an outcome with a sentence, bounded in time and bytes: ``send`` never raises for what a server does.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from monitor.probes import completion as api
from monitor.probes.context import Ask
from monitor.probes.errors import CannotStart
from monitor.probes.flight import Flight
from monitor.probes.redact import without_secrets
from monitor.probes.schema import Outcome, Record, Secrets
from monitor.probes.sse import Events, TooLong

CONNECT_S = 30.0
KEEPALIVE_S = 4.0
"""uvicorn, which vLLM runs on, closes an idle connection after 5 s: a request must not meet it doing so."""
DONE_S = 2.0
"""After [DONE], a server that does not end its answer is left."""
MAX_BYTES = 1 << 28
"""Of one answer."""
_MAX_TEXT = 1 << 16
"""Of an answer that is no stream."""
_MAX_JSON = 1 << 26
_READ_BUFFER = 1 << 22
_LARGE_BODY = 1 << 20
_OURS = ("ignore_eos", "min_tokens", "cache_salt", "priority", "stream_options")


class Reply(NamedTuple):
    """An answer that is no stream."""

    status: int
    text: str


# -- the client -------------------------------------------------------------------------------------------------------


class Client:
    """A server, and the connections to it: ``async with Client(…) as client``.

    ``base_url`` has no path; ``connections`` bounds how many there are at once, 0 does not. Raises ``CannotStart``
    where it cannot be set up as it was asked for."""

    def __init__(
        self,
        base_url: str,
        model: str = "",
        secrets: Secrets | None = None,
        *,
        endpoint: Literal["completions", "chat"] = "completions",
        request_timeout_s: float = 600.0,
        stall_s: float = 60.0,
        connections: int = 0,
    ) -> None:
        self.model = model
        """May be set later, when the server has said it."""
        self.chunks = 0
        """Of all answers, until now: for what is seen while it runs."""
        self._endpoint = endpoint
        self._timeout_s = request_timeout_s
        self._stall_s = stall_s
        self._connections = connections
        self._secrets = secrets or Secrets()
        self._base = _base(base_url)
        self._url = self._base / ("v1/chat/completions" if endpoint == "chat" else "v1/completions")
        self._headers = _headers(self._secrets)
        self._tls = _tls(self._secrets)
        self._session: aiohttp.ClientSession | None = None
        self._flights: set[Flight] = set()

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, ttl_dns_cache=300, keepalive_timeout=KEEPALIVE_S, ssl=self._tls
            ),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_S, self._timeout_s)),
            read_bufsize=_READ_BUFFER,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def in_flight(self) -> int:
        """Requests that are on their way."""
        return len(self._flights)

    def give_up(self) -> None:
        """End every request that is on its way; each is ``cancelled``."""
        for flight in self._flights:
            flight.stop("cancelled")

    def body(self, ask: Ask) -> bytes:
        """What is sent. To make it takes time with a long prompt: make it before the request is due."""
        return api.body(ask, self.model, self._endpoint)

    async def send(
        self,
        ask: Ask,
        began: float,
        started: Callable[[], None] | None = None,
        first: Callable[[float], None] | None = None,
        body: bytes | None = None,
    ) -> Record:
        """Send it, and read the answer to its end: what came of it, whatever that is.

        ``began`` is the ``perf_counter`` of the step's beginning. ``started`` is called just before the POST, ``first``
        with the TTFT in seconds as soon as it is known. ``body`` is what ``body(ask)`` gave."""
        payload = self.body(ask) if body is None else body
        record = Record(start_s=0.0, group=ask.group)
        flight = Flight(self._stall_s)
        self._flights.add(flight)
        if started is not None:
            started()
        start = flight.last = time.perf_counter()
        record.start_s = start - began
        try:
            async with asyncio.timeout(self._timeout_s) as flight.limit:
                flight.watch()
                await self._exchange(ask, payload, start, record, flight, first)
        except api.Failed as failed:
            record.outcome, record.error = failed.outcome, str(failed)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not flight.done or flight.why == "cancelled":  # after [DONE] nothing can go wrong any more
                record.outcome, record.error = self._why(error, flight, record)
        finally:
            record.ended_s = time.perf_counter() - began
            flight.land()
            self._flights.discard(flight)
        record.error = without_secrets(record.error, self._secrets) if record.error else ""
        chunks = api.chunks_of(record)
        if record.outcome == "ok" and not chunks:
            record.outcome, record.error = "empty", "the stream ended without a token"
        if record.output_tokens is None and chunks:
            record.output_tokens = chunks
        if record.prompt_tokens is None and not isinstance(ask.prompt, str) and self._endpoint == "completions":
            record.prompt_tokens = len(ask.prompt)
        return record

    async def get(self, path: str) -> Reply:
        """An answer to GET, whatever its status. Raises ``CannotStart`` where there is none."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: object = None) -> Reply:
        """The same with POST; ``body`` is sent as JSON, nothing where it is None."""
        return await self._ask("POST", path, body)

    async def get_json(self, path: str) -> Any:
        """What GET gives, decoded. Raises ``CannotStart`` where it is not 200 or no JSON."""
        return _json(path, await self.get(path))

    async def post_json(self, path: str, body: object = None) -> Any:
        """The same with POST."""
        return _json(path, await self.post(path, body))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open")
        return self._session

    async def _ask(self, method: str, path: str, body: object) -> Reply:
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._opened().request(
                    method, URL(f"{self._base}{path}"), data=_payload(data), allow_redirects=False
                ) as response,
            ):
                content = await _bounded(response, _MAX_JSON)
        except TimeoutError as error:
            raise CannotStart(f"{self._base} did not answer {path} within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            why = without_secrets(_connect_text(error), self._secrets)
            raise CannotStart(f"{self._base} gave no answer to {path}: {why}", why) from error
        if len(content) > _MAX_JSON:
            raise CannotStart(f"{self._base} gave too long an answer to {path}: more than {_MAX_JSON >> 20} MiB")
        text = content.decode(errors="replace")
        # What is said in an error is shown; what is an answer is read.
        return Reply(response.status, text if response.status == 200 else without_secrets(text, self._secrets))

    async def _exchange(
        self,
        ask: Ask,
        payload: bytes,
        start: float,
        record: Record,
        flight: Flight,
        first: Callable[[float], None] | None,
    ) -> None:
        texts: list[str] = []
        async with self._opened().post(self._url, data=_payload(payload), allow_redirects=False) as response:
            record.status = response.status
            flight.last = time.perf_counter()
            try:
                if response.status != 200:
                    raise await _refusal(response, self._secrets)
                if response.content_type in ("application/json", "text/html"):
                    text = await _said(response, self._secrets)
                    said = f": {api.message(text)}" if api.message(text) else ""
                    raise api.Failed(
                        "malformed", f"it answered with {response.content_type}, no stream of events{said}"
                    )
                await self._read(ask, response.content, start, record, flight, first, texts)
            except BaseException:
                if not response.content.at_eof():
                    response.close()  # the server is to see that nobody reads any more
                raise
            finally:
                record.text = "".join(texts)

    async def _read(
        self,
        ask: Ask,
        content: aiohttp.StreamReader,
        start: float,
        record: Record,
        flight: Flight,
        first: Callable[[float], None] | None,
        texts: list[str],
    ) -> None:
        """Read the stream to its end. Raises ``api.Failed``."""
        events = Events()
        gaps: list[float] = []
        record.itl_s = gaps
        chat = self._endpoint == "chat"
        last = 0.0
        read = 0
        ended = False
        while piece := await content.readany():
            now = time.perf_counter()
            flight.last = now
            read += len(piece)
            try:
                found = events.feed(piece)
            except TooLong as error:
                raise api.Failed("malformed", f"{error}{api.after(record)}") from error
            for data in found:
                if data == b"[DONE]":
                    flight.done = True
                    flight.after(DONE_S, "done", lambda: flight.stop("ended"))
                    continue
                event = api.read_event(data, record, self._cleaned)
                if event.usage is not None:
                    api.take_usage(event.usage, record)
                if not event.choices:
                    continue
                choice = event.choices[0]
                ended = ended or choice.finish_reason is not None
                if chat and not api.is_token(choice, bool(last)):
                    continue
                if last:
                    gaps.append(now - last)
                else:
                    record.ttft_s = now - start
                    if ask.hang_up_after_s is not None:
                        flight.after(ask.hang_up_after_s, "hang up", lambda: flight.stop("hung_up"))
                    if first is not None:
                        first(record.ttft_s)
                last = now
                record.e2el_s = now - start
                self.chunks += 1
                if ask.keep_text:
                    texts.append(api.written(choice))
            if read > MAX_BYTES:
                raise api.Failed("malformed", f"an answer of more than {MAX_BYTES >> 20} MiB{api.after(record)}")
        self._judge_end(events, record, ended or flight.done)

    def _cleaned(self, text: str) -> str:
        return without_secrets(text, self._secrets)

    def _judge_end(self, events: Events, record: Record, ended: bool) -> None:
        data, cut = events.rest()
        if cut and data != b"[DONE]":
            raise api.Failed("broken", f"the stream ended in the middle of a line{api.after(record)}")
        if not (ended or data == b"[DONE]" or record.output_tokens is not None or record.ttft_s is None):
            raise api.Failed(
                "broken", f"the stream ended without [DONE] and without a finish_reason{api.after(record)}"
            )

    def _why(self, error: Exception, flight: Flight, record: Record) -> tuple[Outcome, str]:
        """What a failure is called."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return (
                    "refused",
                    f"no connection to {self._base.authority} within {min(CONNECT_S, self._timeout_s):g} s",
                )
            case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
                return "refused", f"no connection to {self._base.authority}: {_connect_text(error)}"
            case aiohttp.ClientResponseError():
                return "malformed", f"no answer of HTTP: {api.text_of(error)}"
            case aiohttp.ClientPayloadError():
                return "broken", f"the connection ended in the middle of the answer{api.after(record)}"
            case aiohttp.ServerDisconnectedError():
                return "broken", "the server closed the connection before it answered"
            case TimeoutError() if not isinstance(error, aiohttp.ClientError):
                return self._too_late(flight, record)
        return "broken", f"the connection broke: {api.text_of(error)}{api.after(record)}"

    def _too_late(self, flight: Flight, record: Record) -> tuple[Outcome, str]:
        match flight.why:
            case "hung_up":
                return "hung_up", ""
            case "cancelled":
                return "cancelled", ""
            case "stalled":
                return "stalled", f"no byte for {self._stall_s:g} s{api.after(record)}"
        return "late", f"not done within {self._timeout_s:g} s{api.after(record)}"


# -- small things -----------------------------------------------------------------------------------------------------


def _base(url: str) -> URL:
    try:
        base = URL(url.strip().rstrip("/"))
    except ValueError as error:
        raise CannotStart(f"{url!r} is no address of a server: {error}") from error
    if base.user or base.password:
        raise CannotStart(f"the address of {base.host} holds a name or a password: give them as a header, or as a key")
    if base.scheme not in ("http", "https") or not base.host:
        raise CannotStart(f"{url!r} is no address of a server: give it as http://127.0.0.1:8000")
    return URL(str(base.with_query(None).with_fragment(None)).rstrip("/").removesuffix("/v1"))


def _headers(secrets: Secrets) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "gpumon-probe",
        **secrets.headers,
    }
    if secrets.api_key:
        headers["Authorization"] = f"Bearer {secrets.api_key}"
    for name, value in headers.items():
        if any(character in "\r\n\0" for character in name + value):
            raise CannotStart(f"the header {name!r} holds a line break: is the key right?")
    return headers


def _tls(secrets: Secrets) -> ssl.SSLContext | bool:
    if secrets.insecure_skip_verify:
        return False
    if secrets.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=secrets.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CannotStart(f"the CA file {secrets.ca_file} cannot be read: {api.text_of(error)}") from error


def _payload(data: bytes | None) -> bytes | io.BytesIO | None:
    # Large ones go piece by piece: so says aiohttp, with a warning.
    return io.BytesIO(data) if data is not None and len(data) > _LARGE_BODY // 2 else data


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or a little more than ``most`` bytes of it."""
    pieces: list[bytes] = []
    size = 0
    while size <= most and (piece := await response.content.readany()):
        pieces.append(piece)
        size += len(piece)
    if size > most:
        response.close()
    return b"".join(pieces)


async def _said(response: aiohttp.ClientResponse, secrets: Secrets) -> str:
    """An answer that is no stream. Redacted before it is cut for a message: half a key is one too."""
    return without_secrets((await _bounded(response, _MAX_TEXT)).decode(errors="replace"), secrets)


async def _refusal(response: aiohttp.ClientResponse, secrets: Secrets) -> api.Failed:
    """What a status that is not 200 means."""
    status = response.status
    try:
        text = await _said(response, secrets)
    except (aiohttp.ClientError, OSError):
        text = ""  # the status has said it
    said = api.message(text)
    if 300 <= status < 400:
        said = f"a redirect to {api.one_line(response.headers.get('Location', '?'))}, which is not followed"
    elif status in (400, 422) and any(field in said for field in _OURS) and "Priority scheduling" not in said:
        said += " (this server does not take the fields of vLLM's API)"
    elif status in (401, 403):
        said = f"{said} (is the API key right?)".lstrip()
    return api.Failed("shed" if status in (429, 503) else "http", f"HTTP {status}{': ' if said else ''}{said}")


def _json(path: str, reply: Reply) -> Any:
    if reply.status != 200:
        said = api.message(reply.text)
        raise CannotStart(f"{path}: HTTP {reply.status}{': ' if said else ''}{said}")
    try:
        return msgspec.json.decode(reply.text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CannotStart(f"{path}: the answer is no JSON: {api.text_of(error)}") from error


def _connect_text(error: aiohttp.ClientError | OSError) -> str:
    """What the system says, and what to do, rather than all that aiohttp says of it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        told = getattr(error.certificate_error, "verify_message", "") or api.text_of(error.certificate_error)
        return f"its certificate is not taken: {told}: give --ca with whose it has to come from, or --insecure"
    cause = getattr(error, "os_error", None)
    match cause:
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE"):
            return "it speaks no TLS: write http:// in place of https://"
        case ssl.SSLError():
            return f"no TLS with it: {cause.reason or api.text_of(cause)}"
        case socket.gaierror():
            return f"{cause.strerror}: is its host's name right?"
        case OSError() if cause.errno:
            return os.strerror(cause.errno)
    return api.text_of(cause if isinstance(cause, OSError) else error)
