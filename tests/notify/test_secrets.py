"""Secrets that are read beside the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from monitor import threads
from monitor.notify.secrets import Unreadable, reveal
from tests.notify.parts import Url, wait_for


class Hanging:
    """Lies where reading hangs until ``free``."""

    is_at_hand = False

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


def test_where_no_thread_can_be_had_it_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(work: Callable[[], object], name: str) -> threading.Thread:
        raise OSError(11, "no thread can be started")

    async def body() -> None:
        assert await reveal(Url("json://once")) == "json://once"
        monkeypatch.setattr(threads, "start", none)
        assert await reveal(Url("json://once")) == "json://once"
        assert await reveal(Url("json://plain", is_at_hand=True)) == "json://plain"
        with pytest.raises(Unreadable, match="no thread can be started"):
            await reveal(Url("json://never"))

    asyncio.run(body())
