"""``gpumon prometheusrule``: a rule file as the custom resource that the Prometheus Operator takes.

What Prometheus takes as a file stands there under ``spec``, unchanged: so the text is moved in, with its comments, and
not written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.yaml_reader import ConfigError


def run(file: Path | None, *, name: str, namespace: str | None, labels: Sequence[str]) -> int:
    """Write it to standard output. The exit status: 1 where the file has a problem."""
    pairs = {}
    for label in labels:
        key, separator, value = label.partition("=")
        if not separator or not key:
            raise click.UsageError(f"--label {label}: expected NAME=VALUE")
        pairs[key] = value
    path = file or default_rules_path()
    try:
        load_rules([path])
    except ConfigError as error:
        click.echo(str(error), err=True)
        return 1
    click.echo(prometheus_rule(path.read_text(encoding="utf-8"), name, namespace, pairs), nl=False)
    return 0


def prometheus_rule(rules: str, name: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> str:
    """The YAML of a ``PrometheusRule`` with ``rules``, the text of a rule file that has no problem."""
    metadata: dict[str, object] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata}
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    spec = "\n".join(f"  {line}" if line.strip() else "" for line in rules.splitlines())
    moved = f"{text}spec:\n{spec}\n"
    groups = yaml.safe_load(rules)
    try:
        if yaml.safe_load(moved).get("spec") == groups:
            return moved
    except yaml.YAMLError:
        pass  # such as a file in one line of JSON, or with a `---`: then without its comments
    return text + yaml.safe_dump({"spec": groups}, sort_keys=False, allow_unicode=True, width=10_000)
