"""A secret, read beside the loop: it may lie on a file system that hangs."""

from __future__ import annotations

import asyncio

from monitor.notify.route import Revealing

DEADLINE = 5.0
"""Seconds after which a secret counts as one that cannot be read."""

_reading: dict[Revealing, asyncio.Future[str]] = {}


class Unreadable(Exception):
    """A secret cannot be had. The text says why, and holds no part of it."""


async def reveal(secret: Revealing, deadline: float = DEADLINE) -> str:
    """The secret, read now. Raises ``Unreadable``.

    One whose reading hangs is not read a second time meanwhile: each attempt would keep a thread, until there are none
    left for the other secrets.
    """
    reading = _reading.get(secret)
    if reading is None or reading.get_loop() is not asyncio.get_running_loop():
        reading = _reading[secret] = asyncio.ensure_future(asyncio.to_thread(secret.reveal))
        reading.add_done_callback(lambda done: _forget(secret, done))
    await asyncio.wait({reading}, timeout=deadline)
    if not reading.done():
        raise Unreadable(f"{secret!r} cannot be read: no answer in {deadline:g} s")
    try:
        return reading.result()
    except ValueError as error:
        raise Unreadable(str(error)) from None


def _forget(secret: Revealing, done: asyncio.Future[str]) -> None:
    if _reading.get(secret) is done:
        del _reading[secret]
    if not done.cancelled():
        done.exception()  # seen: who waited for it learns of it, where somebody still does
