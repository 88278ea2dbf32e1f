"""``gpumon config init``: a commented ``gpumon.yaml`` from what is on this node.

What was found stands in it; what is a person's to say (receivers, rule files) stands there as comments that only want
their ``#`` taken away.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import click

from monitor.client.format import clean, count, size
from monitor.commands.config_schema import CONFIG_SCHEMA, hint, schema_path
from monitor.commands.driver_look import DriverLook, look_at_driver
from monitor.config import ConfigError, loads
from monitor.sources.discovery import find_servers

FIND_SECONDS = 15.0


class FoundServer(Protocol):
    """A server that runs here: ``monitor.sources.discovery.Found``."""

    @property
    def url(self) -> str: ...
    @property
    def server(self) -> str: ...
    @property
    def how(self) -> str: ...


def servers_here(hostname: str) -> Sequence[FoundServer]:
    """The servers that run on this node and answer, as the daemon finds them. Raises ``TimeoutError``."""
    return asyncio.run(asyncio.wait_for(find_servers(hostname), FIND_SECONDS))


def run(output: Path, *, force: bool) -> int:
    """Look, and write what was found to ``output``, or to standard output for ``-``; 1 where it cannot be written."""
    to_stdout = str(output) == "-"
    if not to_stdout and not force and os.path.lexists(output):
        click.echo(f"gpumon config init: {output} is there already: --force writes over it", err=True)
        return 1
    hostname = socket.gethostname()
    driver = look_at_driver()
    servers: Sequence[FoundServer] = ()
    try:
        servers = servers_here(hostname)
    except TimeoutError:
        click.echo("gpumon config init: looking for vLLM servers took too long: none is in the file", err=True)
    text = make_text(hostname, driver, servers)
    if to_stdout:
        click.echo(text, nl=False)
        return 0
    try:
        write(output, text, force=force)
    except FileExistsError:
        click.echo(f"gpumon config init: {output} is there already: --force writes over it", err=True)
        return 1
    except OSError as error:
        click.echo(f"gpumon config init: {output} cannot be written: {error.strerror or error}", err=True)
        return 1
    gpus = count(len(driver.gpus), "GPU") if driver.gpus else driver.absent or driver.down or "no GPU"
    click.echo(f"{output}: {gpus}; {count(len(servers), 'vLLM server')}")
    click.echo(f"Next: add receivers, `gpumon check {output}`, `gpumon doctor --config {output}`, `gpumon notify test`")
    return 0


def write(output: Path, text: str, *, force: bool) -> None:
    """Write whole or not at all, mode 0640, since receivers may come to hold secrets. Raises ``FileExistsError`` where
    the file is there and ``force`` is not set, and ``OSError``."""
    if force:
        handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    else:
        handle, name = os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640), str(output)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o640)
        if force:
            os.replace(name, output)
    except BaseException:
        os.unlink(name)
        raise


def make_text(hostname: str, driver: DriverLook, servers: Sequence[FoundServer]) -> str:
    """The configuration's text, good as it stands: what was found and would not be accepted is left out, and said."""
    schema = schema_path(CONFIG_SCHEMA)
    lines = [hint(schema)] if schema is not None else []
    lines += [*_HEAD.splitlines(), *_identity(hostname), ""]
    lines += ["sources:", *_nvml(driver), *_OTHERS.splitlines()]
    lines += [*_vllm(hostname, servers), *_TAIL.splitlines()]
    return "\n".join(lines) + "\n"


_HEAD = """\
# gpumon's configuration: how this node is watched, and who is told. Made by `gpumon config init`.
# Every line may be left out: what stands behind a # is the default, or an example.
# `gpumon check FILE` names every mistake with its line; `systemctl reload gpumon` (SIGHUP) takes the file over.
"""

_OTHERS = """\
  # host: {interval: 2s}         # CPU, memory, disks, network; `model_caches: [DIRECTORY]` are shown apart
  # kernel_log: {interval: 1s}   # XID errors and OOM kills"""

_TAIL = """
# alerting:
#   rule_files: [/etc/gpumon/alerts.yaml]   # Prometheus rule files, instead of the shipped rules
#   evaluation_interval: 5s
#   alertmanagers: ["http://alertmanager.example.com:9093"]   # alerts go there, too, as from a Prometheus
#   evaluator: local                        # `remote`: a Prometheus that scrapes this node tells people, not gpumon

# Who is told. Each apprise URL is one of apprise's (slack, mailto, tgram, json, and a hundred more); a webhook gets
# what Alertmanager sends. Keep the secret out of this file: in the environment of the service, or in a file of mode
# 0640 that the group gpumon may read. `gpumon notify test` sends one message to each, and says what came back.
# receivers:
#   - name: chat
#     apprise: {file: /etc/gpumon/slack-url}         # holds slack://TokenA/TokenB/TokenC
#   - name: mail
#     apprise: {env: GPUMON_MAIL_URL}                # mailtos://user:password@smtp.example.com?to=ops@example.com
#   - name: hook
#     webhook: {url: "https://example.com/hook", bearer_token: {file: /etc/gpumon/hook-token}}
#   - name: pager
#     apprise: {file: /etc/gpumon/pager-url}         # holds pagerduty://IntegrationKey@ApiKey
#     pages: true                                    # wakes somebody: no warnings, unless a route asks for them

# Which alert goes to whom, in Alertmanager's words: at each level the first route that matches.
# route:
#   receiver: chat                                   # what no other route takes
#   group_by: [alertname]
#   group_wait: 5s
#   group_interval: 1m
#   repeat_interval: 4h
#   routes:
#     - matchers: ['severity="critical"']
#       receiver: [pager, chat]
#     - matchers: ['severity="warning"', 'alertname=~"Host.+"']
#       receiver: mail
#       group_by: [instance]
#       repeat_interval: 1d
#       mute_time_intervals: [weekend]
#     - matchers: ['severity="warning"']
#       receiver: [chat, hook]

# time_intervals:
#   - name: weekend
#     time_intervals:
#       - {weekdays: [saturday, sunday], location: Europe/Berlin}

# What is not told while another alert says it already. Without this, gpumon's own hold: of a server that is down only
# that, of a probe's load nothing, of two thresholds the worse. With it, these alone; `[]` for none.
# inhibit_rules:
#   - source_matchers: ['alertname="VllmServerDown"']
#     target_matchers: ['server!=""', 'alertname!="VllmServerDown"']
#     equal: [instance, server]

# A node that is dead tells nobody. This URL is called once a minute while all is well here, and whoever has it tells
# you when the calls end. Or let a Prometheus elsewhere scrape /metrics and watch `up`.
# heartbeat: {file: /etc/gpumon/heartbeat-url}       # holds https://hc-ping.com/UUID

# What the day was, sent each morning; `gpumon report` tells it now.
# reports:
#   - {name: morning, schedule: daily 08:00, location: Europe/Berlin, receiver: chat, price: 0.30 EUR/kWh}

# api:
#   listen: 127.0.0.1:9519                    # /metrics and Prometheus' API; 0.0.0.0:9519 with a token; `none` for none
#   socket: /run/gpumon/gpumon.sock           # members of the group gpumon may use it, to silence alerts, too
#   token: {file: /etc/gpumon/api-token}      # who shows it may read, and silence alerts, over TCP, as amtool
#   read_token: {file: /etc/gpumon/read-token}    # who shows this one only reads: a Prometheus elsewhere
#   tls: {cert_file: /etc/gpumon/tls.crt, key_file: /etc/gpumon/tls.key}
# state_directory: /var/lib/gpumon
"""


def _identity(hostname: str) -> list[str]:
    return [
        "# node:",
        f"#   hostname: {json.dumps(hostname)}",
        "#   job: gpumon",
        f"#   instance: {json.dumps(f'{hostname}:9519')}",
    ]


def _nvml(driver: DriverLook) -> list[str]:
    if driver.absent:
        return [
            f"  # No GPU was found: {_comment(driver.absent)}. The driver is looked for again and again.",
            "  # nvml: {enabled: false}   # never to look for it",
        ]
    if driver.down:
        return [f"  # The driver did not answer: {_comment(driver.down)}.", "  # nvml: {interval: 1s, deadline: 2s}"]
    lines = [f"  # NVIDIA {_comment(driver.version)}, CUDA {_comment(driver.cuda)}:"]
    for gpu in driver.gpus:
        memory = f", {size(gpu.memory_bytes)}" if gpu.memory_bytes is not None else ""
        why = f" ({_comment(gpu.error)})" if gpu.error else ""
        lines.append(f"  #   GPU {gpu.index}: {_comment(gpu.model)}{memory}, {_comment(gpu.uuid)}{why}")
    return [*lines, "  nvml: {interval: 1s, deadline: 2s}"]


def _vllm(hostname: str, servers: Sequence[FoundServer]) -> list[str]:
    lines: list[str] = []
    for one in servers:
        row = f"      - {{url: {json.dumps(one.url)}, server: {json.dumps(one.server)}}}"
        before = f"node: {{hostname: {json.dumps(hostname)}}}\nsources:\n  vllm:\n    servers:\n"
        try:
            loads(before + "\n".join([*lines, row]))
        except ConfigError as error:
            lines.append(f"      # left out: {_comment(one.url)}: {_comment(error.problems[0].message)}")
            continue
        lines += [f"      # {_comment(one.how)}", row] if one.how else [row]
    if any(not line.lstrip().startswith("#") for line in lines):
        return ["  vllm:", "    servers:", *lines, *_KEYS]
    return [*lines, "  # No vLLM server was found. To name one:", "  # vllm:", *_EXAMPLE]


_TARGETS = ["  #   targets: {ttft: {p95: 2s, p99: 5s}, itl: {p50: 50ms, p99: 100ms}}"]
_EXAMPLE = [
    "  #   discover: true             # servers that come to run here are watched without being named",
    "  #   servers:",
    '  #     - {url: "http://127.0.0.1:8000", gpus: [0, 1, 2, 3], api_key: {file: /etc/gpumon/vllm-key}, canary: true}',
    *_TARGETS,
]
_KEYS = [
    "      # Also for a server: `api_key: {file: PATH}` or `{env: NAME}`, `ca_file: PATH`, and `gpus: [0, 1, 2]`, the",
    "      # GPUs in the order of its ranks, where gpumon does not see them itself; `log: {unit: vllm.service}` or",
    "      # `log: {file: PATH}`, whose errors are then counted and shown. `canary: true`: one token is asked for",
    "      # where the engine has made no step for 30 s; nothing else sees an idle engine that is frozen.",
    "    # discover: true             # servers that come to run here are watched without being named",
    "    # targets: {ttft: {p95: 2s, p99: 5s}, itl: {p50: 50ms, p99: 100ms}}   # alerts when latencies are above them",
]


def _comment(text: str) -> str:
    """Text from elsewhere as part of a comment: one line, no control characters."""
    return clean(text, 200)
