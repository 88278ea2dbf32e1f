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
    click.echo(f"Next: add receivers, `gpumon check {output}`, `gpumon doctor --config {output}`")
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
    lines = [*_HEAD.splitlines(), *_identity(hostname), ""]
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

# Who is told. Each URL is one of apprise's (slack, mailto, tgram, json, and a hundred more). Keep the secret out of
# this file: in the environment of the service, or in a file of mode 0640 that the group gpumon may read.
# receivers:
#   - name: ops
#     apprise:
#       - {file: /etc/gpumon/slack-url}       # holds slack://TokenA/TokenB/TokenC
#       - {env: GPUMON_MAIL_URL}              # mailtos://user:password@smtp.example.com?to=ops@example.com
#     send_resolved: true
# route: {receiver: ops}

# A node that is dead tells nobody: let a Prometheus elsewhere scrape /metrics and watch `up`.

# api:
#   listen: 127.0.0.1:9519                    # /metrics and Prometheus' API, read-only, loopback; `none` for none
#   socket: /run/gpumon/gpumon.sock           # members of the group gpumon may use it
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


_EXAMPLE = [
    "  #   discover: true             # servers that come to run here are watched without being named",
    "  #   servers:",
    '  #     - {url: "http://127.0.0.1:8000", gpus: [0, 1, 2, 3], api_key: {file: /etc/gpumon/vllm-key}}',
]
_KEYS = [
    "      # Also for a server: `api_key: {file: PATH}` or `{env: NAME}`, `ca_file: PATH`, and `gpus: [0, 1, 2]`, the",
    "      # GPUs in the order of its ranks, where gpumon does not see them itself; `log: {unit: vllm.service}` or",
    "      # `log: {file: PATH}`, whose errors are then counted and shown.",
    "    # discover: true             # servers that come to run here are watched without being named",
]


def _comment(text: str) -> str:
    """Text from elsewhere as part of a comment: one line, no control characters."""
    return clean(text, 200)
