"""Which nodes a Prometheus knows: series are told apart by ``instance``, and a node's exporters differ in it.

gpumon is one instance a node. dcgm-exporter, node_exporter and vLLM have ports of their own, and within Kubernetes
addresses of their own; they belong together by their host, or by dcgm-exporter's label ``Hostname``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from monitor.client.access import Part
from monitor.client.format import clean
from monitor.client.results import Row
from monitor.digits import is_whole

_KINDS = {
    "DCGM_FI_DEV_GPU_UTIL": "gpu",
    "DCGM_FI_DEV_FB_USED": "gpu",
    "node_load1": "host",
    "vllm:num_requests_running": "vllm",
    "gpumon_build_info": "gpumon",
}
_EXPORTERS = {"gpumon": "gpumon", "gpu": "dcgm-exporter", "host": "node_exporter", "vllm": "vLLM"}


@dataclass(slots=True)
class Exporter:
    """One ``instance``: what it tells of, and whether its last scrape succeeded."""

    instance: str
    kinds: set[str] = field(default_factory=set)
    hostname: str = ""
    job: str = ""
    up: bool | None = None
    """None where no target has this label."""

    @property
    def word(self) -> str:
        """What it is."""
        if "gpumon" in self.kinds:
            return "gpumon"
        return " + ".join(_EXPORTERS[kind] for kind in ("gpu", "host", "vllm") if kind in self.kinds)


def exporters(members: Iterable[Row], up: Iterable[Row]) -> dict[str, Exporter]:
    """Who tells of nodes, by instance: from the answers of ``fleet_queries.MEMBERS`` and of ``up``. A target that has
    told nothing within the hour is taken for what others of its job are."""
    found: dict[str, Exporter] = {}
    for labels, _, _ in members:
        one = found.setdefault(labels.get("instance", ""), Exporter(labels.get("instance", "")))
        one.kinds.add(_KINDS.get(labels.get("__name__", ""), "host"))
        one.hostname = one.hostname or labels.get("Hostname", "")
        one.job = labels.get("job", "")
    jobs: dict[str, set[str]] = {}
    for one in found.values():
        jobs.setdefault(one.job, set()).update(one.kinds)
    for labels, _, value in up:
        instance, job = labels.get("instance", ""), labels.get("job", "")
        if instance not in found and value != 1 and "prometheus" not in job and jobs.get(job):
            found[instance] = Exporter(instance, set(jobs[job]), job=job)
        if instance in found:
            found[instance].up = bool(found[instance].up) or value == 1
    return found


def host_of(instance: str) -> str:
    """An instance without its port, and without what stands before it."""
    text = instance.partition("://")[2].partition("/")[0] if "://" in instance else instance
    host, colon, port = text.rpartition(":")
    if colon and is_whole(port) and not (":" in host and not host.endswith("]")):
        text = host
    return text.strip("[]")


def parts(known: Mapping[str, Exporter]) -> tuple[Part, ...]:
    """The nodes, by name. A machine without GPUs, vLLM and gpumon is none."""
    groups: dict[str, list[Exporter]] = {}
    names = _names(known.values())
    for one in known.values():
        groups.setdefault(names[one.instance], []).append(one)
    found = []
    for name, group in groups.items():
        if not any(one.kinds & {"gpumon", "gpu", "vllm"} for one in group):
            continue
        ours = [one for one in group if "gpumon" in one.kinds]
        if len(ours) > 1:  # several of one name, as on one machine that plays them all: each is a node
            found += [_part(one.instance, [one]) for one in ours]
        else:
            found.append(_part(name, group))
    return tuple(sorted(found, key=lambda part: part.name))


def _names(known: Iterable[Exporter]) -> dict[str, str]:
    """The node of each instance."""
    known = list(known)
    hostnames: dict[str, set[str]] = {}
    for one in known:
        if one.hostname:
            for alias in {host_of(one.instance), one.hostname, _short(one.hostname)}:
                hostnames.setdefault(alias, set()).add(one.hostname)
    names = {}
    for one in known:
        host = host_of(one.instance)
        near = hostnames.get(host) or hostnames.get(_short(host)) or set()
        names[one.instance] = one.hostname or (next(iter(near)) if len(near) == 1 else host)
    return names


def _short(host: str) -> str:
    """A name without its domain; an address as it is."""
    return host if host.replace(".", "").isdigit() or ":" in host else host.partition(".")[0]


def _part(name: str, group: list[Exporter]) -> Part:
    chosen: set[str] = set()
    for kind in ("gpu", "host", "vllm"):
        of_kind = sorted((one for one in group if kind in one.kinds), key=lambda one: one.instance)
        answering = [one for one in of_kind if one.up is not False] or of_kind
        ours = [one for one in answering if "gpumon" in one.kinds]
        # vLLM's servers are each an instance; of two that tell of the same GPUs one is enough.
        chosen.update(one.instance for one in ours or (answering if kind == "vllm" else answering[:1]))
    chosen.update(one.instance for one in group if "gpumon" in one.kinds)
    words = [one.word for one in sorted(group, key=lambda one: ("gpumon" not in one.kinds, one.instance))]
    return Part(
        clean(name),
        tuple(sorted(chosen)),
        tuple(sorted(one.instance for one in group if one.instance not in chosen)),
        tuple(dict.fromkeys(words)),
    )
