"""What ``gpumon check`` looks at in a configuration beyond its form: URLs, secrets, routes that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from monitor.commands.access_look import look_at_access
from monitor.commands.check_findings import Finding
from monitor.config import Config, Secret
from monitor.config_parts import is_http_url
from monitor.matchers import format_matchers
from monitor.notify.route import every_route
from monitor.yaml_reader import Problems


def look(config: Config, problems: Problems) -> list[Finding]:
    """Adds what is wrong to ``problems``, and gives what is only odd."""
    odd: list[Finding] = []
    _look_at_receivers(config, problems, odd)
    _look_at_urls(config, problems, odd)
    for seen in look_at_access(config.api):
        if seen.state == "problem":
            problems.add(str(seen), *seen.place)
        else:
            odd.append(Finding(problems.path, *seen.place, "warning", str(seen)))
    odd += [Finding(problems.path, 0, 0, "warning", said) for said in _oddities(config)]
    return odd


def _look_at_receivers(config: Config, problems: Problems, odd: list[Finding]) -> None:
    """Whether apprise knows each receiver's URL. A secret that cannot be had is only pointed out: the daemon may have
    what this user has not."""
    if not any(receiver.apprise for receiver in config.receivers):
        return
    import logging

    import apprise  # only here: it is heavy, and the daemon does without

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would quote what it does not know
    for receiver in config.receivers:
        for secret in receiver.apprise:
            url = _revealed(secret, problems, odd)
            if url is None:
                continue
            if not apprise.Apprise().add(url):
                scheme = url.partition(":")[0][:20] if "://" in url else ""
                known = f'"{scheme}://"' if secret.where == "plain" and scheme else "what it holds"
                problems.add(f"{known} is no URL that apprise can send to", *secret.place)


def _look_at_urls(config: Config, problems: Problems, odd: list[Finding]) -> None:
    """Whether what webhooks and heartbeats name is a URL, and whether their other secrets can be had."""
    urls = [webhook.url for receiver in config.receivers for webhook in receiver.webhooks] + list(config.heartbeats)
    for secret in urls:
        url = _revealed(secret, problems, odd)
        if url is not None and not is_http_url(url):
            problems.add("what it holds is no http or https URL", *secret.place)
    others = [server.bearer_token for server in config.alertmanagers]
    others += [config.api.token, config.api.read_token, *(server.api_key for server in config.vllm_servers)]
    for receiver in config.receivers:
        for webhook in receiver.webhooks:
            others += [webhook.bearer_token, *(secret for _, secret in webhook.headers)]
    for other in others:
        if other is not None:
            _revealed(other, problems, odd)


def _revealed(secret: Secret, problems: Problems, odd: list[Finding]) -> str | None:
    """The secret, or None where it cannot be had, which is pointed out."""
    try:
        return secret.reveal()
    except ValueError as error:
        odd.append(Finding(problems.path, *secret.place, "warning", str(error)))
        return None


def _oddities(config: Config) -> Iterator[str]:
    """What is no mistake, and hardly meant."""
    routes = every_route(config.route) if config.route is not None else []
    named = {name for route in routes for name in route.receivers} | {report.receiver for report in config.reports}
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
