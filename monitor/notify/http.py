"""What forwarding and heartbeats share: an HTTP client, a secret read in time, and why there was no good answer."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

import httpx

from monitor.notify import secrets
from monitor.notify.route import Revealing

_ERRNO = re.compile(r"\[Errno -?\d+\]\s*")
_CERTIFICATE = re.compile(r"certificate verify failed: (.+?)(?: \(_ssl|$)")
_TEXT_READ = 2_000
_TEXT_SHOWN = 300

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
    verify: ssl.SSLContext | bool = False
    if tls and not insecure:
        try:
            verify = await asyncio.to_thread(ssl.create_default_context, cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise Refused(f"ca_file {ca_file}: {error.strerror or error}") from None
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


async def text_of(response: httpx.Response) -> str:
    """The beginning of a streamed answer, on one line."""
    read = b""
    async for chunk in response.aiter_bytes():
        read += chunk
        if len(read) >= _TEXT_READ:
            break
    return " ".join(read[:_TEXT_READ].decode("utf-8", "replace").split())[:_TEXT_SHOWN]


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
