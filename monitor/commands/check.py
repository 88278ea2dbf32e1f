"""``gpumon check``: reads configurations and rule files as the daemon would, and names every problem."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import pairwise
from pathlib import Path

import click

from monitor.config import Config, ConfigError, Secret
from monitor.config import loads as load_config_text
from monitor.config_parts import is_http_url
from monitor.notify.matchers import format_matchers
from monitor.notify.route import every_route
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
    _check_urls(config, problems)
    problems.raise_if_any()
    for said in _oddities(config):
        click.echo(f"{path}: warning: {said}", err=True)
    missing: list[Problem] = []
    for rule_file in config.rule_files:
        try:
            load_rules((rule_file,))
        except ConfigError as error:
            missing.extend(error.problems)
    if missing:
        raise ConfigError(missing)
    parts = [_count(config.vllm_servers, "vLLM server"), _count(config.receivers, "receiver")]
    if config.route is not None and config.route.routes:
        parts.append(_count(every_route(config.route), "route"))
    return f"a configuration, {', '.join(parts)}, no problem"


def _check_receivers(config: Config, problems: Problems) -> None:
    """Whether apprise knows each receiver's URL. A secret that cannot be had is only pointed out: the daemon may have
    what this user has not."""
    if not any(receiver.apprise for receiver in config.receivers):
        return
    import logging

    import apprise  # only here: it is heavy, and the daemon does without

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would quote what it does not know
    for receiver in config.receivers:
        for secret in receiver.apprise:
            url = _revealed(secret, problems)
            if url is None:
                continue
            if not apprise.Apprise().add(url):
                scheme = url.partition(":")[0][:20] if "://" in url else ""
                known = f'"{scheme}://"' if secret.where == "plain" and scheme else "what it holds"
                problems.add(f"{known} is no URL that apprise can send to", *secret.place)


def _check_urls(config: Config, problems: Problems) -> None:
    """Whether what webhooks and heartbeats name is a URL, and whether their other secrets can be had."""
    urls = [webhook.url for receiver in config.receivers for webhook in receiver.webhooks] + list(config.heartbeats)
    for secret in urls:
        url = _revealed(secret, problems)
        if url is not None and not is_http_url(url):
            problems.add("what it holds is no http or https URL", *secret.place)
    others = [server.bearer_token for server in config.alertmanagers]
    others += [config.api.token, *(server.api_key for server in config.vllm_servers)]
    for receiver in config.receivers:
        for webhook in receiver.webhooks:
            others += [webhook.bearer_token, *(secret for _, secret in webhook.headers)]
    for other in others:
        if other is not None:
            _revealed(other, problems)


def _revealed(secret: Secret, problems: Problems) -> str | None:
    """The secret, or None where it cannot be had, which is pointed out."""
    try:
        return secret.reveal()
    except ValueError as error:
        line, column = secret.place
        click.echo(f"{problems.path}:{line}:{column}: warning: {error}", err=True)
        return None


def _oddities(config: Config) -> Iterator[str]:
    """What is no mistake, and hardly meant."""
    routes = every_route(config.route) if config.route is not None else []
    named = {name for route in routes for name in route.receivers}
    for receiver in config.receivers:
        if receiver.name not in named:
            yield f'no route leads to the receiver "{receiver.name}": it is never told'
    for route in routes:
        for child, after in pairwise(route.routes):
            if not child.matchers and not child.continues:
                yield (
                    f"the route {format_matchers(after.matchers)} to {', '.join(after.receivers)} is never reached: "
                    "one before it takes every alert and has no `continue: true`"
                )


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
