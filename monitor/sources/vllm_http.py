"""The HTTP client for an inference server, and what a failure of it means in a few words."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import httpx

from monitor import threads
from monitor.repeats import Trouble
from monitor.sources.source import SourceDown
from monitor.trust import Trust

log = logging.getLogger(__name__)

# httpx looks some four times a request for sniffio, to ask it which event loop there is: where that is not installed,
# each is a search of the whole path. Without it httpx takes asyncio for granted, which is right here.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("sniffio", None)

_places = threads.Places()

_ERRNO = re.compile(r"\[Errno -?\d+\]\s*")
_CERTIFICATE = re.compile(r"certificate verify failed: (.+?)(?: \(_ssl|$)")


_KEY_SECONDS = 1.0
"""So long a poll waits for a key, or for authorities: their file may lie on a file system that hangs."""
_REFUSAL_BYTES = 64 << 10


class _Beginning(httpx.AsyncByteStream):
    """Of a body that nobody looks at no more than is there for the connection to be used again."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > _REFUSAL_BYTES:
                return
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class Key(httpx.Auth):
    """A server's key, read when it is first needed, and again where the server does not take it: it may have been
    renewed since. Where it cannot be read, requests go without: what vLLM shows of itself needs none.

    ``reveal`` gives it, in a thread, and raises ``ValueError`` with a reason that holds no part of it. ``about`` is
    ``logs.about`` of the server.
    """

    def __init__(self, reveal: Callable[[], str], *, server: str, about: Mapping[str, str]) -> None:
        self._reveal = reveal
        self._server = server
        self._key = ""
        self._reading: asyncio.Future[str] | None = None
        self._trouble = Trouble(log, level=logging.ERROR, about=about)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """httpx's hook: the request, and once more with another key where there is one."""
        used = self._key or await self._read()
        if used:
            request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code in (401, 403) and (fresh := await self._read()) and fresh != used:
            request.headers["Authorization"] = f"Bearer {fresh}"
            if isinstance(response.stream, httpx.AsyncByteStream):
                response.stream = _Beginning(response.stream)  # httpx reads it to its end
            yield request

    async def _read(self) -> str:
        """The key, read now; the last one, or "", where it cannot be had."""
        # What came too late for the poll before is there for this one: a slow file would else be read for ever.
        reading = self._reading = self._reading or asyncio.ensure_future(_places.apart(self._reveal))
        try:
            done, _ = await asyncio.wait({reading}, timeout=_KEY_SECONDS)
            if not done:
                raise ValueError(f"it was not read within {_KEY_SECONDS:g} s")
            if self._reading is reading:
                self._reading = None
            self._key = reading.result()
        except (ValueError, OSError) as error:
            self._trouble.again(f"server {self._server}: its api_key cannot be had: {error}")
        else:
            self._trouble.over(f"server {self._server}: its api_key is there again")
        return self._key


async def make_client(
    url: str, trust: Trust, *, deadline: float, api_key: str | Key | None = None
) -> httpx.AsyncClient:
    """A client with one connection, without compression: decompressing 50 kB costs more than reading them.

    Raises ``SourceDown`` where what the server's certificate is verified by cannot be had, or not in time.
    """
    headers = {"Accept-Encoding": "identity", "Accept": "text/plain;version=0.0.4", "User-Agent": "gpumon"}
    if isinstance(api_key, str):
        headers["Authorization"] = f"Bearer {api_key}"
    try:
        verify = await trust.verify(url, min(deadline, _KEY_SECONDS))
    except OSError as error:
        raise SourceDown(str(error.strerror)) from None
    return httpx.AsyncClient(
        headers=headers,
        auth=api_key if isinstance(api_key, Key) else None,
        timeout=deadline,
        # vLLM's server closes a connection that was idle for 5 s; a poll on one that it is closing would fail.
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=4),
        verify=verify,
        trust_env=False,
        follow_redirects=False,  # a redirect would carry the API key elsewhere
    )


async def get(client: httpx.AsyncClient, url: str, most: int) -> tuple[int, bytes, httpx.Headers]:
    """Status, body and headers of the answer to a GET. Raises ``httpx.HTTPError``, and ``SourceDown`` for a body of
    more than ``most`` bytes, or one that is compressed; the body of an answer that is not 200 is left unread."""
    async with client.stream("GET", url) as response:
        if response.status_code != 200:
            return response.status_code, b"", response.headers
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):  # a small one may have gigabytes in it
            raise SourceDown(f"the answer is compressed ({_plain(coding)}), and none was asked for that is")
        chunks, size = [], 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > most:
                raise SourceDown(f"the answer has more than {most >> 20} MiB")
            chunks.append(chunk)
        return 200, b"".join(chunks), response.headers


def refusal(status: int) -> str:
    """What an answer that is not 200 means, for a screen."""
    return f"HTTP {status}" + (": a redirect, and those are not followed" if 300 <= status < 400 else "")


def ends_by_itself(headers: httpx.Headers) -> bool:
    """Whether the end of a body is told; else it is that of the connection, which a fault may have ended."""
    return "Content-Length" in headers or "Transfer-Encoding" in headers


def kind_of(headers: httpx.Headers) -> str:
    """The media type of a body where it is none of plain text, else ""."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return "" if kind in ("", "text/plain", "application/openmetrics-text") else _plain(kind)


def refused(error: Exception) -> bool:
    """Whether nobody listens on the port."""
    text = str(error)
    return isinstance(error, httpx.ConnectError) and (
        "Connection refused" in text or "All connection attempts failed" in text
    )


def distrusted(error: Exception) -> bool:
    """Whether the server's certificate was not taken."""
    return isinstance(error, httpx.ConnectError) and _CERTIFICATE.search(str(error)) is not None


def reason(error: httpx.HTTPError, deadline: float) -> str:
    """Why there was no answer, for a screen."""
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in {deadline:g} s"
    if isinstance(error, httpx.LocalProtocolError):
        # Its text shows the header, and so the key in it.
        return "it cannot be asked: its api_key is not one line of plain text"
    text = _plain(_ERRNO.sub("", str(error))) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        if refused(error):
            return "connection refused"
        if found := _CERTIFICATE.search(text):
            return f"the certificate is not trusted: {found[1]}: set ca_file"
        return f"cannot connect: {text}"
    return f"the connection broke: {text}"


def _plain(text: str) -> str:
    """The beginning of what a server sent, with nothing that could command a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])
