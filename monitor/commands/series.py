"""``gpumon series``: every series that gpumon exports, as a table for people or as the page ``docs/series.md``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from monitor.client.format import fit
from monitor.own_series import FAMILIES
from monitor.samples import Family
from monitor.sources.catalogue import GPU_LABELS, Entry, entries

_TITLES = {
    "nvml": "GPUs",
    "kernel_log": "XID errors and the kernel's log",
    "host": "The host",
    "vllm": "vLLM, and engines that are stored under its names",
    "engine": "How a server is",
    "canary": "The canary",
    "server_log": "A server's log",
    "gpumon": "gpumon itself",
}
_HEAD = f"""\
# Every series

Made by `gpumon series --markdown` from the code; a test holds that nothing else is exported. Labels `job` and
`instance` are added by whoever scrapes, and by gpumon's own store. What a GPU, a kernel or a server does not have is
absent, never 0. Where a dcgm-exporter or a node_exporter runs too, `/metrics?collect[]=…` leaves sources out.

Cost is what reading takes once, of the source's own process: the driver's calls as measured on an H200, the host's on
two cores of a small server. «with another» comes with a call that another row pays for. *GPU* stands for the labels
{", ".join(f"`{name}`" for name in GPU_LABELS)}; `GPU_I_PROFILE` and `GPU_I_ID` are those of a MIG
instance alone.
"""
_PASSED_ON = """\
A server's other series are passed on as they come, with the label `server`; older vLLM, vLLM under Ray, SGLang and
text-generation-inference come under today's vLLM's names, with `engine_type` where the engine is not vLLM.
"""


def run(form: str) -> int:
    """Print them as a ``table``, as ``markdown`` or as ``json``."""
    write = {"markdown": to_markdown, "json": to_json}.get(form, to_text)
    click.echo(write(all_entries()), nl=False)
    return 0


def all_entries() -> list[Entry]:
    """Every entry of the catalogue, the daemon's own among them. Raises ``Undocumented``."""
    return entries(Family(*row) for row in FAMILIES)


def to_text(found: Sequence[Entry]) -> str:
    """A line for each: name, type, unit, labels."""
    width = max(len(entry.name) for entry in found)
    lines = [
        f"{fit(entry.name, width)}  {entry.kind:9}  {entry.unit or '–':7}  {','.join(entry.labels)}".rstrip()
        for entry in found
    ]
    return "\n".join(lines) + "\n"


def to_json(found: Sequence[Entry]) -> str:
    """{"schema": 1, "series": [{"name", "type", "unit", "labels", "help", "source"}…]}; ``unit`` where there is one."""
    rows = [
        {"name": one.name, "type": one.kind, "labels": list(one.labels), "help": one.help, "source": one.source}
        | ({"unit": one.unit} if one.unit else {})
        for one in found
    ]
    return json.dumps({"schema": 1, "series": rows}, ensure_ascii=False, indent=2) + "\n"


def to_markdown(found: Sequence[Entry]) -> str:
    """The page."""
    parts = [_HEAD]
    for source, title in _TITLES.items():
        rows = [entry for entry in found if entry.source == source]
        if not rows:
            continue
        parts.append(f"\n## {title}\n\n`collect[]={source}`; {len(rows)} names.\n\n")
        parts.append(
            "| name | what | labels | unit | type | read from | how often | cost |\n|---|---|---|---|---|---|---|---|\n"
        )
        parts += (_row(entry) for entry in rows)
        if source == "vllm":
            parts.append("\n" + _PASSED_ON)
    return "".join(parts)


def _row(entry: Entry) -> str:
    names, gpu = entry.labels, len(GPU_LABELS)
    labels = ", ".join(f"`{name}`" for name in names)
    if names[:gpu] == GPU_LABELS:
        labels = ", ".join(["*GPU*", *(f"`{name}`" for name in names[gpu:])])
    cells = [f"`{entry.name}`", entry.help, labels, entry.unit, entry.kind, entry.call, entry.cadence, entry.cost]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("\n", " ") or "–"
