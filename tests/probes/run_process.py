"""A run as whoever starts it has it: the order goes in, messages come out. In a process of its own, or in this one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from monitor.probes.run import Run, Stop, Watching
from monitor.probes.schema import (
    Done,
    Known,
    Message,
    Note,
    Order,
    Progress,
    Readings,
    Record,
    Result,
    Secrets,
    Spec,
    StepDone,
)

ID = "20261121-213000-test"
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


@dataclass
class Told:
    """What it said."""

    messages: list[Message] = field(default_factory=list)
    code: int | None = None
    errors: str = ""

    @property
    def result(self) -> Result:
        """Its last word."""
        assert isinstance(self.messages[-1], Done), (self.messages[-1:], self.errors)
        return self.messages[-1].result

    @property
    def files(self) -> tuple[str, ...]:
        """Those of its folder."""
        assert isinstance(self.messages[-1], Done)
        return self.messages[-1].files

    @property
    def notes(self) -> list[str]:
        """Their texts."""
        return [each.text for each in self.messages if isinstance(each, Note)]

    @property
    def steps(self) -> list[StepDone]:
        """Those that were said as they were measured."""
        return [each for each in self.messages if isinstance(each, StepDone)]

    @property
    def progress(self) -> list[Progress]:
        """Where it said that it was."""
        return [each for each in self.messages if isinstance(each, Progress)]

    @property
    def known(self) -> list[Known]:
        """What it found the server to be."""
        return [each for each in self.messages if isinstance(each, Known)]


def order(folder: Path, workload: str, url: str, *, secrets: Secrets | None = None, **spec: Any) -> Order:
    """One whose results go to ``folder / ID``."""
    asked = msgspec.convert({"workload": workload, "url": url, **spec}, Spec)
    return Order(asked, ID, str(folder / ID), secrets or Secrets())


class NoReaders:
    """Implements ``Watching``: reads nothing."""

    gpu_names: tuple[str, ...] = ()
    driver = ""
    notes: tuple[str, ...] = ()
    weights_bytes: int | None = None

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def begin(self) -> None: ...

    async def end(self, records: Sequence[Record], duration_s: float) -> Readings:
        return Readings()

    def live(self) -> Mapping[str, Any]:
        return {}


async def inside(
    wanted: Order,
    during: Callable[[Message, Stop], None] | None = None,
    *,
    readers: Callable[..., Watching] = lambda *asked: NoReaders(),
    seconds: float = 60.0,
) -> Told:
    """The same run in this process, for what does not depend on it: nothing is read beside, and a look whether the
    server has other work is short."""
    told, stop = Told(code=0), Stop()

    def emit(message: Message) -> None:
        # As it arrives at the other end.
        told.messages.append(_decoder.decode(msgspec.json.encode(message)))
        if during is not None:
            during(message, stop)

    async with asyncio.timeout(seconds):
        await Run(wanted, stop, emit, readers=readers, busy_s=0.06).go()
    return told


async def run(
    wanted: Order | bytes,
    during: Callable[[Message, asyncio.subprocess.Process], Awaitable[None]] | None = None,
    *,
    seconds: float = 60.0,
) -> Told:
    """Start it and follow it to its end; ``during`` sees each message as it comes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "monitor.probes",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=1 << 25,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    told = Told()
    try:
        async with asyncio.timeout(seconds):
            process.stdin.write((wanted if isinstance(wanted, bytes) else msgspec.json.encode(wanted)) + b"\n")
            await process.stdin.drain()
            while line := await process.stdout.readline():
                told.messages.append(_decoder.decode(line))
                if during is not None:
                    await during(told.messages[-1], process)
            told.errors = (await process.stderr.read()).decode()
            told.code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        process.stdin.close()
    return told


def once(
    when: Callable[[Message], bool], act: Callable[[asyncio.subprocess.Process], None]
) -> Callable[[Message, asyncio.subprocess.Process], Awaitable[None]]:
    """Do something at the first message that is meant."""
    done = False

    async def during(message: Message, process: asyncio.subprocess.Process) -> None:
        nonlocal done
        if not done and when(message):
            done = True
            act(process)

    return during


def measuring(message: Message) -> bool:
    """Whether requests are on their way."""
    return isinstance(message, Progress) and message.phase == "measuring" and message.live.running > 0
