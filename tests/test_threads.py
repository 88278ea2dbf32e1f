"""Work in threads that nobody has to wait for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from monitor import threads


def test_what_the_work_gives_or_raises_comes_back() -> None:
    async def run() -> None:
        assert await threads.apart(int, "7", base=8) == 7
        with pytest.raises(ValueError, match="invalid literal"):
            await threads.apart(int, "x")
        assert await threads.apart(threading.current_thread) is not threading.main_thread()

    asyncio.run(run())


def test_calls_that_hang_hold_up_no_other_until_there_are_too_many() -> None:
    async def run() -> None:
        hang = threading.Event()
        hung = [asyncio.create_task(threads.apart(hang.wait)) for _ in range(threads.MOST - 1)]
        await asyncio.sleep(0)
        try:
            assert await threads.apart(int, "7") == 7
            hung.append(asyncio.create_task(threads.apart(hang.wait)))
            await asyncio.sleep(0)
            with pytest.raises(OSError, match="32 calls wait already for a disk that does not answer"):
                await threads.apart(int, "7")
            assert await threads.Places().apart(int, "7") == 7, "another user has places of his own"
        finally:
            hang.set()
        await asyncio.gather(*hung)
        assert await threads.apart(int, "7") == 7

    asyncio.run(run())


def test_who_does_not_wait_any_more_breaks_nothing() -> None:
    hang = threading.Event()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await threads.apart(hang.wait)

    asyncio.run(run())
    before = {thread for thread in threading.enumerate() if thread.name == "wait"}
    assert before, "it goes on"
    hang.set()
    for thread in before:
        thread.join(30)
        assert not thread.is_alive()


def test_a_program_ends_though_a_call_hangs() -> None:
    program = """
import asyncio, threading
from monitor import threads
async def run():
    asyncio.create_task(threads.apart(threading.Event().wait))
    await asyncio.sleep(0.01)
asyncio.run(run())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_thread_that_cannot_be_had_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        with monkeypatch.context() as refusing:
            refusing.setattr(threading.Thread, "start", refuse)
            for _ in range(threads.MOST + 1):
                with pytest.raises(OSError, match="no thread can be started: Resource temporarily unavailable"):
                    await threads.apart(int, "7")
        assert await threads.apart(int, "7") == 7

    asyncio.run(run())
