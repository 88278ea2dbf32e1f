"""The section ``sources: {vllm: …}`` of ``gpumon.yaml``: servers, their canary, and what latencies are to be."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from monitor.config_fields_vllm import CANARY, LOG, PERCENTILES, SERVER, TARGETS
from monitor.config_parts import Parts, filled, hide_password, truth
from monitor.config_values import Canary, LatencyTarget, VllmServer
from monitor.yaml_reader import Node, suggestion

_LOOPBACK = re.compile(r"^(localhost|127\.[0-9.]+|\[?::1\]?|0\.0\.0\.0|\[?::\]?)$", re.IGNORECASE)
_GPU = SERVER.pattern("gpus")
_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
"""Those that the shipped rules hold against their targets."""


class VllmReader:
    """Reads the servers. ``hostname`` is what a loopback name stands for."""

    def __init__(self, parts: Parts, hostname: str) -> None:
        self._parts = parts
        self._hostname = hostname

    def servers(self, node: Node) -> tuple[VllmServer, ...]:
        """The list ``servers:``."""
        servers: dict[str, VllmServer] = {}
        for item in node.items():
            server = self._server(item)
            if server is None:
                continue
            if server.server in servers:
                item.problem(f'a second server called "{server.server}": give it a `server:` of its own')
            servers[server.server] = server
        return tuple(servers.values())

    def _server(self, node: Node) -> VllmServer | None:
        if node.kind == "scalar":
            url_node, fields = node, {}
        else:
            fields = node.fields(SERVER.names)
            if "url" not in fields:
                node.problem('a server needs a "url", such as http://127.0.0.1:8000')
                return None
            url_node = fields["url"]
        found = self._url(url_node)
        if found is None:
            return None
        url, server = found
        if "server" in fields and (text := fields["server"].text()):
            server = text
            if _LOOPBACK.match(text.rsplit(":", 1)[0]):
                fields["server"].problem("a loopback name means another machine on each node: use the node's name")
        log_file, log_unit = self._log(fields["log"]) if "log" in fields else (None, "")
        return VllmServer(
            url,
            server,
            self._parts.secret_of(fields, "api_key"),
            self._parts.path_of(fields, "ca_file"),
            truth(fields, "insecure_skip_verify"),
            log_file,
            log_unit,
            _gpus(fields["gpus"]) if "gpus" in fields else (),
            _canary(fields["canary"]) if "canary" in fields else None,
        )

    def _url(self, node: Node) -> tuple[str, str] | None:
        """A server's URL, and what it is called after it."""
        url = (node.text() or "").rstrip("/")
        if not url:
            if not node.is_null:
                node.problem('a server needs a URL, such as "http://127.0.0.1:8000"')
            return None
        shown = hide_password(url)
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError as error:
            node.problem(f'"{shown}" is not a URL: {error}')
            return None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            node.problem(f'"{shown}" is not an http or https URL, such as http://127.0.0.1:8000')
            return None
        if parts.path == "/metrics":
            url = url[: -len("/metrics")]
        elif parts.path or parts.query or parts.fragment:
            node.problem("the URL ends after the port: /metrics is added")
        if parts.username or parts.password:
            node.problem("a password has no place in the URL: use api_key")
        host = self._hostname if _LOOPBACK.match(parts.hostname) else parts.hostname
        return url, f"{host}:{port}"

    def _log(self, node: Node) -> tuple[Path | None, str]:
        fields = node.fields(LOG.names)
        if len(fields) != 1:
            node.problem("say where the log is, with either `file: PATH` or `unit: NAME`")
            return None, ""
        if "file" in fields:
            return self._parts.path_of(fields, "file"), ""
        return None, filled(fields["unit"]) or ""


def _gpus(node: Node) -> tuple[str, ...]:
    gpus: list[str] = []
    for item in node.items():
        text = item.text()
        if text is None:
            continue
        if not _GPU.fullmatch(text):
            item.problem(f'"{text}" is no GPU: give its index or its UUID, as nvidia-smi -L lists them')
        elif text in gpus:
            item.problem(f"the GPU {text} stands here a second time")
        gpus.append(text)
    return tuple(gpus)


def _canary(node: Node) -> Canary | None:
    if node.kind == "scalar":
        return Canary() if node.boolean() is True else None
    fields = node.fields(CANARY.names)
    deadline = fields["deadline"].duration_ms(*CANARY.limits("deadline")) if "deadline" in fields else None
    still = fields["still"].duration_ms(*CANARY.limits("still")) if "still" in fields else None
    model = fields["model"].text() if "model" in fields else None
    default = Canary()
    return Canary(
        deadline / 1000 if deadline else default.deadline_seconds,
        still / 1000 if still else default.still_seconds,
        model or "",
    )


def read_targets(node: Node, defaults: tuple[LatencyTarget, ...]) -> tuple[LatencyTarget, ...]:
    """``{ttft: {p95: 2s}, itl: {p50: 50ms}}``. A metric that is named has the targets that are named, and no other."""
    fields = node.fields(TARGETS.names)
    targets = {(metric, quantile): seconds for metric, quantile, seconds in defaults if metric not in fields}
    for metric, child in fields.items():
        for key, value in child.pairs():
            name = key.text()
            if name is None:
                continue
            quantile = _QUANTILES.get(name)
            if quantile is None:
                key.problem(f'"{name}" is none of the percentiles p50, p95 and p99{suggestion(name, _QUANTILES)}')
                continue
            if (metric, quantile) in targets:
                key.problem(f'the field "{name}" stands here a second time')
            milliseconds = value.duration_ms(*PERCENTILES.limits(name))
            if milliseconds is not None:
                targets[metric, quantile] = milliseconds / 1000
    return tuple(sorted((metric, quantile, seconds) for (metric, quantile), seconds in targets.items()))
