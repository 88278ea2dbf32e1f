"""The HTTP client for an inference server, and what a failure of it means in a few words."""

from __future__ import annotations

import re
import ssl

import httpx

from monitor.sources.source import SourceDown

_ERRNO = re.compile(r"\[Errno -?\d+\]\s*")
_CERTIFICATE = re.compile(r"certificate verify failed: (.+?)(?: \(_ssl|$)")


def make_client(
    url: str,
    *,
    deadline: float,
    api_key: str | None = None,
    ca_file: str | None = None,
    insecure_skip_verify: bool = False,
) -> httpx.AsyncClient:
    """A client with one connection, without compression: decompressing 50 kB costs more than reading them.

    ``ca_file`` is a PEM file with what the server's certificate is verified by, instead of the system's;
    ``insecure_skip_verify`` verifies nothing. Raises ``SourceDown`` where ``ca_file`` cannot be used.
    """
    headers = {"Accept-Encoding": "identity", "Accept": "text/plain;version=0.0.4", "User-Agent": "gpumon"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    verify: ssl.SSLContext | bool = False
    # Without TLS there is nothing to verify, and loading the certificates costs megabytes.
    if url.startswith("https:") and not insecure_skip_verify:
        try:
            verify = ssl.create_default_context(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise SourceDown(f"ca_file {ca_file}: {error.strerror or error}") from None
    return httpx.AsyncClient(
        headers=headers,
        timeout=deadline,
        # vLLM's server closes a connection that was idle for 5 s; a poll on one that it is closing would fail.
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=4),
        verify=verify,
        trust_env=False,
        follow_redirects=False,  # a redirect would carry the API key elsewhere
    )


async def get(client: httpx.AsyncClient, url: str, most: int) -> tuple[int, bytes]:
    """Status and body of a GET. Raises ``httpx.HTTPError``, and ``SourceDown`` for a body of more than ``most`` bytes;
    the body of an answer that is not 200 is left unread."""
    async with client.stream("GET", url) as response:
        if response.status_code != 200:
            return response.status_code, b""
        chunks, size = [], 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > most:
                raise SourceDown(f"the answer has more than {most >> 20} MiB")
            chunks.append(chunk)
        return 200, b"".join(chunks)


def refused(error: Exception) -> bool:
    """Whether nobody listens on the port."""
    text = str(error)
    return isinstance(error, httpx.ConnectError) and (
        "Connection refused" in text or "All connection attempts failed" in text
    )


def reason(error: httpx.HTTPError, deadline: float) -> str:
    """Why there was no answer, for a screen."""
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in {deadline:g} s"
    text = _ERRNO.sub("", str(error)) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        if refused(error):
            return "connection refused"
        if found := _CERTIFICATE.search(text):
            return f"the certificate is not trusted: {found[1]}: set ca_file"
        return f"cannot connect: {text}"
    return f"the connection broke: {text}"
