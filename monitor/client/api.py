"""The client of a daemon's API, and of any Prometheus' query API: typed answers, errors for a person.

>>> async with Client("unix:/run/gpumon/gpumon.sock") as client:
...     async for frame in client.stream(queries):
...         ...

Errors are ``monitor.client.errors``. Reconnecting is a layer above, ``monitor.client.feed``.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from monitor.client.access import Access, address
from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.sse import SseParser
from monitor.client.wire import (
    UNREADABLE,
    AlertRow,
    Capabilities,
    ErrorAnswer,
    EventRow,
    Frame,
    Processes,
    Query,
    QueryData,
    Series,
    SourceRow,
    TransitionRow,
)

T = TypeVar("T")

SILENCE_SECONDS = 25.0
"""A stream that says nothing for so long is dead: the daemon pings every 10 s."""
_UNKNOWN_PATH = b"unsupported path requested"
"""How VictoriaMetrics says, with 400, that it has no such path."""


class Client:
    """``target`` is ``unix:/path``, ``http://host:port`` or ``https://host:port``; a path after the port is kept, as a
    Prometheus behind a proxy needs it. Raises ``ClientError`` at once for anything else. ``timeout`` is in seconds.
    How one gets in to a server over TCP an ``Address`` knows; ``token`` goes before what it knows, and without either
    ``$GPUMON_TOKEN`` is shown, where it is set. No redirect is followed: what it leads to is shown nothing."""

    def __init__(self, target: str, *, timeout: float = 5.0, token: str | None = None) -> None:
        self.address = address(target)
        self.target = str(self.address)
        """What may be shown of it."""
        self.part = self.address.part
        """The node that is meant, where the server is a Prometheus of several."""
        self._socket = ""
        access = self.address.access if token is None else Access(token)
        self.address.check()
        base = self.target.rstrip("/")
        if self.target.startswith("unix:"):
            self._socket = self.target[len("unix:") :]
            if self._socket.startswith("//"):
                self._socket = "/" + self._socket.lstrip("/")
            base = "http://gpumon"
        self._http = httpx.AsyncClient(
            base_url=base,
            transport=httpx.AsyncHTTPTransport(uds=self._socket) if self._socket else None,
            # One context for all that trust the same: reading the certificates takes longer than a request.
            verify=access.tls() if not self._socket else True,
            timeout=timeout,
            # A unix socket gains nothing from compression, and the node pays for it.
            headers={"Accept-Encoding": "identity"} if self._socket else access.shown(),
            trust_env=not self._socket,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def capabilities(self) -> Capabilities:
        """Who the daemon is. Raises ``Refused`` with status 404 where the server is a plain Prometheus."""
        return self._decode(await self._get("/api/gpumon/v1/capabilities"), Capabilities)

    async def sources(self) -> tuple[SourceRow, ...]:
        """What the daemon reads, and how that goes."""
        body = await self._get("/api/gpumon/v1/sources")
        return self._decode(body, dict[str, tuple[SourceRow, ...]]).get("sources", ())

    async def processes(self) -> Processes:
        """What runs on the GPUs."""
        return self._decode(await self._get("/api/gpumon/v1/processes"), Processes)

    async def transitions(self, since_ms: int = 0) -> tuple[TransitionRow, ...]:
        """Changes of alerts' state since a time, newest last."""
        body = await self._get("/api/gpumon/v1/alerts", {"since_ms": str(since_ms)})
        return self._decode(body, dict[str, tuple[TransitionRow, ...]]).get("transitions", ())

    async def events(self, since_ms: int = 0) -> tuple[EventRow, ...]:
        """What happened on the node since a time, newest last."""
        body = await self._get("/api/gpumon/v1/events", {"since_ms": str(since_ms)})
        return self._decode(body, dict[str, tuple[EventRow, ...]]).get("events", ())

    async def alerts(self) -> tuple[AlertRow, ...]:
        """The active alerts, pending and firing."""
        return self._data(await self._get("/api/v1/alerts"), dict[str, tuple[AlertRow, ...]]).get("alerts", ())

    async def metrics(self) -> str:
        """The exposition that a Prometheus scrapes, as it came."""
        return (await self._send("GET", "/metrics")).text

    async def rules(self, kind: str = "") -> msgspec.Raw:
        """The ``data`` of ``/api/v1/rules``, Prometheus' JSON as it came. ``kind`` ``alert`` or ``record`` is for those
        alone."""
        return self._data(await self._get("/api/v1/rules", {"type": kind} if kind else None), msgspec.Raw)

    async def query(self, expr: str, at_ms: int | None = None) -> tuple[Series, ...]:
        """An instant query; a scalar comes as one series without labels. ``at_ms`` None means now, for the server."""
        fields = {"query": expr}
        if at_ms is not None:
            fields["time"] = _seconds(at_ms)
        return self._series(await self._post("/api/v1/query", fields))

    async def query_range(self, expr: str, start_ms: int, end_ms: int, step_seconds: float) -> tuple[Series, ...]:
        """A range query."""
        fields = {"query": expr, "start": _seconds(start_ms), "end": _seconds(end_ms), "step": f"{step_seconds:g}"}
        return self._series(await self._post("/api/v1/query_range", fields))

    async def stream(
        self, queries: Sequence[Query], *, interval: float = 1.0, alerts: bool = True, sources: bool = True
    ) -> AsyncGenerator[Frame, None]:
        """Subscribe: a frame a tick, each with what changed. Ends only with an error, or when the caller stops."""
        body = msgspec.json.encode(
            {"interval": interval, "queries": list(queries), "alerts": alerts, "sources": sources}
        )
        decoder = msgspec.json.Decoder(Frame)
        parser = SseParser()
        timeout = httpx.Timeout(5.0, read=SILENCE_SECONDS)
        self._check_open()
        try:
            async with self._http.stream(
                "POST",
                "/api/gpumon/v1/stream",
                content=body,
                headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
                timeout=timeout,
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    self._check(response)
                async for chunk in response.aiter_bytes():
                    for event, data in parser.feed(chunk):
                        if event == "frame":
                            yield decoder.decode(data)
        except httpx.ReadTimeout:
            raise Unreachable(f"the stream has been silent for {SILENCE_SECONDS:.0f} s", self.target) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._unreachable(error) from error
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ClientError(f"a frame that cannot be read: {error}", self.target, _VERSIONS) from error
        raise Unreachable("the daemon ended the stream", self.target)

    async def get(
        self, path: str, kind: type[T], *, fields: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> T:
        """What a path below our own API gives, as a type."""
        return self._decode((await self._send("GET", path, fields=fields, timeout=timeout)).content, kind)

    async def post(self, path: str, body: object, kind: type[T], *, timeout: float | None = None) -> T:
        """The same for a request that changes something; ``body`` becomes JSON."""
        return self._decode((await self._send("POST", path, json=body, timeout=timeout)).content, kind)

    async def delete(self, path: str) -> None:
        """Have something deleted."""
        await self._send("DELETE", path)

    async def save(self, path: str, file: Path) -> None:
        """Write what a path gives to a new file; where that fails, there is none. Raises ``FileExistsError`` where
        there is one, and ``OSError`` where none can be written."""
        self._check_open()
        try:
            async with self._http.stream("GET", path, timeout=httpx.Timeout(10.0, read=60.0)) as response:
                if response.status_code != 200:
                    await response.aread()
                    self._check(response)
                with file.open("xb") as out:
                    try:
                        async for chunk in response.aiter_bytes():
                            out.write(chunk)
                    except BaseException:
                        os.unlink(file)
                        raise
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    async def _get(self, path: str, fields: Mapping[str, str] | None = None) -> bytes:
        return (await self._send("GET", path, fields=fields)).content

    async def _post(self, path: str, fields: Mapping[str, str]) -> bytes:
        return (await self._send("POST", path, form=fields)).content

    async def _send(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, str | Sequence[str]] | None = None,
        form: Mapping[str, str | Sequence[str]] | None = None,
        json: object = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """One request, with ``fields`` in its address and a form or JSON in its body. Raises ``ClientError``, for any
        status but 200 too."""
        self._check_open()
        try:
            response = await self._http.request(
                method,
                path,
                params=dict(fields or {}),
                data=None if form is None else dict(form),
                content=None if json is None else msgspec.json.encode(json),
                headers=None if json is None else {"Content-Type": "application/json"},
                timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._unreachable(error) from error
        self._check(response)
        return response

    def _check_open(self) -> None:
        # Who shares the client may have closed it between two requests, because of an error that only he has seen.
        if self._http.is_closed:
            raise Unreachable("the connection was closed", self.target)

    def _check(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            return
        if response.is_redirect:
            where = address(str(response.next_request.url)).plain if response.next_request is not None else "elsewhere"
            cure = "Give that address itself: what lets you in here is not shown there"
            raise Refused(f"it redirects to {where}", self.target, cure, response.status_code)
        try:
            answer = msgspec.json.decode(response.content, type=ErrorAnswer | str)
            what = answer if isinstance(answer, str) else answer.error or answer.message
        except UNREADABLE:
            what = ""
        cure, status = "", response.status_code
        if status == 400 and response.content.startswith(_UNKNOWN_PATH):
            status = 404
        if status in (401, 403):
            cure = "A token comes from --token-file or $GPUMON_TOKEN, a password from $GPUMON_PASSWORD with --user"
        elif status == 404 and not what:
            cure = "Is this a gpumon daemon or a Prometheus, and is the path right?"
        raise Refused(what or f"HTTP {response.status_code}", self.target, cure, status)

    def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except UNREADABLE as error:
            raise ClientError(f"an answer that cannot be read: {error}", self.target, _VERSIONS) from error

    def _data(self, body: bytes, kind: type[T]) -> T:
        envelope = self._decode(body, dict[str, msgspec.Raw])
        return self._decode(bytes(envelope.get("data", msgspec.Raw(b"null"))), kind)

    def _series(self, body: bytes) -> tuple[Series, ...]:
        data = self._data(body, QueryData)
        if data.result_type in ("vector", "matrix"):
            return self._decode(bytes(data.result), tuple[Series, ...])
        return (Series({}, self._decode(bytes(data.result), tuple[float, str])),)

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, httpx.TimeoutException):
            return Unreachable("no answer in time", self.target, "Is the node overloaded, or a firewall in between?")
        verification = _verification(error)
        if verification:
            if "mismatch" in verification:
                cure = "Ask it by a name that its certificate has, or give it one that has this name"
                return Unreachable(f"its certificate is for another name: {verification}", self.target, cure)
            cure = "Name what its certificate comes from with --ca FILE; --insecure looks at no certificate"
            return Unreachable(f"its certificate is not trusted: {verification}", self.target, cure)
        number = _errno(error)
        if self._socket:
            return socket_error(self.target, self._socket, number)
        if number == errno.ECONNREFUSED or "refused" in str(error):
            return Unreachable("connection refused", self.target, "Nothing listens there: is the port right?")
        if "WRONG_VERSION_NUMBER" in str(error):
            return Unreachable("it answers without TLS", self.target, "Ask it with http:// in place of https://")
        if isinstance(error, httpx.RemoteProtocolError) and self.target.startswith("http:"):
            return Unreachable("no HTTP came from it", self.target, "Does it want https://? Is the port right?")
        text = str(error).rstrip(".") or type(error).__name__
        return Unreachable(text, self.target, "Is the address right, and the network up?")


_VERSIONS = "Client and daemon may be of different versions: compare `gpumon --version` on both"


def socket_error(target: str, path: str, number: int | None) -> Unreachable:
    """Why a unix socket did not open, with its cure. ``number`` is the ``errno`` or None."""
    if number == errno.ENOENT:
        return Unreachable("there is no such socket", target, "Start the daemon: `gpumon daemon` or its systemd unit")
    if number == errno.ECONNREFUSED:
        return Unreachable(
            "the socket is there, but nobody listens on it",
            target,
            f"The daemon died or hangs: see `systemctl status gpumon`; without a daemon, remove it: rm {path}",
        )
    if number in (errno.EACCES, errno.EPERM):
        return Unreachable(
            "no right to open the socket",
            target,
            "Join its group and log in again: sudo usermod -aG gpumon $USER",
        )
    if number is not None:
        return Unreachable(os.strerror(number).lower(), target)
    return Unreachable("the connection broke", target, "The daemon may have been stopped or restarted")


def _verification(error: BaseException | None) -> str:
    """Why a certificate was not taken, or ""."""
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message.rstrip(".")
        error, seen = error.__cause__ or error.__context__, seen + 1
    return ""


def _errno(error: BaseException | None) -> int | None:
    """The ``errno`` at the root of an httpx error, which wraps it two or three deep."""
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None


def _seconds(at_ms: int) -> str:
    return f"{at_ms // 1000}.{at_ms % 1000:03d}"
