"""Which of a model's replicas is slow: one server, or one engine of a server, beside the median of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from monitor.client.results import Answers
from monitor.digits import by_number

FACTOR = 1.5
"""So many times the others' median is clearly apart from it."""
_REQUESTS = 0.1
"""Requests a second from which on their mean tells something."""
_TOKENS = 1.0
_RUNNING = 1.0

Key: TypeAlias = tuple[str, str, str]
"""Instance, server, engine."""


@dataclass(slots=True)
class Replica:
    """One engine, and what it does. Latencies in seconds, rates a second; None where nobody says."""

    instance: str
    server: str
    engine: str
    model: str = ""
    running: float | None = None
    waiting: float | None = None
    kv_cache: float | None = None
    generation: float | None = None
    busy: float | None = None
    """How many requests ran, in the mean of the time that rates are of."""
    totals: dict[str, float] = field(default_factory=dict)
    """The sums and counts a second that means are made of: ``itl_sum``, ``itl_count``, ``ttft_sum``, ``ttft_count``."""
    slow: str = ""
    """What is slow about it beside its like; "" where nothing is."""

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.instance, self.server, self.engine

    @property
    def ttft(self) -> float | None:
        """Time to the first token, in the mean."""
        return self._mean("ttft")

    @property
    def itl(self) -> float | None:
        """Time between two tokens, in the mean."""
        return self._mean("itl")

    @property
    def per_request(self) -> float | None:
        """Tokens a second of each request that runs."""
        if self.generation is None or self.busy is None or self.busy < _RUNNING:
            return None
        return self.generation / self.busy

    def _mean(self, id: str) -> float | None:
        count = self.totals.get(f"{id}_count", 0.0)
        return self.totals[f"{id}_sum"] / count if count > 0 and f"{id}_sum" in self.totals else None


def replicas(answers: Answers | None) -> tuple[Replica, ...]:
    """Every engine that the queries of a screen know, with those that are slow named; by server and engine."""
    if answers is None:
        return ()
    found: dict[Key, Replica] = {}
    for labels, _, value in answers.rows("engine_gauges"):
        one = _at(found, labels)
        name = labels.get("__name__", "")
        if name.endswith("cache_usage_perc"):
            one.kv_cache = value
        elif name.endswith("running"):
            one.running = value + (one.running or 0.0)
        else:
            one.waiting = value + (one.waiting or 0.0)
    for labels, _, value in answers.rows("engine_generation"):
        if (known := found.get(_key(labels))) is not None:  # a rate outlives its server by its window
            known.generation = value + (known.generation or 0.0)
    for labels, _, value in answers.rows("engine_busy"):
        if (known := found.get(_key(labels))) is not None:
            known.busy = value + (known.busy or 0.0)
    for id in ("ttft_sum", "ttft_count", "itl_sum", "itl_count"):
        for labels, _, value in answers.rows(f"engine_{id}"):
            if (known := found.get(_key(labels))) is not None:
                known.totals[id] = value + known.totals.get(id, 0.0)
    every = tuple(found[key] for key in sorted(found, key=_order))
    name_slow(every)
    return every


def together(engines: Sequence[Replica]) -> tuple[Replica, ...]:
    """The servers, each with all its engines as one, with those that are slow named."""
    found: dict[Key, Replica] = {}
    for one in engines:
        key = (one.instance, one.server, "")
        if key not in found:
            found[key] = Replica(*key, one.model)
        server = found[key]
        server.running = _sum(server.running, one.running)
        server.busy = _sum(server.busy, one.busy)
        server.waiting = _sum(server.waiting, one.waiting)
        server.generation = _sum(server.generation, one.generation)
        for id, value in one.totals.items():
            server.totals[id] = value + server.totals.get(id, 0.0)
    name_slow(tuple(found.values()))
    return tuple(found.values())


def name_slow(every: Sequence[Replica]) -> None:
    """Say of each what is slow about it beside the others of its model, where there are enough requests to tell."""
    models: Mapping[str, list[Replica]] = defaultdict(list)
    for one in every:
        models[one.model].append(one)
    for alike in models.values():
        for one in alike:
            one.slow = _why([other for other in alike if other is not one], one) if len(alike) > 1 else ""


def _why(others: Sequence[Replica], one: Replica) -> str:
    for word, own, of_others in (
        ("ITL", _enough(one, "itl", _TOKENS), [_enough(other, "itl", _TOKENS) for other in others]),
        ("TTFT", _enough(one, "ttft", _REQUESTS), [_enough(other, "ttft", _REQUESTS) for other in others]),
    ):
        known = [value for value in of_others if value is not None]
        if own is not None and known and (middle := median(known)) > 0 and own > FACTOR * middle:
            return f"slow: {word} {own / middle:.1f}× the others'"
    known = [value for other in others if (value := other.per_request) is not None]
    own = one.per_request
    if own is not None and known and own * FACTOR < (middle := median(known)):
        return f"slow: tok/s a request {own / middle:.1f}× the others'"
    return ""


def _enough(one: Replica, id: str, least: float) -> float | None:
    """A mean that is of enough."""
    return one._mean(id) if one.totals.get(f"{id}_count", 0.0) >= least else None


def _sum(left: float | None, right: float | None) -> float | None:
    return left if right is None else right if left is None else left + right


def _key(labels: Mapping[str, str]) -> Key:
    instance = labels.get("instance", "")
    return instance, labels.get("server") or instance, labels.get("engine", "")


def _at(found: dict[Key, Replica], labels: Mapping[str, str]) -> Replica:
    key = _key(labels)
    if key not in found:
        found[key] = Replica(*key, labels.get("model_name", ""))
    return found[key]


def _order(key: Key) -> tuple[str, str, int, str]:
    instance, server, engine = key
    return instance, server, *by_number(engine)
