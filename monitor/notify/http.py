"""What forwarding and heartbeats share: an HTTP client, a secret read in time, and why there was no good answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from monitor.notify import secrets
from monitor.notify.route import Revealing
from monitor.plain import one_line
from monitor.trust import authorities

_ERRNO = re.compile(r"\[Errno -?\d+\]\s*")
_CERTIFICATE = re.compile(r"certificate verify failed: (.+?)(?: \(_ssl|$)")
_TEXT_READ = 2_000
_TEXT_SHOWN = 300
_TEXT_SECONDS = 1.0

UNSENDABLE = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError)
"""A URL or a header with which there is no request. Their texts show it: where it is a secret, they must not be
told."""


class Refused(Exception):
    """It could not be sent, or was not taken. The text says why, without a secret."""


async def make_client(
    *, tls: bool, deadline: float, ca_file: Path | None = None, insecure: bool = False, proxies: bool = False
) -> httpx.AsyncClient:
    """A client that follows no redirect: one would carry a secret elsewhere.

    Certificates are read only where there is TLS: they cost megabytes. With ``proxies`` those of the environment are
    used. Raises ``Refused`` where ``ca_file`` cannot be used."""
    try:
        verify = await authorities(ca_file, deadline) if tls and not insecure else False
    except OSError as error:
        raise Refused(str(error.strerror)) from None
    return httpx.AsyncClient(
        headers={"User-Agent": "gpumon", "Accept-Encoding": "identity"},
        timeout=deadline,
        verify=verify,
        trust_env=proxies,
        follow_redirects=False,
    )


async def reveal(secret: Revealing) -> str:
    """The secret, read now. Raises ``Refused`` where it cannot be had."""
    try:
        return await secrets.reveal(secret)
    except secrets.Unreadable as error:
        raise Refused(str(error)) from None


async def text_of(response: httpx.Response, hide: Callable[[str], str]) -> str:
    """The beginning of a streamed answer, on one line of what is printable: what came of it within a moment, as what
    a server says of its refusal must not delay that it refused. "" for one that is compressed: nobody asked for that,
    and a little of it may be gigabytes. ``hide`` takes secrets out of it, before it is cut: it would not know a half of
    one."""
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        return ""
    read = b""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_TEXT_SECONDS):
            async for chunk in response.aiter_bytes():
                read += chunk
                if len(read) >= _TEXT_READ:
                    break
    return hide(one_line(read[:_TEXT_READ].decode("utf-8", "replace")))[:_TEXT_SHOWN]


def distrusted(error: Exception) -> bool:
    """Whether the server's certificate was not taken. What it is verified by may be replaced then, and is read anew by
    a new client."""
    return isinstance(error, httpx.ConnectError) and _CERTIFICATE.search(str(error)) is not None


def reason(error: Exception, deadline: float) -> str:
    """Why there was no answer. May hold parts of the URL: to be masked where that is a secret."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer in {deadline:g} s"
    text = _ERRNO.sub("", str(error)) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        if "Connection refused" in text or "All connection attempts failed" in text:
            return "connection refused"
        if found := _CERTIFICATE.search(text):
            return f"the certificate is not trusted: {found[1]}"
        return f"cannot connect: {text}"
    if isinstance(error, httpx.TransportError):
        return f"the connection broke: {text}"
    return text
