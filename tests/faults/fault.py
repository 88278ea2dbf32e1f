"""The registry of faults: a function each, that makes a node, breaks one thing, and says what it saw.

    @fault("reader killed", group="processes", what="`kill -9` of the NVML reader")
    def reader_killed(nodes: NodeFactory) -> Outcome:
        with nodes() as node:
            outcome = Outcome()
            at = node.signal(signal.SIGKILL, "reader")
            ...
            outcome.see("series", "gpumon_source_restarts_total", node.now() - at)
            outcome.close(node)          # the audit, same for all
            return outcome

A fault that cannot be tried here raises ``NotRun`` with the reason, which is never a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tests.faults.node import Node


class NodeFactory(Protocol):
    """Makes a node in a folder of its own; ``node.Node`` has the options."""

    def __call__(self, **options: Any) -> Node: ...


class NotRun(Exception):
    """It cannot be tried here. The text says why: ``needs root``."""


@dataclass
class Outcome:
    """What became of a fault."""

    seen: list[tuple[str, str, float]] = field(default_factory=list)
    """What was told, by which channel, how many seconds after."""
    meanwhile: str = ""
    """What went on while it was broken."""
    recovered: float | None = None
    """Seconds from the fault's end until all was as before; None where there was nothing to recover."""
    by_itself: bool = True
    lost: str = ""
    """"nothing", or what."""
    problems: list[str] = field(default_factory=list)
    """Promises that were broken."""

    def see(self, channel: str, what: str, after: float) -> None:
        """Note what was told."""
        self.seen.append((what, channel, after))

    def expect(self, holds: object, problem: str) -> None:
        """Note a problem where something does not hold."""
        if not holds:
            self.problems.append(problem)

    def alarm(self, node: Node, words: str = "") -> float:
        """A drill while the thing is broken: the alarm must work. Seconds until it was told."""
        since = node.now()
        name = node.drill()
        took = node.wait_told("Drill", "firing", since, engine=name) - since
        node.drill(name, 0.0)
        self.go_on(f"{words or 'another alert'} is told after {took:.1f} s")
        return took

    def go_on(self, words: str) -> None:
        """Note what went on while it was broken."""
        self.meanwhile = "; ".join(filter(None, (self.meanwhile, words)))

    def close(self, node: Node, **options: Any) -> None:
        """Audit the node; ``audit.audit`` has the options."""
        found = node.audit(**options)
        self.problems += found.problems
        self.lost = "; ".join(filter(None, (self.lost, found.lost() if not self.lost or (found.gap or 0) >= 3 else "")))


@dataclass(frozen=True)
class Fault:
    """One of them."""

    name: str
    group: str
    what: str
    """What is broken, for the table; Markdown."""
    run: Callable[[NodeFactory], Outcome]
    alone: bool = False
    """Whether nothing else may run beside it, as it takes all of the machine."""


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, group: str, what: str, alone: bool = False
) -> Callable[[Callable[[NodeFactory], Outcome]], Callable[[NodeFactory], Outcome]]:
    """Register a fault. Raises ``ValueError`` where the name is taken."""

    def register(run: Callable[[NodeFactory], Outcome]) -> Callable[[NodeFactory], Outcome]:
        if name in FAULTS:
            raise ValueError(f"two faults are named {name}")
        FAULTS[name] = Fault(name, group, what, run, alone)
        return run

    return register
