"""``gpumon check``: reads configurations and rule files as the daemon would, and names every problem."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path

import click

from monitor.config import Config, ConfigError
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
        return f"a rule file, {_count(rules, 'rule')}, no problem"
    config = load_config_text(text or "", str(path))
    _check_receivers(config, problems)
    problems.raise_if_any()
    missing: list[Problem] = []
    for rule_file in config.rule_files:
        try:
            load_rules((rule_file,))
        except ConfigError as error:
            missing.extend(error.problems)
    if missing:
        raise ConfigError(missing)
    watched, told = _count(config.vllm_servers, "vLLM server"), _count(config.receivers, "receiver")
    return f"a configuration, {watched}, {told}, no problem"


def _check_receivers(config: Config, problems: Problems) -> None:
    """Whether apprise knows each receiver's URL. A secret that cannot be had is only pointed out: the daemon may have
    what this user has not."""
    if not config.receivers:
        return
    import logging

    import apprise  # only here: it is heavy, and the daemon does without

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would quote what it does not know
    for receiver in config.receivers:
        for secret in receiver.apprise:
            line, column = secret.place
            try:
                url = secret.reveal()
            except ValueError as error:
                click.echo(f"{problems.path}:{line}:{column}: warning: {error}", err=True)
                continue
            if not apprise.Apprise().add(url):
                scheme = url.partition(":")[0][:20] if "://" in url else ""
                known = f'"{scheme}://"' if secret.where == "plain" and scheme else "what it holds"
                problems.add(f"{known} is no URL that apprise can send to", line, column)


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
