"""``gpumon doctor``: looks at everything that keeps people from seeing their node, each with its cure.

``--json`` is one object: ``{"schema": 1, "problems": n, "warnings": n, "checks": [{"check", "state", "seen",
"cure"}…]}``, with ``state`` one of ``ok``, ``warning`` and ``problem``. Fields are added, never renamed, within a
schema.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import click

from monitor.client.discover import SYSTEM_SOCKET
from monitor.client.format import clean, count
from monitor.commands import doctor_gpumon, doctor_node, doctor_telling
from monitor.commands.config_init import servers_here
from monitor.commands.doctor_machine import Finding, Machine, ask_daemon, read_setting
from monitor.commands.for_programs import json_text

Check: TypeAlias = Callable[[Machine], list[Finding]]

DEADLINE = 25.0
"""Seconds for all checks together. They run beside each other, and the slowest, the driver's, has 15 s of its own."""

CHECKS: tuple[tuple[str, Check], ...] = (
    ("driver", doctor_node.check_driver),
    ("devices", doctor_node.check_devices),
    ("persistence", doctor_node.check_persistence),
    ("group gpumon", doctor_node.check_groups),
    ("kernel log", doctor_node.check_kernel_log),
    ("vllm", doctor_gpumon.check_vllm),
    ("configuration", doctor_gpumon.check_configuration),
    ("access", doctor_gpumon.check_access),
    ("receivers", doctor_telling.check_receivers),
    ("heartbeat", doctor_telling.check_heartbeat),
    ("alertmanagers", doctor_telling.check_alertmanagers),
    ("daemon", doctor_gpumon.check_daemon),
    ("clock", doctor_node.check_clock),
    ("disk", doctor_node.check_disk),
    ("terminal", doctor_node.check_terminal),
    ("ports", doctor_gpumon.check_ports),
)

_MARKS = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def run(config_path: Path | None, url: str | None, *, as_json: bool) -> int:
    """Look, and print what was seen; 1 where there is a problem, else 0."""
    setting = read_setting(config_path)
    hostname = setting.config.hostname if setting.config is not None else socket.gethostname()
    socket_path = setting.config.api.socket if setting.config is not None else SYSTEM_SOCKET
    machine = Machine(setting, daemon=lambda: ask_daemon(url, socket_path), servers=lambda: servers_here(hostname))
    findings = examine(machine)
    click.echo(to_json(findings) if as_json else render(findings))
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def examine(
    machine: Machine, checks: Sequence[tuple[str, Check]] = CHECKS, *, deadline: float = DEADLINE
) -> list[Finding]:
    """Run all checks beside each other; their findings in the order of the checks. A check that breaks or does not end
    is a problem of its own, and the others go on."""
    found: dict[str, list[Finding]] = {}

    def one(name: str, check: Check) -> None:
        try:
            found[name] = check(machine)
        except Exception as error:
            seen = f"the check itself broke: {type(error).__name__}: {clean(str(error))}"
            found[name] = [Finding(name, "problem", seen, "Tell gpumon's developers; the other checks stand")]

    # Threads that do not end with a call into a dead mount must not keep the command from ending.
    threads = [threading.Thread(target=one, args=pair, daemon=True, name=pair[0]) for pair in checks]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    late = Finding(
        "", "problem", f"no answer in {deadline:g} s", "Something in the kernel or on a disk hangs: see dmesg"
    )
    results: list[Finding] = []
    for name, _ in checks:
        results += found.get(name, [Finding(name, late.state, late.seen, late.cure)])
    return results


def render(findings: Sequence[Finding]) -> str:
    """One finding a line, its cure below it."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        mark = click.style(f"{_MARKS[finding.state]:7}", fg=_COLOURS[finding.state])
        lines.append(f"{mark}  {finding.check:{width}}  {clean(finding.seen)}")
        if finding.cure:
            lines.append(f"{'':7}  {'':{width}}  → {clean(finding.cure)}")
    problems, warnings = _counts(findings)
    lines.append("")
    lines.append(f"{count(problems, 'problem')}, {count(warnings, 'warning')}")
    return "\n".join(lines)


def to_json(findings: Sequence[Finding]) -> str:
    """The findings in the schema above."""
    problems, warnings = _counts(findings)
    told = {"schema": 1, "problems": problems, "warnings": warnings, "checks": list(findings)}
    return json_text(told, indent=2)


def _counts(findings: Sequence[Finding]) -> tuple[int, int]:
    states = [finding.state for finding in findings]
    return states.count("problem"), states.count("warning")
