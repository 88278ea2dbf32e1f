"""Words of other tools: what somebody types out of habit, and what does it here. Shown where the command line is wrong.

Each is looked up by the command that it was given to, ``""`` for gpumon itself; an option with its dashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

_SNAPSHOT = "`gpumon snapshot` prints how the node is, once"
_DMON = "`gpumon dmon` prints a line for each GPU each second; --csv"
_QUERY = "`gpumon query 'DCGM_FI_DEV_GPU_TEMP' --csv` has every reading by its name; `gpumon series` lists them"
_SETS = "gpumon changes nothing of a GPU: that is nvidia-smi's"
_PROBE = "`gpumon probe throughput --url URL` loads a server; `gpumon probe --help` lists the workloads"
_CHECK = "`gpumon check FILE` checks rules and configurations"
_TUI = "`gpumon tui` is the live view"

_GENERAL: Mapping[str, str] = {
    # nvidia-smi
    "-L": _SNAPSHOT, "--list-gpus": _SNAPSHOT, "-i": "`gpumon dmon -i 0,1` and `gpumon query '{gpu=\"0\"}'` take some",
    "-l": f"{_TUI}; {_DMON}", "--loop": f"{_TUI}; {_DMON}",
    "-q": _QUERY, "--query-gpu": _QUERY, "--query": _QUERY, "--format": _QUERY,
    "--query-compute-apps": "`gpumon processes --json` lists what runs on the GPUs",
    "-p": _SETS, "-r": _SETS, "-a": _SETS,  # of -pm and -pl, -r, -ac: a short option is its first letter
    "pmon": "`gpumon processes` lists what runs on the GPUs", "ps": "`gpumon processes` lists what runs on the GPUs",
    "topo": "`gpumon tui`: a GPU's page shows how it is joined to the others", "nvlink": "`gpumon tui`: a GPU's page",
    # nvitop, nvtop, top
    "-1": _SNAPSHOT, "--once": _SNAPSHOT, "-m": _TUI, "--monitor": _TUI, "top": _TUI, "monitor": _TUI, "watch": _TUI,
    "kill": "`gpumon tui`, screen 5: x ends a process, with your own rights",
    "status": _SNAPSHOT, "stats": _SNAPSHOT, "show": _SNAPSHOT, "list": _SNAPSHOT,
    # exporters, Prometheus, Alertmanager
    "exporter": "`gpumon daemon` serves /metrics; `gpumon service install` makes it a service",
    "serve": "`gpumon daemon` is the daemon; `gpumon probe throughput` loads a server",
    "start": "`gpumon daemon`, or `gpumon service install` for a service", "run": "`gpumon daemon`, or `gpumon tui`",
    "metrics": "`gpumon snapshot --prom` prints what a Prometheus scrapes", "rules": _CHECK, "lint": _CHECK,
    "check-config": _CHECK, "check-rules": _CHECK, "validate": _CHECK, "reload": "`systemctl reload gpumon`, or SIGHUP",
    "logs": "`journalctl -u gpumon`; events are in `gpumon tui`, screen 7",
    "--config.file": "`gpumon daemon --config FILE`", "--web.listen-address": "`gpumon daemon --listen HOST:PORT`",
    # vLLM
    "bench": _PROBE, "benchmark": _PROBE,
    "help": "`gpumon --help`, `gpumon COMMAND --help`",
}  # fmt: skip
_PROBES: Mapping[str, str] = {
    "serve": _PROBE, "bench": _PROBE,
    "--num-prompts": "--requests is how many", "--max-concurrency": "--concurrency is how many at once",
    "--request-rate": "`gpumon probe rate --rates 1,2,4` sends at a rate", "--base-url": "--url is the server",
    "--host": "--url http://HOST:PORT is the server", "--port": "--url http://HOST:PORT is the server",
    "--random-input-len": "--input-len is the prompts' length",
    "--random-output-len": "--output-len is the answers' length",
    "--dataset-name": "prompts are made, or given as a recording to `gpumon probe rate`",
    "--goodput": "--slo ttft=500ms,tpot=50ms is what counts as good", "--save-result": "results are always kept",
    "--result-dir": "--output is the folder", "--percentile-metrics": "all percentiles are always there",
    "--metric-percentiles": "all percentiles are always there", "--num-warmups": "it warms up by itself",
    "--backend": "any server that speaks OpenAI's API; --endpoint says which",
}  # fmt: skip
_OF: Mapping[str, Mapping[str, str]] = {
    "": _GENERAL,
    "dmon": {"-s": "the columns are fixed; --csv for programs", "-o": "the time is always there"},
    "snapshot": {"-i": "`gpumon dmon -i 0,1 -c 1` prints some GPUs alone", "-l": _DMON},
    "silence": {
        "query": "`gpumon silence list`",
        "show": "`gpumon silence list`",
        "delete": "`gpumon silence expire ID`",
    },
    "test": {"alerts": "`gpumon test rules FILE`"},
    "probe": _PROBES,
}


def hint(error: click.UsageError) -> str:
    """What does here what was typed, as a sentence; "" where nobody is known to mean it."""
    found = re.match(r"No such (?:command|option):? '?([^'\s]+?)'?\.?(?:\s|$)", error.format_message())
    if found is None:
        return ""
    path = error.ctx.command_path.split()[1:] if error.ctx is not None else []
    return _OF.get(path[0] if path else "", {}).get(found[1].partition("=")[0], "")
