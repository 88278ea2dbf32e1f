"""The sections of ``gpumon.yaml`` that say who is told: ``alerting``, ``receivers`` and ``heartbeat``."""

from __future__ import annotations

from monitor.config_fields_told import ALERTING, ALERTMANAGER, RECEIVER, WEBHOOK
from monitor.config_parts import Parts, one_or_more, plain_url, truth
from monitor.config_values import DEFAULT_RATE, AlertmanagerServer, Config, Receiver, Secret, Webhook
from monitor.records import replace
from monitor.yaml_reader import Node

_NAME = RECEIVER.pattern("name")
_LABEL = ALERTING.pattern("external_labels")
_HEADER = WEBHOOK.pattern("headers")


class AlertingReader:
    """Reads those sections. Each method notes problems, and gives what it has."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def alerting(self, node: Node, config: Config) -> Config:
        """``alerting:`` into the configuration's fields."""
        found = node.fields(ALERTING.names)
        if "rule_files" in found:
            files = found["rule_files"]
            config = replace(config, rule_files=self._parts.paths(files))
            if files.is_null or files.is_empty_list:
                files.problem(
                    "is empty: leave rule_files out for the shipped rules, or name a file with `groups: []` for none"
                )
        if "evaluation_interval" in found:
            interval = found["evaluation_interval"].duration_ms(*ALERTING.limits("evaluation_interval"))
            config = replace(config, evaluation_interval_ms=interval or config.evaluation_interval_ms)
        if "evaluator" in found and found["evaluator"].choice(*ALERTING.choices("evaluator")) == "remote":
            config = replace(config, evaluator="remote")
        if "external_url" in found:
            url = plain_url(found["external_url"], "https://gpumon.example.com")
            config = replace(config, external_url=url)
        if "external_labels" in found:
            config = replace(config, external_labels=_labels(found["external_labels"]))
        if "alertmanagers" in found:
            servers: dict[str, AlertmanagerServer] = {}
            for item in one_or_more(found["alertmanagers"]):
                server = self._alertmanager(item)
                if server.url in servers:
                    item.problem("this Alertmanager stands here a second time")
                if server.url:
                    servers[server.url] = server
            config = replace(config, alertmanagers=tuple(servers.values()))
        return config

    def _alertmanager(self, node: Node) -> AlertmanagerServer:
        example = "http://alertmanager:9093"
        if node.kind == "scalar":
            return AlertmanagerServer(plain_url(node, example))
        fields = node.fields(ALERTMANAGER.names)
        if "url" not in fields:
            node.problem(f'an Alertmanager needs a "url", such as {example}')
            return AlertmanagerServer("")
        return AlertmanagerServer(
            plain_url(fields["url"], example),
            self._parts.secret_of(fields, "bearer_token"),
            self._parts.path_of(fields, "ca_file"),
            truth(fields, "insecure_skip_verify"),
        )

    def heartbeats(self, node: Node) -> tuple[Secret, ...]:
        """``heartbeat:``, one URL or several."""
        return tuple(url for item in one_or_more(node) if (url := self._parts.secret_url(item)) is not None)

    def receivers(self, node: Node) -> tuple[Receiver, ...]:
        """``receivers:``."""
        receivers: dict[str, Receiver] = {}
        for item in node.items():
            fields = item.fields(RECEIVER.names)
            name = fields["name"].text() if "name" in fields else None
            if not name:
                item.problem('a receiver needs a "name"')
                continue
            if not _NAME.fullmatch(name):
                fields["name"].problem("a receiver's name has letters, digits, ., _ and -, at most 64 of them")
            if name in receivers:
                fields["name"].problem(f'a second receiver called "{name}"')
            apprise = self._apprise(fields["apprise"]) if "apprise" in fields else ()
            webhooks: tuple[Webhook, ...] = ()
            if "webhook" in fields:
                webhooks = tuple(self._webhook(child) for child in one_or_more(fields["webhook"]))
            if not apprise and not webhooks and not fields.keys() & {"apprise", "webhook"}:
                item.problem(
                    'a receiver needs "apprise" or "webhook": a URL or a list of them, each a text, {env: NAME} or '
                    "{file: PATH}"
                )
                continue
            for kind in ("apprise", "webhook"):
                if kind in fields and not one_or_more(fields[kind]):
                    fields[kind].problem(f'"{kind}" holds no URL')
            sends = fields["send_resolved"].boolean() if "send_resolved" in fields else True
            pages = fields["pages"].boolean() if "pages" in fields else None
            rate = fields["rate_limit"].integer(*RECEIVER.limits("rate_limit")) if "rate_limit" in fields else None
            limit = rate or DEFAULT_RATE
            receivers[name] = Receiver(name, apprise, sends is not False, webhooks, pages, limit)
        return tuple(receivers.values())

    def _apprise(self, node: Node) -> tuple[Secret, ...]:
        urls: list[Secret] = []
        for child in one_or_more(node):
            secret = self._parts.secret(child)
            if secret is None:
                continue
            if secret.where == "plain" and "://" not in secret.value:
                child.problem("this is no apprise URL, such as slack://…, mailto://… or json://…")
            urls.append(secret)
        return tuple(urls)

    def _webhook(self, node: Node) -> Webhook:
        nothing = Secret("plain", "")
        if node.kind != "map" or {key.text() for key, _ in node.pairs()} & {"env", "file"}:
            return Webhook(self._parts.secret_url(node) or nothing)
        fields = node.fields(WEBHOOK.names)
        if "url" not in fields:
            node.problem('a webhook needs a "url": a text, {env: NAME} or {file: PATH}')
            return Webhook(nothing)
        headers: dict[str, Secret] = {}
        for key, value in fields["headers"].pairs() if "headers" in fields else ():
            name = key.text()
            secret = self._parts.secret(value)
            if name is None or secret is None:
                continue
            if not _HEADER.fullmatch(name):
                key.problem(f'"{name}" is no name of an HTTP header')
            if name.lower() in {one.lower() for one in headers}:
                key.problem(f'the header "{name}" stands here a second time')
            if name.lower() == "authorization" and "bearer_token" in fields:
                key.problem("give either this header or bearer_token")
            if secret.where == "plain" and not secret.value.isprintable():
                value.problem("a header's value is one line without control characters")
            headers[name] = secret
        most = fields["max_alerts"].integer(*WEBHOOK.limits("max_alerts")) if "max_alerts" in fields else None
        return Webhook(
            self._parts.secret_url(fields["url"]) or nothing,
            tuple(headers.items()),
            self._parts.secret_of(fields, "bearer_token"),
            most or 0,
            self._parts.path_of(fields, "ca_file"),
            truth(fields, "insecure_skip_verify"),
        )


def _labels(node: Node) -> tuple[tuple[str, str], ...]:
    labels: dict[str, str] = {}
    for key, value in node.pairs():
        name, text = key.text(), value.text()
        if name is None or text is None:
            continue
        if not _LABEL.fullmatch(name):
            key.problem(f'"{name}" is no name of a label')
        if name in labels:
            key.problem(f'the label "{name}" stands here a second time')
        labels[name] = text
    return tuple(sorted(labels.items()))
