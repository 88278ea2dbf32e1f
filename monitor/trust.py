"""By what the servers are verified that are asked over TLS."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from pathlib import Path

from monitor import threads

_places = threads.Places()

_loading: dict[str | None, asyncio.Future[ssl.SSLContext]] = {}


class Trust:
    """For connections to one server: read when it is first needed, and kept while they come and go."""

    def __init__(self, ca_file: str | None = None, *, insecure_skip_verify: bool = False) -> None:
        self._ca_file = ca_file
        self._insecure = insecure_skip_verify
        self._context: ssl.SSLContext | None = None

    async def verify(self, url: str, deadline: float) -> ssl.SSLContext | bool:
        """What a client for ``url`` is given. Raises ``OSError`` as ``authorities`` does."""
        # Without TLS there is nothing to verify, and loading the certificates costs megabytes.
        if self._insecure or not url.startswith("https:"):
            return False
        if self._context is None:
            self._context = await authorities(self._ca_file, deadline)
        return self._context

    def forget(self) -> None:
        """A server was not trusted: the file may have been replaced since it was read."""
        self._context = None


async def authorities(ca_file: Path | str | None, deadline: float) -> ssl.SSLContext:
    """What is in a PEM file of authorities, or the system's where that is None, read in a thread: it takes tens of
    milliseconds, or for ever on a network mount whose server is gone. A file whose reading hangs is not read a second
    time meanwhile: each attempt would keep a thread, until there are none left for other files.

    Raises ``OSError`` with a text for people where it cannot be used, or was not read within ``deadline`` seconds.
    """
    name = None if ca_file is None else os.fspath(ca_file)
    loading = _loading.get(name)
    if loading is None or loading.get_loop() is not asyncio.get_running_loop():
        loading = _loading[name] = asyncio.ensure_future(_places.apart(ssl.create_default_context, cafile=name))
        loading.add_done_callback(_seen)
    await asyncio.wait({loading}, timeout=deadline)
    what = "the system's certificates" if name is None else f"ca_file {name}"
    if not loading.done():
        raise OSError(errno.ETIMEDOUT, f"{what}: no answer in {deadline:g} s")
    if _loading.get(name) is loading:  # what came late is for who asks next
        del _loading[name]
    try:
        return loading.result()
    except OSError as error:  # ssl.SSLError is one
        raise OSError(error.errno, f"{what}: {error.strerror or error}") from None


def _seen(done: asyncio.Future[ssl.SSLContext]) -> None:
    """Who waited for it learns of it, where somebody still does."""
    if not done.cancelled():
        done.exception()
