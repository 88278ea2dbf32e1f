"""The answers that a report gives, in sentences with their numbers. Pure: over what came of a run until then.

Each has a topic, how good or bad it is, the sentence, and the numbers in it for programs. What was not measured is said
to be not known, with the reason; nothing is claimed without its number.
"""

from __future__ import annotations

from collections.abc import Callable

from monitor.probes.findings_cost import cost, energy, memory
from monitor.probes.findings_idle import idle
from monitor.probes.findings_lengths import doubling
from monitor.probes.findings_limit import limit
from monitor.probes.findings_sweep import knee_of, saturated, targets
from monitor.probes.findings_trust import disturbed, failures, trust
from monitor.probes.findings_workloads import accuracy, drift, prefix, priority, rates
from monitor.probes.schema import Finding, Result

_QUESTIONS: tuple[Callable[[Result], list[Finding]], ...] = (
    knee_of, saturated, rates, targets, limit, idle, doubling, prefix, priority, drift, memory, energy, cost,
    accuracy, failures, disturbed, trust,
)  # fmt: skip
"""In the order of the report: what the server can, why not more, what it costs, and whether that can be relied on."""


def findings(result: Result) -> tuple[Finding, ...]:
    """Everything that can be said of a result, whole or not; () where nothing was measured."""
    return tuple(finding for ask in _QUESTIONS for finding in ask(result))
