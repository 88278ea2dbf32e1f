"""Reading the configuration and the rules from a disk that may not answer: a start then says so, and a reload gives up,
while the daemon goes on with what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from monitor.config import Config, ConfigError
from monitor.records import replace
from monitor.rules.rule_file import RuleSet, default_rules_path, load_rules
from monitor.sd_notify import notify
from monitor.threads import Places
from monitor.told import AT_START
from monitor.yaml_reader import Problem

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for the configuration, and as many for the rules."""

T = TypeVar("T")


def read_rules(config: Config, begin: Callable[[Path], object] = str) -> RuleSet:
    """The rules of the configuration, or those that are shipped. Each file is given to ``begin`` before it is read.
    Raises ``ConfigError``."""

    def each() -> Iterator[Path]:
        for path in config.rule_files or (default_rules_path(),):
            begin(path)
            yield path

    return load_rules(each())


@contextlib.contextmanager
def said_if_slow(name: str) -> Iterator[None]:
    """Say in the log what is waited for, once that takes long: a service manager ends a start that never ends, and
    without a word nobody knows why."""
    timer = threading.Timer(PATIENCE, log.warning, (f"waiting for {name}: nothing came within {PATIENCE:.0f} s",))
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # no thread can be had: a start is worth more than a word
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Reloads:
    """Reads again whenever asked, in threads that nobody has to wait for, one after the other."""

    def __init__(
        self,
        read: Callable[[], Config],
        name: str,
        *,
        held: Callable[[], Config],
        take: Callable[[Config, Config, RuleSet], None],
        refuse: Callable[[Sequence[Problem]], None],
    ) -> None:
        """``read`` reads the file ``name``, and raises ``ConfigError``. ``take`` gets the configuration as it stands
        there, the same with what only a start takes over as it is in ``held``, and the rules; ``refuse``, why there is
        nothing to take; none of them for a fault of ours."""
        self._read = read
        self._name = name
        self._held = held
        self._take = take
        self._refuse = refuse
        self._places = Places(2)
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Read again, and once more where somebody asked while it was read."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._reload(), name="reload")
            self._task.add_done_callback(self._look)

    async def close(self) -> None:
        """Wait for nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _look(self, task: asyncio.Task[None]) -> None:
        """The daemon goes on after a fault of ours, too."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the reload failed", exc_info=error)
            self._refuse(())
            notify("READY=1", "STATUS=a reload failed; the log says how")
            if self._asked:  # while this one was read: it is another that may succeed
                self.ask()

    async def _reload(self) -> None:
        while self._asked:
            self._asked = False
            try:
                asked = await self._within([Path(self._name)], self._read)
                held = self._held()
                config = replace(asked, **{name: getattr(held, name) for name in AT_START})
                begun: list[Path] = []
                rules = await self._within(begun, partial(read_rules, config, begun.append))
            except ConfigError as error:
                self._refuse(error.problems)
                notify("READY=1", "STATUS=a bad configuration was refused; the old one stays")
            else:
                self._take(asked, config, rules)
                notify("READY=1", f"STATUS=watching as {config.instance}")

    async def _within(self, begun: Sequence[Path], read: Callable[[], T]) -> T:
        """What ``read`` gives; the last file that it has ``begun`` is what is waited for."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._places.apart(read)
        except TimeoutError:
            why = f"nothing came within {PATIENCE:.0f} s: does its disk answer, is it a file?"
        except OSError as error:  # no thread could be had, or those before this one still wait
            why = error.strerror or str(error)
        raise ConfigError([Problem(str(begun[-1]) if begun else "rules", 1, 1, f"cannot be read: {why}")])
