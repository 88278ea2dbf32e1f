"""A fleet's nodes from what its queries say, and which of them is worst. Pure: no connection, no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monitor.client.access import Address, Part
from monitor.client.fleet_parts import Exporter
from monitor.client.format import celsius, count, duration, percent, rate
from monitor.client.results import Answers, Row
from monitor.client.snapshot import Alert, FleetNode, History
from monitor.records import replace

HOT_MARGIN = 5.0
"""°C to the temperature at which a GPU slows down."""
FULL_CACHE = 0.95
_BUSY = 0.10
_DAEMON_SECONDS = 15.0
_PROMETHEUS_SECONDS = 180.0
_SEVERITIES = {"critical": 0, "page": 0, "error": 1, "warning": 2, "": 2, "info": 4}
_SUMS = {
    "DCGM_FI_DEV_POWER_USAGE": "power",
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
}
_MOST = {
    "DCGM_FI_DEV_GPU_TEMP": "hottest",
    "vllm:kv_cache_usage_perc": "kv_cache",
    "vllm:gpu_cache_usage_perc": "kv_cache",
}
_RATES = {"prompt": "prompt_rate", "generation": "generation_rate", "failed": "failed_rate"}


@dataclass(frozen=True, slots=True)
class State:
    """How a node is. The lowest ``rank`` is the worst."""

    rank: int
    word: str
    detail: str = ""
    """What is to be known of it, where no alert says it."""


def state(node: FleetNode) -> State:
    """The gravest of all that is wrong with a node, in words."""
    if node.up is False:
        gone = "" if node.age_seconds is None else f"{duration(node.age_seconds)}, "
        return State(0, "down", gone + (node.reason or "no answer"))
    if node.up is None:
        return State(13, "asking", node.reason)
    if is_old(node):
        return State(2, "old", f"nothing read for {duration(node.age_seconds)}")
    grave = _SEVERITIES.get(node.severity, 3) if node.severity or node.alert else 9
    if grave <= 1:
        return State(1, node.severity)
    if node.servers_down:
        return State(
            2, "vLLM down", f"{count(node.servers_down, 'server')} of {node.servers_down + (node.servers_up or 0)}"
        )
    if node.exporters_down:
        return State(3, "half told", f"not scraped: {', '.join(node.exporters_down)}")
    if grave <= 3:
        return State(4, node.severity or "alert")
    return _unalerted(node)


def is_old(node: FleetNode) -> bool:
    """Whether what is known of a node is not of now. A daemon tells each 3 s, a Prometheus scrapes each minute at the
    slowest."""
    limit = _DAEMON_SECONDS if node.address.part is None else _PROMETHEUS_SECONDS
    return node.up is True and node.age_seconds is not None and node.age_seconds > limit


def _unalerted(node: FleetNode) -> State:
    if node.margin is not None and node.margin <= HOT_MARGIN:
        return State(5, "hot", f"{celsius(node.hottest)}, slows in {node.margin:.0f} °C")
    if node.throttled:
        return State(6, "throttled", f"{count(node.throttled, 'GPU')}, by heat or power")
    if node.failed_rate:
        return State(7, "errors", f"HTTP 5xx {rate(node.failed_rate, '/s')}")
    if node.kv_cache is not None and node.kv_cache >= FULL_CACHE:
        return State(8, "KV full", f"{percent(node.kv_cache)}; {node.waiting or 0:.0f} wait")
    if node.waiting and node.waiting > (node.running or 0):
        return State(9, "queue", f"{node.waiting:.0f} wait")
    busy = node.mean_utilization
    if busy is not None and busy >= _BUSY:
        return State(10, "busy")
    if busy is None and not node.running and node.cpu is None:
        return State(12, "no data", "it is scraped, and tells nothing of GPUs, vLLM or the machine")
    return State(11, "idle")


def worst_first(nodes: Iterable[FleetNode]) -> tuple[FleetNode, ...]:
    """Nodes in the order in which a person has to look at them; among equals the busiest, by quarters, so that rows
    stand still."""

    def place(node: FleetNode) -> tuple[int, int, int, tuple[object, ...]]:
        rank = state(node).rank
        quarter = int((node.mean_utilization or 0) * 4)
        return (rank, -node.firing if rank < 5 else 0, -quarter, _natural(node.name))

    return tuple(sorted(nodes, key=place))


def _natural(name: str) -> tuple[object, ...]:
    """gpu-2 before gpu-10: numbers, of any length, by how long they are and then by their digits."""
    out: list[object] = []
    digits = ""
    for character in f"{name}\0":
        if character.isascii() and character.isdigit():
            digits += character
            continue
        if digits:
            value = digits.lstrip("0")
            out += [0, len(value), value]
            digits = ""
        out += [1, character]
    return tuple(out)


def of_prometheus(
    answers: Answers,
    parts: Sequence[Part],
    known: Mapping[str, Exporter],
    address: Address,
    seen: Mapping[str, float | None] | None = None,
) -> tuple[FleetNode, ...]:
    """The nodes of a Prometheus, as they are at the answers' moment. ``seen`` is when instances that are down were
    scraped last, in epoch seconds; None where that is longer ago than was looked for."""
    tables = _Tables(answers)
    scraped = {labels.get("instance", ""): value for labels, _, value in answers.instants.get("scraped", ())}
    words = f"{count(len(parts), 'node')} of {address.called}"
    out = []
    for part in parts:
        everything = (*part.instances, *part.beside)
        told = [known[one] for one in everything if one in known]
        down = [one for one in told if one.up is False]
        has_data = any(tables.has(one) for one in part.instances)
        up = has_data or (bool(told) and len(down) < len(told) and any(one.up for one in told))
        node = FleetNode(
            part.name,
            address.narrowed(name=part.name, part=part, fleet=words),
            up=up,
            reason="" if up else "no exporter answers" if down else "no longer scraped",
            exporters=part.exporters,
            exporters_down=tuple(sorted({one.word for one in down})) if up else (),
        )
        node = _alerted(node, [row for row in answers.instants.get("alerts", ()) if _concerns(part, row)])
        if up:
            times = [scraped[one] for one in part.instances if one in scraped]
            age = max(0.0, answers.now_ms / 1000 - max(times)) if times else None
            node = replace(tables.fill(node, part.instances), age_seconds=age)
            alone = [one for one in told if one.kinds == {"vllm"}]
            if alone and node.servers_up is None:
                lost = sum(one.up is False for one in alone)
                node = replace(
                    node,
                    servers_up=len(alone) - lost,
                    servers_down=lost,
                    exporters_down=tuple(sorted({one.word for one in down if one.kinds != {"vllm"}})),
                )
        else:
            times = [at for one in everything if (at := (seen or {}).get(one)) is not None]
            node = replace(node, age_seconds=max(0.0, answers.now_ms / 1000 - max(times)) if times else None)
        out.append(node)
    return worst_first(out)


def elsewhere(answers: Answers, parts: Sequence[Part]) -> int:
    """How many alerts fire that are of no node."""
    rows = answers.instants.get("alerts", ())
    return round(sum(row[2] for row in rows if not any(_concerns(part, row) for part in parts)))


def of_daemon(answers: Answers, address: Address, name: str, alerts: Sequence[Alert] | None) -> FleetNode:
    """The one node of a daemon. ``alerts`` are those that it tells; None for those of its ``ALERTS``."""
    tables = _Tables(answers)
    node = FleetNode(name, address, up=True)
    if alerts is None:
        node = _alerted(node, answers.instants.get("alerts", ()))
    else:
        firing = [one for one in alerts if one.state == "firing" and not one.muted]
        rows = [({"alertname": one.name, "severity": one.severity}, 0.0, 1.0) for one in firing]
        node = _alerted(node, rows)
    return tables.fill(node, tuple(tables.instances))


def _concerns(part: Part, row: Row) -> bool:
    return part.has(row[0].get("instance", ""))


def _alerted(node: FleetNode, rows: Iterable[Row]) -> FleetNode:
    ordered = sorted(rows, key=lambda row: (_SEVERITIES.get(row[0].get("severity", ""), 3), row[0].get("alertname")))
    if not ordered:
        return node
    labels = ordered[0][0]
    firing = round(sum(value for _, _, value in ordered))
    return replace(
        node, severity=labels.get("severity", ""), alert=labels.get("alertname", "") or "an alert", firing=firing
    )


class _Tables:
    """The answers, by instance."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._utilization: dict[str, dict[str, float]] = {}
        for labels, _, value in answers.instants.get("util", ()):
            gpus = self._utilization.setdefault(labels.get("instance", ""), {})
            gpus[labels.get("gpu", "")] = min(1.0, value / 100)
        self._named = {id: self._by_name(id) for id in ("sum", "most")}
        self._plain = {
            id: {labels.get("instance", ""): value for labels, _, value in answers.instants.get(id, ())}
            for id in (*_RATES, "margin", "throttled", "ttft", "hits", "cpu")
        }
        self._servers: dict[str, list[float]] = {}
        for labels, _, value in answers.instants.get("servers", ()):
            self._servers.setdefault(labels.get("instance", ""), []).append(value)
        # A rate outlives what it is of by its window: only what is read now says that there is anything.
        self.instances = {*self._utilization, *self._named["sum"], *self._named["most"]}

    def _by_name(self, id: str) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for labels, _, value in self._answers.instants.get(id, ()):
            found.setdefault(labels.get("instance", ""), {})[labels.get("__name__", "")] = value
        return found

    def has(self, instance: str) -> bool:
        """Whether it says anything now."""
        return instance in self.instances

    def fill(self, node: FleetNode, instances: Sequence[str]) -> FleetNode:
        """The node, with what these instances tell of it."""
        fields: dict[str, float | None] = {}
        for attribute, values in self._values(instances).items():
            if attribute in ("margin",):
                fields[attribute] = min(values)
            elif attribute in ("hottest", "kv_cache", "ttft_p95", "cpu"):
                fields[attribute] = max(values)
            elif attribute == "prefix_hits":
                fields[attribute] = sum(values) / len(values)
            else:
                fields[attribute] = sum(values)
        throttled = fields.pop("throttled", None)
        servers = [up for one in instances for up in self._servers.get(one, ())]
        gpus = {gpu: value for one in instances for gpu, value in self._utilization.get(one, {}).items()}
        return replace(
            node,
            utilization=tuple(gpus[gpu] for gpu in sorted(gpus, key=_natural)),
            memory=self._share(instances, "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_TOTAL", "DCGM_FI_DEV_FB_FREE"),
            host_memory=self._host_memory(instances),
            throttled=None if throttled is None else round(throttled),
            servers_up=sum(up == 1 for up in servers) if servers else None,
            servers_down=sum(up != 1 for up in servers),
            history=self._history("util_h", instances),
            generation_history=self._history("generation_h", instances),
            power_history=self._history("power_h", instances),
            running_history=self._history("running_h", instances),
            simulated=any(self._named["most"].get(one, {}).get("gpumon_simulated") == 1 for one in instances),
            **fields,  # type: ignore[arg-type] # only such attributes as are numbers
        )

    def _history(self, id: str, instances: Sequence[str]) -> History | None:
        found = self._answers.histories.get(id, ())
        return next((past for labels, past in found if labels.get("instance", "") in instances), None)

    def _values(self, instances: Sequence[str]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for instance in instances:
            for table, names in ((self._named["sum"], _SUMS), (self._named["most"], _MOST)):
                for name, attribute in names.items():
                    value = table.get(instance, {}).get(name)
                    if value is not None:
                        found.setdefault(attribute, []).append(value)
            plain = {**_RATES, "margin": "margin", "throttled": "throttled", "ttft": "ttft_p95", "cpu": "cpu"}
            for id, attribute in {**plain, "hits": "prefix_hits"}.items():
                value = self._plain[id].get(instance)
                if value is not None:
                    found.setdefault(attribute, []).append(value)
        return found

    def _share(self, instances: Sequence[str], used: str, total: str, free: str) -> float | None:
        have = of = 0.0
        for instance in instances:
            values = self._named["sum"].get(instance, {})
            if used in values:
                have += values[used]
                of += values.get(total) or values[used] + values.get(free, 0.0)
        return have / of if of else None

    def _host_memory(self, instances: Sequence[str]) -> float | None:
        for instance in instances:
            values = self._named["most"].get(instance, {})
            total = values.get("node_memory_MemTotal_bytes")
            available = values.get("node_memory_MemAvailable_bytes")
            if total and available is not None:
                return max(0.0, 1 - available / total)
        return None
