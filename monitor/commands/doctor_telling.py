"""The doctor's checks of who is told: receivers, the routes that lead to them, heartbeat, Alertmanagers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from monitor.client.errors import ClientError
from monitor.client.format import clean, count
from monitor.commands.doctor_machine import Finding, Machine
from monitor.config import AlertmanagerServer, Receiver, Secret
from monitor.config_parts import is_http_url
from monitor.notify.route import every_route


def check_receivers(machine: Machine) -> list[Finding]:
    """Whether somebody is told, and whether what tells them can be read. A secret is never shown."""
    config = machine.setting.config
    if config is None:
        return []
    if not config.receivers:
        if config.alertmanagers:
            seen = "none: alerts go on to an Alertmanager, which has to tell people"
            return [Finding("receivers", "ok", seen)]
        cure = "Add receivers: with an apprise URL to gpumon.yaml, and `gpumon check` it"
        return [Finding("receivers", "warning", "none: alerts fire and nobody is notified", cure)]
    routes = every_route(config.route) if config.route is not None else []
    named = {name for route in routes for name in route.receivers}
    reported = {report.receiver for report in config.reports}
    found: list[Finding] = []
    for receiver in config.receivers:
        before = len(found)
        found += _unreadable("receivers", receiver.name, _secrets(receiver))
        found += _no_urls(receiver)
        if receiver.name not in named | reported:
            cure = f"Name it in the route: `route: {{receiver: {receiver.name}}}`, or in one of its `routes:`"
            found.append(Finding("receivers", "warning", f"{receiver.name}: no route leads there", cure))
        if len(found) == before:
            urls = count(len(receiver.apprise) + len(receiver.webhooks), "URL")
            gets = "" if receiver.name in named else "; it gets reports, and no alert"
            found.append(Finding("receivers", "ok", f"{receiver.name}: {urls}, every secret can be read{gets}"))
    return found


def _secrets(receiver: Receiver) -> Iterator[Secret]:
    yield from receiver.apprise
    for webhook in receiver.webhooks:
        yield webhook.url
        yield from (secret for _, secret in webhook.headers)
        if webhook.bearer_token is not None:
            yield webhook.bearer_token


def _no_urls(receiver: Receiver) -> Iterator[Finding]:
    """Webhooks whose secret can be had, and is no URL."""
    for webhook in receiver.webhooks:
        try:
            good = is_http_url(webhook.url.reveal())
        except ValueError:
            continue  # said already
        if not good:
            seen = f"{receiver.name}: {webhook.url.shown} holds no http or https URL"
            yield Finding("receivers", "problem", seen, "Write the webhook's URL there, whole, with https://")


def _unreadable(check: str, name: str, secrets: Iterable[Secret]) -> Iterator[Finding]:
    for secret in secrets:
        try:
            secret.reveal()
        except ValueError as error:
            if secret.where == "env":  # the service has an environment of its own
                cure = f"Set {secret.value} for the daemon: EnvironmentFile= in a drop-in, `systemctl edit gpumon`"
                yield Finding(check, "warning", f"{name}: {error} here", cure)
            else:
                yield Finding(check, "problem", f"{name}: {error}", "Write it into the file, mode 0640, group gpumon")


def check_heartbeat(machine: Machine) -> list[Finding]:
    """Whether anybody notices when this node is dead."""
    config = machine.setting.config
    urls = config.heartbeats if config is not None else ()
    try:
        told = machine.daemon()
    except ClientError:
        told = None  # the check of the daemon says it
    found = list(_unreadable("heartbeat", "heartbeat", urls))
    if found:
        return found
    if told is not None and told.capabilities.heartbeat:
        return [Finding("heartbeat", "ok", "the daemon calls its heartbeat URL")]
    if urls and told is None:
        return [Finding("heartbeat", "ok", f"{count(len(urls), 'URL')}, called once a minute when a daemon runs")]
    if urls:
        seen = "the configuration names one, and the daemon does not call it"
        return [Finding("heartbeat", "warning", seen, "`systemctl reload gpumon`; a private daemon calls none")]
    seen = "none is set: a dead node is silent"
    cure = (
        "Set `heartbeat: URL`, of a service that tells you when it is no longer called; or let a Prometheus elsewhere "
        "scrape /metrics and watch `up`; or watch for the Watchdog alert to end"
    )
    return [Finding("heartbeat", "warning", seen, cure)]


def check_alertmanagers(machine: Machine) -> list[Finding]:
    """Whether the Alertmanagers that alerts are sent on to are there."""
    config = machine.setting.config
    if config is None:
        return []
    found = [_alertmanager(machine, server) for server in config.alertmanagers]
    if config.evaluator == "remote":
        seen = "evaluator: remote: a Prometheus that scrapes this node tells people; this node does where none scrapes"
        found.append(Finding("alertmanagers", "ok", seen))
    return found


def _alertmanager(machine: Machine, server: AlertmanagerServer) -> Finding:
    headers = {}
    if server.bearer_token is not None:
        try:
            headers["Authorization"] = f"Bearer {server.bearer_token.reveal()}"
        except ValueError as error:
            seen = f"{server.url}: its bearer_token cannot be had: {error}"
            return Finding("alertmanagers", "problem", seen, "Mend bearer_token:")
    verify: bool | str = not server.insecure_skip_verify
    if verify and server.ca_file is not None:
        verify = str(server.ca_file)
    answer = machine.fetch(f"{server.url}/api/v2/status", headers, verify)
    if answer.status == 200 and "versionInfo" in answer.text:
        return Finding("alertmanagers", "ok", f"{server.url} answers")
    said = f"HTTP {answer.status}" if answer.status else clean(answer.error)
    if answer.status in (401, 403):
        cure = "Give its token: `bearer_token: {file: PATH}` beside the url"
    elif answer.status:
        cure = f"Is this an Alertmanager's URL, with its path? Try `amtool --alertmanager.url={server.url} alert`"
    else:
        cure = "Is it started, and can this node reach it?"
    return Finding("alertmanagers", "problem", f"{server.url}: {said}", cure)
