"""A reload whose files do not come, come late, or come twice; and a start that waits for them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from monitor import reloading
from monitor.config import Config, ConfigError, loads
from monitor.records import replace
from monitor.reloading import Reloads, said_if_slow
from monitor.rules.rule_file import RuleSet
from monitor.yaml_reader import Problem
from tests.daemons import PATIENCE, daemon, wait_for

RULES = "groups: [{name: g, rules: [{record: one, expr: vector(1)}]}]"


class Asked:
    """Somebody who asks for reloads, and what he was given."""

    def __init__(self, read: Callable[[], Config]) -> None:
        self.held = loads("node: {hostname: held}")
        self.taken: list[Config] = []
        self.refused: list[str] = []
        self.outcome = asyncio.Event()
        self.reloads = Reloads(read, "file.yaml", held=lambda: self.held, take=self.take, refuse=self.refuse)

    def take(self, asked: Config, config: Config, rules: RuleSet) -> None:
        assert len(rules) > 0
        self.taken.append(config)
        self.outcome.set()

    def refuse(self, problems: Sequence[Problem]) -> None:
        self.refused.append("; ".join(map(str, problems)))
        self.outcome.set()

    async def outcomes(self, number: int) -> None:
        """Wait until so many reloads have ended."""
        async with asyncio.timeout(PATIENCE):
            while len(self.taken) + len(self.refused) < number:
                await self.outcome.wait()
                self.outcome.clear()


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "PATIENCE", 0.5)


@pytest.mark.usefixtures("_hasty")
def test_a_file_that_does_not_come_is_given_up_and_its_end_is_nobodys() -> None:
    answers = threading.Event()

    def read() -> Config:
        if not answers.is_set():
            answers.wait(PATIENCE)
            return loads("node: {hostname: late}")
        return loads("alerting: {evaluation_interval: 7s}")

    async def story() -> Asked:
        one = Asked(read)
        for number in (1, 2, 3):
            one.reloads.ask()
            await one.outcomes(number)
        answers.set()
        while not one.taken:  # until the threads are gone
            one.refused[3:] = []
            one.reloads.ask()
            await one.outcomes(4)
        await one.reloads.close()
        return one

    one = asyncio.run(story())
    hangs = "file.yaml:1:1: cannot be read: nothing came within 0 s: does its disk answer, is it a file?"
    waits = "file.yaml:1:1: cannot be read: 2 calls wait already for a disk that does not answer"
    assert one.refused == [hangs, hangs, waits]
    assert [config.evaluation_interval_ms for config in one.taken] == [7_000]
    assert one.taken[0].hostname == "held"  # only a start takes another


@pytest.mark.usefixtures("_hasty")
def test_rules_that_do_not_come_are_named(tmp_path: Path) -> None:
    pipe, good = tmp_path / "pipe.yaml", tmp_path / "good.yaml"
    os.mkfifo(pipe)
    good.write_text(RULES)

    async def story() -> Asked:
        one = Asked(lambda: replace(loads(""), rule_files=(good, pipe, good)))
        one.reloads.ask()
        await one.outcomes(1)
        pipe.write_text(RULES)  # lets the thread go
        return one

    assert [text.partition(": nothing")[0] for text in asyncio.run(story()).refused] == [f"{pipe}:1:1: cannot be read"]


def test_what_changes_while_it_is_read_is_read_again() -> None:
    begun, goes_on = threading.Event(), threading.Event()
    times = iter(range(10))

    def read() -> Config:
        number = next(times)
        begun.set()
        goes_on.wait(PATIENCE)
        return loads(f"alerting: {{evaluation_interval: {number + 1}s}}")

    async def story() -> Asked:
        one = Asked(read)
        one.reloads.ask()
        await asyncio.to_thread(begun.wait, PATIENCE)
        one.reloads.ask()
        one.reloads.ask()
        goes_on.set()
        await one.outcomes(2)
        await asyncio.sleep(0.05)
        return one

    one = asyncio.run(story())
    assert [config.evaluation_interval_ms for config in one.taken] == [1_000, 2_000]
    assert next(times) == 2


def test_a_fault_of_ours_is_told_and_the_next_reload_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Config | Exception] = [ZeroDivisionError("ours"), ConfigError([Problem("f", 1, 2, "bad")]), loads("")]

    def read() -> Config:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def story() -> Asked:
        one = Asked(read)
        for number in (1, 2, 3):
            one.reloads.ask()
            await one.outcomes(number)
        return one

    one = asyncio.run(story())
    assert one.refused == ["", "f:1:2: bad"]
    assert len(one.taken) == 1
    (record,) = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_what_is_asked_while_a_reload_fails_is_done() -> None:
    async def story() -> Asked:
        loop = asyncio.get_running_loop()

        def fail() -> Config:
            loop.call_soon_threadsafe(one.reloads.ask)
            raise ZeroDivisionError("ours")

        reads = iter((fail, lambda: loads("")))
        one = Asked(lambda: next(reads)())
        one.reloads.ask()
        await one.outcomes(2)
        return one

    one = asyncio.run(story())
    assert one.refused == [""]
    assert len(one.taken) == 1


def test_an_end_waits_for_no_reload() -> None:
    answers = threading.Event()

    def read() -> Config:
        answers.wait(PATIENCE)
        return loads("")

    async def story() -> Asked:
        one = Asked(read)
        await one.reloads.close()  # of none
        one.reloads.ask()
        await asyncio.sleep(0.01)
        await one.reloads.close()
        answers.set()
        return one

    one = asyncio.run(story())
    assert one.taken == []
    assert one.refused == []


@pytest.mark.usefixtures("_hasty")
def test_a_start_says_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    with said_if_slow("fast.yaml"):
        pass
    with said_if_slow("slow.yaml"):
        wait_for(lambda: caplog.records, "a word")
    assert [record.getMessage() for record in caplog.records] == ["waiting for slow.yaml: nothing came within 0 s"]


def test_a_start_goes_on_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with said_if_slow("any.yaml"):
        pass


def test_a_daemon_goes_on_while_its_configuration_does_not_come(tmp_path: Path) -> None:
    config = tmp_path / "gpumon.yaml"
    good = "sources: {nvml: {enabled: false}, vllm: {enabled: false}}\nalerting: {evaluation_interval: 1s}\n"
    config.write_text(good)
    with daemon(tmp_path, "--config", str(config)) as one:
        config.unlink()
        os.mkfifo(config)
        one.process.send_signal(signal.SIGHUP)
        evaluations = one.query("gpumon_rule_evaluations_total")[0][1]
        wait_for(lambda: one.query("gpumon_rule_evaluations_total")[0][1] > evaluations + 3, "rules that go on")
        wait_for(lambda: "gpumon.yaml:1:1: cannot be read: nothing came within 10 s" in one.log(), "the refusal")
        wait_for(lambda: one.query("gpumon_config_last_reload_successful == 0"), "its series")
        config.unlink()
        config.write_text(good.replace("1s", "2s"))
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "evaluation_interval changed" in one.log(), "the reload")
        assert one.end() == 0
