"""``gpumon.yaml`` into typed values. Every problem is told as file:line:column; a file with one is refused whole.

Without a file the defaults hold: this node's GPUs, its host, no vLLM server, the shipped rules, no receiver.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from monitor.yaml_reader import ConfigError, Node, Problem, Problems, compose, read_text, suggestion

__all__ = [
    "Api",
    "Config",
    "ConfigError",
    "Polling",
    "Problem",
    "Receiver",
    "Secret",
    "VllmServer",
    "load",
    "loads",
]

DEFAULT_PORT = 9519
SYSTEM_SOCKET = Path("/run/gpumon/gpumon.sock")
SYSTEM_STATE = Path("/var/lib/gpumon")

_LOOPBACK = re.compile(r"^(localhost|127\.[0-9.]+|\[?::1\]?|0\.0\.0\.0|\[?::\]?)$", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/]*@")
_GPU = re.compile(r"^(\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+)$")
_NAME = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that must never be shown: an apprise URL, an API key. From the file itself, from the environment, or
    from a file of its own."""

    where: Literal["plain", "env", "file"]
    value: str
    """The secret itself, the variable's name, or the file's path."""
    place: tuple[int, int] = field(default=(1, 1), compare=False)
    """Line and column where the configuration has it."""

    def reveal(self) -> str:
        """The secret, read now, so that a rotated file is followed. Raises ``ValueError`` where it cannot be had, with
        a text that holds no part of it."""
        if self.where == "plain":
            return self.value
        if self.where == "env":
            found = os.environ.get(self.value, "")
            if not found:
                raise ValueError(f"the environment variable {self.value} is not set")
            return found
        try:
            text = Path(self.value).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ValueError(f"{self.value} cannot be read: {reason}") from None
        if not text:
            raise ValueError(f"{self.value} is empty")
        return text

    def __repr__(self) -> str:
        return "Secret(plain)" if self.where == "plain" else f"Secret({self.where}: {self.value})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody who is told: one or more apprise URLs."""

    name: str
    apprise: tuple[Secret, ...]
    send_resolved: bool = True


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A server whose ``/metrics`` is scraped."""

    url: str
    """Scheme, host and port, without a path at the end."""
    server: str
    """The label ``server``, ``<host>:<port>``; never a loopback name."""
    api_key: Secret | None = None
    ca_file: Path | None = None
    """Certificates to trust for an https server, where the system's do not suffice."""
    insecure_skip_verify: bool = False
    log_file: Path | None = None
    log_unit: str = ""
    """Where it logs: a file, or the journal of a systemd unit; at most one of the two."""
    gpus: tuple[str, ...] = ()
    """Indices or UUIDs of the GPUs that its engine runs on, in the order of its ranks, where the person says so."""


@dataclass(frozen=True, slots=True)
class Polling:
    """Cadence of a kind of source, in seconds."""

    enabled: bool
    interval: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Api:
    """Where the daemon answers."""

    socket: Path
    listen: tuple[str, int] | None
    """Host and port of the read-only TCP listener, or None for none. Loopback only."""


@dataclass(frozen=True, slots=True)
class Config:
    """All that ``gpumon.yaml`` says, with the defaults where it is silent."""

    hostname: str = field(default_factory=socket.gethostname)
    job: str = "gpumon"
    instance: str = ""
    state_directory: Path = SYSTEM_STATE
    api: Api = Api(SYSTEM_SOCKET, ("127.0.0.1", DEFAULT_PORT))
    nvml: Polling = Polling(True, 1.0, 2.0)
    host: Polling = Polling(True, 2.0, 2.0)
    kernel_log: Polling = Polling(True, 1.0, 2.0)
    vllm: Polling = Polling(True, 1.0, 2.0)
    discover: bool = True
    """Whether servers that run on this node are found and watched without being named."""
    vllm_servers: tuple[VllmServer, ...] = ()
    model_caches: tuple[Path, ...] = ()
    """Directories of models whose file systems matter; empty for where Hugging Face keeps them."""
    rule_files: tuple[Path, ...] = ()
    """Empty for the rules that are shipped."""
    evaluation_interval_ms: int = 5_000
    receivers: tuple[Receiver, ...] = ()
    route: tuple[str, ...] = ()
    """Names of the receivers that get every alert but those of severity ``none``."""

    def named(self) -> Config:
        """With ``instance`` filled in, ``<host>:9519``, where the file does not say it."""
        if self.instance:
            return self
        port = self.api.listen[1] if self.api.listen else DEFAULT_PORT
        return replace(self, instance=f"{self.hostname}:{port}")


def load(path: Path | str) -> Config:
    """Read ``gpumon.yaml``. Raises ``ConfigError`` with every problem of it."""
    problems = Problems(str(path))
    text = read_text(path, problems)
    problems.raise_if_any()
    return loads(text or "", str(path))


def loads(text: str, path: str = "gpumon.yaml") -> Config:
    """Read a configuration from text; ``path`` is the name that problems carry and that relative paths in the text
    start from. Raises ``ConfigError``."""
    problems = Problems(path)
    root = compose(text, problems)
    config = _Reader(Path(path).parent).read(root) if root is not None else Config()
    problems.raise_if_any()
    return config.named()


class _Reader:
    """Walks the document. Each method takes the node of its section and gives its value, or the default where the node
    has a problem: then the whole file is refused anyway."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._hostname = ""

    def read(self, root: Node) -> Config:
        config = Config()
        top = root.fields(["node", "state_directory", "api", "sources", "alerting", "receivers", "route"])
        if "node" in top:
            config = self._identity(top["node"], config)
        self._hostname = config.hostname
        if "state_directory" in top and (text := top["state_directory"].text()) is not None:
            config = replace(config, state_directory=self._path(text))
        if "api" in top:
            config = replace(config, api=self._api(top["api"], config.api))
        if "sources" in top:
            config = self._sources(top["sources"], config)
        if "alerting" in top:
            config = self._alerting(top["alerting"], config)
        if "receivers" in top:
            config = replace(config, receivers=self._receivers(top["receivers"]))
        if "route" in top:
            config = replace(config, route=self._route(top["route"], [r.name for r in config.receivers]))
        elif len(config.receivers) == 1:
            config = replace(config, route=(config.receivers[0].name,))
        elif config.receivers:
            top["receivers"].problem("several receivers and no route: say who is told, `route: {receiver: NAME}`")
        return config

    def _path(self, text: str) -> Path:
        path = Path(text).expanduser()
        return path if path.is_absolute() else self._base / path

    def _identity(self, node: Node, config: Config) -> Config:
        found = node.fields(["hostname", "job", "instance"])
        texts = {name: value for name, child in found.items() if (value := child.text())}
        return replace(
            config,
            hostname=texts.get("hostname", config.hostname),
            job=texts.get("job", config.job),
            instance=texts.get("instance", config.instance),
        )

    def _api(self, node: Node, api: Api) -> Api:
        found = node.fields(["socket", "listen"])
        if "socket" in found and (text := found["socket"].text()) is not None:
            path = self._path(text)
            if len(os.fsencode(path)) > 107:
                found["socket"].problem("a unix socket's path has at most 107 bytes")
            api = replace(api, socket=path)
        if "listen" in found:
            listen = found["listen"]
            if listen.is_null or (text := listen.text()) in ("none", "off"):
                return replace(api, listen=None)
            try:
                api = replace(api, listen=parse_listen(text or ""))
            except ValueError as error:
                listen.problem(str(error))
        return api

    def _sources(self, node: Node, config: Config) -> Config:
        found = node.fields(["nvml", "host", "kernel_log", "vllm"])
        if "nvml" in found:
            config = replace(config, nvml=_polling(found["nvml"].fields(_POLLING), config.nvml))
        if "host" in found:
            fields = found["host"].fields([*_POLLING, "model_caches"])
            config = replace(config, host=_polling(fields, config.host))
            if "model_caches" in fields:
                caches = [self._path(text) for item in fields["model_caches"].items() if (text := item.text())]
                config = replace(config, model_caches=tuple(caches))
        if "kernel_log" in found:
            config = replace(config, kernel_log=_polling(found["kernel_log"].fields(_POLLING), config.kernel_log))
        if "vllm" in found:
            fields = found["vllm"].fields([*_POLLING, "discover", "servers"])
            config = replace(config, vllm=_polling(fields, config.vllm))
            if "discover" in fields:
                config = replace(config, discover=fields["discover"].boolean() is not False)
            if "servers" in fields:
                servers: dict[str, VllmServer] = {}
                for item in fields["servers"].items():
                    server = self._server(item)
                    if server is None:
                        continue
                    if server.server in servers:
                        item.problem(f'a second server called "{server.server}": give it a `server:` of its own')
                    servers[server.server] = server
                config = replace(config, vllm_servers=tuple(servers.values()))
        return config

    def _server(self, node: Node) -> VllmServer | None:
        if node.kind == "scalar":
            url_node, fields = node, {}
        else:
            fields = node.fields(["url", "server", "api_key", "gpus", "ca_file", "insecure_skip_verify", "log"])
            if "url" not in fields:
                node.problem('a server needs a "url", such as http://127.0.0.1:8000')
                return None
            url_node = fields["url"]
        url = (url_node.text() or "").rstrip("/")
        if not url:
            if not url_node.is_null:
                url_node.problem('a server needs a URL, such as "http://127.0.0.1:8000"')
            return None
        shown = _USERINFO.sub("//…@", url)
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError as error:
            url_node.problem(f'"{shown}" is not a URL: {error}')
            return None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            url_node.problem(f'"{shown}" is not an http or https URL, such as http://127.0.0.1:8000')
            return None
        if parts.path == "/metrics":
            url = url[: -len("/metrics")]
        elif parts.path or parts.query or parts.fragment:
            url_node.problem("the URL ends after the port: /metrics is added")
        if parts.username or parts.password:
            url_node.problem("a password has no place in the URL: use api_key")
        host = self._hostname if _LOOPBACK.match(parts.hostname) else parts.hostname
        server = f"{host}:{port}"
        if "server" in fields and (text := fields["server"].text()):
            server = text
            if _LOOPBACK.match(text.rsplit(":", 1)[0]):
                fields["server"].problem("a loopback name means another machine on each node: use the node's name")
        gpus = self._gpus(fields["gpus"]) if "gpus" in fields else ()
        api_key = self._secret(fields["api_key"]) if "api_key" in fields else None
        ca_file = fields["ca_file"].text() if "ca_file" in fields else None
        insecure = fields["insecure_skip_verify"].boolean() is True if "insecure_skip_verify" in fields else False
        log_file, log_unit = self._log(fields["log"]) if "log" in fields else (None, "")
        trusted = self._path(ca_file) if ca_file else None
        return VllmServer(url, server, api_key, trusted, insecure, log_file, log_unit, gpus)

    def _gpus(self, node: Node) -> tuple[str, ...]:
        gpus: list[str] = []
        for item in node.items():
            text = item.text()
            if text is None:
                continue
            if not _GPU.match(text):
                item.problem(f'"{text}" is no GPU: give its index or its UUID, as nvidia-smi -L lists them')
            elif text in gpus:
                item.problem(f"the GPU {text} stands here a second time")
            gpus.append(text)
        return tuple(gpus)

    def _log(self, node: Node) -> tuple[Path | None, str]:
        fields = node.fields(["file", "unit"])
        if len(fields) != 1:
            node.problem("say where the log is, with either `file: PATH` or `unit: NAME`")
            return None, ""
        if "file" in fields:
            text = fields["file"].text()
            return (self._path(text) if text else None), ""
        return None, fields["unit"].text() or ""

    def _secret(self, node: Node) -> Secret | None:
        if node.kind == "scalar":
            text = node.text()
            return Secret("plain", text, (node.line, node.column)) if text else None
        fields = node.fields(["env", "file"])
        if len(fields) != 1:
            node.problem("say where the secret is, with either `env: NAME` or `file: PATH`")
            return None
        if "env" in fields:
            text = fields["env"].text()
            return Secret("env", text, (node.line, node.column)) if text else None
        text = fields["file"].text()
        return Secret("file", str(self._path(text)), (node.line, node.column)) if text else None

    def _alerting(self, node: Node, config: Config) -> Config:
        found = node.fields(["rule_files", "evaluation_interval"])
        if "rule_files" in found:
            files = [self._path(text) for item in found["rule_files"].items() if (text := item.text())]
            config = replace(config, rule_files=tuple(files))
        if "evaluation_interval" in found:
            interval = found["evaluation_interval"].duration_ms(1_000, 3_600_000)
            config = replace(config, evaluation_interval_ms=interval or config.evaluation_interval_ms)
        return config

    def _receivers(self, node: Node) -> tuple[Receiver, ...]:
        receivers: dict[str, Receiver] = {}
        for item in node.items():
            fields = item.fields(["name", "apprise", "send_resolved"])
            name = fields["name"].text() if "name" in fields else None
            if not name:
                item.problem('a receiver needs a "name"')
                continue
            if not _NAME.match(name):
                fields["name"].problem("a receiver's name has letters, digits, ., _ and -, at most 64 of them")
            if name in receivers:
                fields["name"].problem(f'a second receiver called "{name}"')
            if "apprise" not in fields:
                item.problem('a receiver needs "apprise": a list of URLs, each a text, {env: NAME} or {file: PATH}')
                continue
            node_list = fields["apprise"].items() if fields["apprise"].kind == "list" else [fields["apprise"]]
            urls = [secret for child in node_list if (secret := self._secret(child)) is not None]
            for child, secret in zip(node_list, urls, strict=False):
                if secret.where == "plain" and "://" not in secret.value:
                    child.problem("this is no apprise URL, such as slack://…, mailto://… or json://…")
            sends = fields["send_resolved"].boolean() if "send_resolved" in fields else True
            receivers[name] = Receiver(name, tuple(urls), sends is not False)
        return tuple(receivers.values())

    def _route(self, node: Node, known: list[str]) -> tuple[str, ...]:
        fields = node.fields(["receiver"])
        if "receiver" not in fields:
            node.problem('a route needs a "receiver"')
            return ()
        child = fields["receiver"]
        names = child.items() if child.kind == "list" else [child]
        out = []
        for item in names:
            name = item.text()
            if name is None:
                continue
            if name not in known:
                item.problem(f'there is no receiver "{name}"{suggestion(name, known)}')
            out.append(name)
        return tuple(out)


_POLLING = ["enabled", "interval", "deadline"]


def _polling(fields: dict[str, Node], default: Polling) -> Polling:
    enabled = fields["enabled"].boolean() if "enabled" in fields else default.enabled
    interval = fields["interval"].duration_ms(100, 3_600_000) if "interval" in fields else None
    deadline = fields["deadline"].duration_ms(100, 60_000) if "deadline" in fields else None
    return Polling(
        enabled is not False,
        interval / 1000 if interval else default.interval,
        deadline / 1000 if deadline else default.deadline,
    )


def parse_listen(text: str) -> tuple[str, int]:
    """``host:port`` of the TCP listener. Raises ``ValueError`` for what is no loopback address: without a token,
    nothing beyond this machine may read."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{text}" is not HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}')
    if host != "localhost" and not host.startswith("127.") and host != "::1":
        raise ValueError(f"{host} is not a loopback address: only 127.0.0.1, localhost and ::1 are served")
    return host, int(port)
