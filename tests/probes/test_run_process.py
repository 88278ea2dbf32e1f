"""A run's process: its lines, its signals, and its end, against the simulated server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from monitor.probes import results
from monitor.probes.__main__ import Lines, Teller
from monitor.probes.pace import PaceServer
from monitor.probes.pace_engine import Pace
from monitor.probes.schema import Message, Note, Progress, Secrets
from tests.probes.run_process import ID, Told, measuring, once, order, run

FEW = {"requests": 4, "input_len": 20, "output_len": 5, "warmups": 1}
LONG = {"requests": 10_000, "input_len": 20, "output_len": 20}


def cancel_by_word(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"cancel\n")


def cancel_by_end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()


def cancel_by_signal(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("how", [cancel_by_word, cancel_by_end, cancel_by_signal])
def test_cancelled_in_the_middle_it_keeps_what_it_has(
    tmp_path: Path, how: Callable[[asyncio.subprocess.Process], None]
) -> None:
    def some(message: Message) -> bool:
        return isinstance(message, Progress) and measuring(message) and message.live.completed > 0

    async def go() -> tuple[Told, int]:
        async with PaceServer(Pace(prefill_s=0.01, itl_s=0.02)) as server:
            said = await run(order(tmp_path, "latency", server.url, options=LONG), once(some, how))
            return said, len(server.engine.running)

    said, running = asyncio.run(go())
    result = said.result
    assert (said.code, result.state, result.error) == (0, "cancelled", "")
    (step,) = result.steps
    assert step.metrics.completed > 0
    assert step.metrics.failed == 0
    assert step.invalid == ("the run was cancelled in the middle of it",)
    assert running == 0
    assert "baseline_metrics.json" in said.files
    assert results.read(tmp_path / ID).state == "cancelled"


def test_signals_of_a_terminal_are_not_for_it_and_the_key_is_said_nowhere(tmp_path: Path) -> None:
    def interrupt(process: asyncio.subprocess.Process) -> None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)

    async def go() -> Told:
        async with PaceServer(Pace(prefill_s=0.002, itl_s=0.001), api_key="s3cret-key") as server:
            wanted = order(
                tmp_path, "latency", server.url, secrets=Secrets(api_key="s3cret-key"), options=FEW, repeats=1
            )
            return await run(wanted, once(lambda message: True, interrupt))

    said = asyncio.run(go())
    assert (said.code, said.result.state) == (0, "done")
    assert said.result.steps[0].metrics.completed == 4
    assert "s3cret-key" not in repr(said.messages) + said.errors
    for path in (tmp_path / ID).rglob("*.*"):
        assert "s3cret-key" not in path.read_text(), path


def test_a_server_that_dies_in_the_middle_ends_the_run_with_what_it_has(tmp_path: Path) -> None:
    async def go() -> Told:
        async with PaceServer(Pace(prefill_s=0.002, itl_s=0.01)) as server:

            async def during(message: Message, process: asyncio.subprocess.Process) -> None:
                if isinstance(message, Progress) and measuring(message) and message.step_index == 1:
                    await server.die()

            options = {"requests": 40, "input_len": 20, "output_len": 5}
            return await run(order(tmp_path, "latency", server.url, options=options), during)

    said = asyncio.run(go())
    result = said.result
    assert (said.code, result.state) == (0, "failed")
    assert "the server is gone since one at a time" in result.error
    good, bad = result.steps
    assert (good.invalid, good.metrics.completed) == ((), 40)
    assert bad.metrics.failed > 0
    assert any("connections in a row failed" in why for why in bad.invalid)
    kept = results.read(tmp_path / ID)
    assert kept.error == result.error


def test_where_nobody_reads_any_more_it_ends(tmp_path: Path) -> None:
    async def go() -> int:
        async with PaceServer(Pace(prefill_s=0.01, itl_s=0.02)) as server:
            wanted = order(tmp_path, "latency", server.url, options=LONG)
            process = subprocess.Popen(  # noqa: ASYNC220 - of a pipe of asyncio one end alone cannot be closed
                [sys.executable, "-P", "-m", "monitor.probes"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(msgspec.json.encode(wanted) + b"\n")
                process.stdin.flush()
                await asyncio.to_thread(process.stdout.readline)
                process.stdout.close()
                return await asyncio.to_thread(process.wait, 60)
            finally:
                process.kill()
                process.stdin.close()

    assert asyncio.run(go()) == 1  # its last word was not written


def test_a_slow_reader_gets_the_last_word_and_holds_up_nobody() -> None:
    readable, writable = os.pipe()
    teller = Teller(writable)
    for _ in range(5000):
        teller.say(Progress(0, "measuring", step="x" * 100))
    teller.say(Note(0, "the end"))
    said: list[bytes] = []

    def read_all() -> None:
        while piece := os.read(readable, 1 << 16):
            said.append(piece)

    reader = threading.Thread(target=read_all)
    reader.start()
    assert teller.close()
    os.close(writable)
    reader.join()
    os.close(readable)
    lines = b"".join(said).splitlines()
    assert b"the end" in lines[-1]
    assert len(lines) < 5000  # what was out of date was left out


def test_lines_are_read_as_they_come_and_the_last_needs_no_end() -> None:
    readable, writable = os.pipe()
    lines = Lines(readable)
    os.write(writable, b"one\ntwo\nth")
    assert (lines.next(), lines.next()) == (b"one", b"two")
    os.write(writable, b"ree")
    os.close(writable)
    assert (lines.next(), lines.next()) == (b"three", None)
    os.close(readable)


def test_what_is_no_order_is_an_error() -> None:
    said = asyncio.run(run(b'{"spec": 1}'))
    assert said.code == 2
    assert said.messages == []
    assert "the first line on standard input must be an order" in said.errors
