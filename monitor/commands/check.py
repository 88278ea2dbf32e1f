"""``gpumon check``: reads configurations and rule files as the daemon would, and names every problem.

Problems go to standard output, warnings and notes to standard error. Exit codes: 0 no problem, also with warnings; 1 a
problem, or with ``--strict`` a warning; 2 the server of ``--against`` could not be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path

import click

from monitor.client.errors import ClientError
from monitor.commands.check_findings import Finding, of_problems
from monitor.commands.for_programs import json_text
from monitor.config import NO_CONFIG, ConfigError
from monitor.config import loads as load_config_text
from monitor.notify.route import every_route
from monitor.rules.rule_file import Group, Rule, default_rules_path, load_rules
from monitor.yaml_reader import Problem, Problems, compose, read_text, refuse_nothing


@dataclass(slots=True)
class Checked:
    """One file: what it is, whether it is good, its rules, and what was found."""

    path: Path
    kind: str = ""
    said: str = ""
    good: bool = True
    groups: list[Group] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)


def run(files: Sequence[Path], *, against: str | None = None, strict: bool = False, as_json: bool = False) -> int:
    """Check each file, and with ``against`` whether a server has what the rules select."""
    checked = [_check(path) for path in files]
    found = [finding for one in checked for finding in one.found]
    unreachable = ""
    if against is not None:
        from monitor.commands.check_against import look

        try:
            groups = {(group.path, group.name): group for one in checked for group in one.groups}
            found += asyncio.run(look(list(groups.values()), against))
        except ClientError as error:
            unreachable = str(error)
    if as_json:
        click.echo(_json(checked, found, unreachable))
    else:
        _print(checked, found)
    if unreachable:
        click.echo(f"gpumon check: --against: {unreachable}", err=True)
        return 2
    weights = {finding.weight for finding in found}
    return 1 if "problem" in weights or (strict and "warning" in weights) else 0


def _print(checked: Sequence[Checked], found: Sequence[Finding]) -> None:
    for finding in found:
        click.echo(finding, err=finding.weight != "problem")
    for one in checked:
        if one.good:
            click.echo(f"{one.path}: {one.said}")


def _json(checked: Sequence[Checked], found: Sequence[Finding], unreachable: str) -> str:
    files = [
        {
            "path": str(one.path),
            "kind": one.kind,
            "good": one.good,
            "rules": sum(len(group.rules) for group in one.groups),
        }
        for one in checked
    ]
    body: dict[str, object] = {"files": files, "findings": [finding.fields() for finding in found]}
    if unreachable:
        body["error"] = unreachable
    return json_text(body, indent=2)


def _check(path: Path) -> Checked:
    checked = Checked(path)
    try:
        _read(checked)
    except ConfigError as error:
        checked.good = False
        checked.found += of_problems(error.problems)
    checked.found += _duplicates(checked.groups)
    return checked


def _read(checked: Checked) -> None:
    """What a file holds. Raises ``ConfigError``."""
    problems = Problems(str(checked.path))
    text = read_text(checked.path, problems)
    problems.raise_if_any()
    root = compose(text or "", problems)
    problems.raise_if_any()
    if root is not None and root.kind == "map" and any(key.text() == "groups" for key, _ in root.pairs()):
        checked.kind = "rules"
        checked.groups = list(load_rules((checked.path,)).groups)
        count = _count([rule for group in checked.groups for rule in group.rules], "rule")
        checked.said = f"a rule file, {count}, no problem"
        return
    from monitor.commands.check_config import look

    checked.kind = "configuration"
    refuse_nothing(text, problems, NO_CONFIG)
    problems.raise_if_any()
    config = load_config_text(text or "", str(checked.path))
    checked.found += look(config, problems)
    problems.raise_if_any()
    missing: list[Problem] = []
    for rule_file in config.rule_files or (default_rules_path(),):  # as the daemon does
        try:
            checked.groups += load_rules((rule_file,)).groups
        except ConfigError as error:
            missing.extend(error.problems)
    if missing:
        raise ConfigError(missing)
    parts = [_count(config.vllm_servers, "vLLM server"), _count(config.receivers, "receiver")]
    if config.route is not None and config.route.routes:
        parts.append(_count(every_route(config.route), "route"))
    checked.said = f"a configuration, {', '.join(parts)}, no problem"


def _duplicates(groups: Sequence[Group]) -> Iterator[Finding]:
    """Rules with the name and the labels of one before them in the same file, as promtool's lint has them."""
    before: dict[tuple[str, str, tuple[tuple[str, str], ...]], Rule] = {}
    for group in groups:
        for rule in group.rules:
            name, _, labels = rule.identity
            first = before.setdefault((group.path, name, labels), rule)
            if first is not rule:
                words = f'duplicate rule: "{name}" with the same labels stands in line {first.line}'
                danger = "; might cause inconsistency while recording expressions" if rule.records else ""
                yield Finding(group.path, rule.line, 1, "warning", words + danger, group.name, name)


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
