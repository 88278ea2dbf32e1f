"""The workloads: sorts of load, each with its options.

``WORKLOADS`` has them by name. Nothing that is imported here loads an HTTP client.
"""

from __future__ import annotations

import importlib
from typing import Any

from monitor.probes.errors import BadOptions
from monitor.probes.schema import WORKLOADS as NAMES
from monitor.probes.schema import WorkloadName
from monitor.probes.workloads.base import Kind, OptionField, Workload

__all__ = ["WORKLOADS", "Kind", "OptionField", "Workload", "workload"]


WORKLOADS: dict[WorkloadName, Workload[Any]] = {
    name: importlib.import_module(f"{__name__}.{name}").WORKLOAD for name in NAMES
}


def workload(name: str) -> Workload[Any]:
    """The workload of that name. Raises ``BadOptions`` where there is none."""
    for each, found in WORKLOADS.items():
        if each == name:
            return found
    raise BadOptions(f"there is no workload '{name}'; there are {', '.join(WORKLOADS)}")
