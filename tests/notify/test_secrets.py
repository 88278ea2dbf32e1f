"""Secrets that are read beside the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from monitor.notify.secrets import Unreadable, reveal
from tests.notify.parts import Url, wait_for


class Hanging:
    """Lies where reading hangs until ``free``."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.reads = 0

    def reveal(self) -> str:
        self.reads += 1
        self.free.wait(30)
        return "hunter2"

    def __repr__(self) -> str:
        return "the file token"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    one = Hanging()
    yield one
    one.free.set()


def test_one_that_hangs_takes_one_thread_and_keeps_no_other_back(hanging: Hanging) -> None:
    async def body() -> None:
        for _ in range(40):  # more than there are threads
            with pytest.raises(Unreadable, match=r"^the file token cannot be read: no answer in 0.001 s$"):
                await reveal(hanging, 0.001)
        assert hanging.reads <= 1
        assert await reveal(Url("json://other"), 20) == "json://other"
        hanging.free.set()
        await wait_for(lambda: hanging.reads == 1)
        assert await reveal(hanging, 20) == "hunter2"

    asyncio.run(body())


def test_one_that_cannot_be_had_says_why_each_time() -> None:
    async def body() -> None:
        for _ in range(2):
            with pytest.raises(Unreadable, match="NOWHERE"):
                await reveal(Url("missing:"))

    asyncio.run(body())
