"""A deadline that counts only what others let us wait for."""

import asyncio
import itertools
import threading
import types
from pathlib import Path

import pytest

from monitor.sources import procfs
from monitor.sources.patience import patiently


def test_who_only_waits_is_given_up() -> None:
    async def work() -> None:
        async with patiently(0.02):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(work())


def test_what_we_are_busy_with_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> str:
        came = asyncio.Event()
        looks = 0

        def occupied() -> float:
            nonlocal looks
            looks += 1
            if looks == 1:
                return 0.0
            came.set()  # when the time is over
            return 100.0

        monkeypatch.setattr("monitor.sources.procfs.occupied_seconds", occupied)
        async with patiently(0.02):
            await came.wait()
        return "taken"

    assert asyncio.run(work()) == "taken"


def test_who_is_always_busy_gives_up_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.sources.procfs.occupied_seconds", itertools.count().__next__)

    async def work() -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with patiently(0.02):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(work()) >= 5 * 0.02


def test_where_the_kernel_says_nothing_for_once_no_time_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.sources.procfs.time", types.SimpleNamespace(thread_time=lambda: 1.0))
    stat = tmp_path / "thread-self" / "schedstat"
    stat.parent.mkdir()
    seen: list[float] = []

    def look() -> None:
        for text in ("", "5 100000000000 7", "5 100500000000 7", "", "5 102000000000 7"):
            stat.write_text(text)
            seen.append(procfs.occupied_seconds(tmp_path))

    thread = threading.Thread(target=look)  # which has been asked nothing before
    thread.start()
    thread.join()
    assert seen == [1.0, 1.0, 1.5, 1.5, 3.0]


def test_nothing_is_left_of_one_that_was_in_time() -> None:
    async def work() -> list[asyncio.TimerHandle]:
        async with patiently(60):
            await asyncio.sleep(0)
        return [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    assert asyncio.run(work()) == []
