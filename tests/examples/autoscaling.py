"""What the Prometheus adapter, KEDA and a HorizontalPodAutoscaler make of the examples, as their sources say: which
query is sent, what value comes of it, how many replicas are asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any


def adapter_query(rule: Mapping[str, Any], series: str, selector: Mapping[str, str]) -> str:
    """The query of the adapter for an external metric: its template's fields filled in. ``selector`` is that of the
    HPA; its matchers stand in the order of their names."""
    assert rule["resources"] == {"namespaced": False}, "with a namespace it adds one more matcher"
    matchers = ",".join(f'{name}="{value}"' for name, value in sorted(selector.items()))
    text = str(rule["metricsQuery"]).replace("<<.Series>>", series).replace("<<.LabelMatchers>>", matchers)
    assert "<<" not in text, "a field that is not known here"
    return text


def adapter_name(rule: Mapping[str, Any], series: str) -> str:
    """The name of the external metric that the adapter makes of a series."""
    name = rule["name"]
    assert re.search(name["matches"], series)
    assert "$" not in name["as"]
    return str(name["as"])


def metric_value(samples: Sequence[float]) -> float | None:
    """What an HPA gets: thousandths, and the sum of all that came; None where none came, which is an error to it."""
    return sum(int(each * 1000) for each in samples) / 1000 if samples else None


def desired_replicas(replicas: int, values: Sequence[tuple[float | None, float]]) -> int:
    """How many an HPA wants, before its bounds and its behaviour: for each metric the value over the average that each
    replica may have, within a tenth as it is; the highest of them. With a metric that is not known it goes up at most.
    """
    wanted = []
    for value, target in values:
        if value is not None:
            within = abs(1 - value / (target * replicas)) <= 0.1
            wanted.append(replicas if within else math.ceil(value / target))
    if not wanted:
        return replicas
    highest = max(wanted)
    return max(highest, replicas) if len(wanted) < len(values) else highest
