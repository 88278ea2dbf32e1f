"""How the daemon has its rules evaluated: what it does between two of them, and what it tells at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from monitor import daemon as daemon_module
from monitor.config import loads
from monitor.daemon import Daemon, Options


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: int) -> Daemon:
    """A daemon whose rules each take so long that all else has its turn after them."""
    config = loads(f"state_directory: {tmp_path}\napi: {{socket: {tmp_path}/s, listen: none}}\n")
    one = Daemon(config, Options("private"))

    def steps(*about: object, **more: object) -> Iterator[list[str]]:
        yield from ([f"rule {number}"] for number in range(rules))

    monkeypatch.setattr(one._engine, "steps", steps)
    monkeypatch.setattr(daemon_module, "_AT_ONCE_SECONDS", -1.0)
    return one


def test_the_watchdog_is_fed_between_two_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    said: list[str] = []

    async def story() -> None:
        one = prepared(tmp_path, monkeypatch, 3)
        monkeypatch.setattr(daemon_module, "notify", lambda *lines: said.extend(lines))
        monkeypatch.setattr(one, "_changed", lambda *about: None)
        await one._evaluate(1000)

    asyncio.run(story())
    assert said == ["WATCHDOG=1"] * 3


def test_what_one_evaluation_changed_is_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert that inhibits another may end by an earlier rule than the other: told apart, the other would be told as
    firing in between."""
    told: list[Sequence[object]] = []

    async def story() -> None:
        one = prepared(tmp_path, monkeypatch, 3)
        monkeypatch.setattr(one, "_changed", lambda changed, now_ms: told.append(list(changed)))
        await one._evaluate(1000)
        ending = asyncio.create_task(one._evaluate(2000))
        await asyncio.sleep(0)
        ending.cancel()  # as at the daemon's end
        await asyncio.gather(ending, return_exceptions=True)

    asyncio.run(story())
    assert told == [["rule 0", "rule 1", "rule 2"], ["rule 0"]]
