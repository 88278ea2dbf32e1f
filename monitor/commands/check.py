"""``gpumon check``: reads configurations and rule files as the daemon would, and names every problem."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.config import ConfigError
from monitor.config import loads as load_config_text
from monitor.rules.rule_file import load_rules
from monitor.yaml_reader import Problem, Problems, compose, read_text


def run(files: tuple[Path, ...]) -> int:
    """Check each file; 0 where all are good, else 1. Problems go to standard output, one a line."""
    bad = 0
    for path in files:
        try:
            said = _check(path)
        except ConfigError as error:
            bad += 1
            for problem in error.problems:
                click.echo(problem)
        else:
            click.echo(f"{path}: {said}")
    return 1 if bad else 0


def _check(path: Path) -> str:
    """What a good file holds, in words. Raises ``ConfigError``."""
    problems = Problems(str(path))
    text = read_text(path, problems)
    problems.raise_if_any()
    root = compose(text or "", problems)
    problems.raise_if_any()
    if root is not None and root.kind == "map" and any(key.text() == "groups" for key, _ in root.pairs()):
        rules = [rule for group in load_rules((path,)).groups for rule in group.rules]
        return f"a rule file, {len(rules)} rules, no problem"
    config = load_config_text(text or "", str(path))
    missing: list[Problem] = []
    for rule_file in config.rule_files:
        try:
            load_rules((rule_file,))
        except ConfigError as error:
            missing.extend(error.problems)
    if missing:
        raise ConfigError(missing)
    return f"a configuration, {len(config.vllm_servers)} vLLM servers, {len(config.receivers)} receivers, no problem"
