"""What ``gpumon.yaml`` says, as values. ``monitor.config`` reads them."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from monitor.notify.inhibition import DEFAULT_INHIBIT_RULES, InhibitRule
from monitor.notify.mute_times import TimeInterval
from monitor.notify.route import Route
from monitor.records import replace
from monitor.schedule import Schedule

DEFAULT_PORT = 9519
DEFAULT_RATE = 20
SYSTEM_SOCKET = Path("/run/gpumon/gpumon.sock")
SYSTEM_STATE = Path("/var/lib/gpumon")


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

    @property
    def is_at_hand(self) -> bool:
        """Whether nothing has to be waited for to have it: it is in no file."""
        return self.where != "file"

    @property
    def shown(self) -> str:
        """Where it is, in words that hold no part of it."""
        return "what stands here" if self.where == "plain" else f"{self.where} {self.value}"

    def __repr__(self) -> str:
        return "Secret(plain)" if self.where == "plain" else f"Secret({self.where}: {self.value})"

    __str__ = __repr__


class Webhook(msgspec.Struct, frozen=True):
    """A URL that gets Alertmanager's webhook payload by POST."""

    url: Secret
    headers: tuple[tuple[str, Secret], ...] = ()
    bearer_token: Secret | None = None
    max_alerts: int = 0
    """Alerts in one payload at most; 0 for all."""
    ca_file: Path | None = None
    insecure_skip_verify: bool = False


class Receiver(msgspec.Struct, frozen=True):
    """Somebody who is told: apprise URLs, webhooks, or both."""

    name: str
    apprise: tuple[Secret, ...] = ()
    send_resolved: bool = True
    webhooks: tuple[Webhook, ...] = ()
    pages: bool | None = None
    """Whether it wakes somebody; None for what the schemes of its URLs say."""
    rate_per_minute: int = DEFAULT_RATE
    """Messages a minute at most."""


class ScheduledReport(msgspec.Struct, frozen=True):
    """A report that is sent to a receiver when it is due."""

    name: str
    schedule: Schedule
    receiver: str
    since_ms: int
    """How far it looks back."""
    prices: tuple[str, ...] = ()
    """As ``monitor.reporting.price`` writes them."""


class AlertmanagerServer(msgspec.Struct, frozen=True):
    """An Alertmanager that alerts are sent on to."""

    url: str
    """Scheme, host, port and path, without ``/`` at the end; ``/api/v2/alerts`` comes after it."""
    bearer_token: Secret | None = None
    ca_file: Path | None = None
    insecure_skip_verify: bool = False


class Canary(msgspec.Struct, frozen=True):
    """How a server's engine is tried with one token where it makes no step by itself. Durations in seconds."""

    deadline_seconds: float = 10.0
    """How long the token may take."""
    still_seconds: float = 30.0
    """How long the engine has to have stood still before it is tried."""
    model: str = ""
    """The model to ask for; "" for the first that the server names."""


LatencyTarget: TypeAlias = tuple[str, str, float]
"""Metric (``ttft``, ``itl`` or ``e2e``), quantile as Prometheus writes it (``0.95``), seconds."""

LATENCY_TARGETS: tuple[LatencyTarget, ...] = (
    ("itl", "0.5", 0.05),
    ("itl", "0.99", 0.1),
    ("ttft", "0.95", 2.0),
    ("ttft", "0.99", 5.0),
)


class VllmServer(msgspec.Struct, frozen=True):
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
    canary: Canary | None = None
    """How it is tried where its engine stands still; None for never."""


class Polling(msgspec.Struct, frozen=True):
    """Cadence of a kind of source, in seconds."""

    enabled: bool
    interval: float
    deadline: float


class Keeping(msgspec.Struct, frozen=True):
    """What history keeps on disk."""

    enabled: bool = True
    retention_ms: int = 7 * 86_400_000
    max_bytes: int = 2 << 30


class ProbeKeeping(msgspec.Struct, frozen=True):
    """Which results of probes are kept; baselines stay beyond that."""

    runs: int = 100
    max_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Tls:
    """What the TCP listener shows, and whose certificates it takes. Files in PEM form."""

    cert_file: Path
    """The certificate, and after it those between it and one that clients know."""
    key_file: Path
    """Its private key, without a password."""
    client_ca_file: Path | None = None
    """Who has a certificate from one of these may read."""
    place: tuple[int, int] = field(default=(1, 1), compare=False)
    """Line and column where the configuration has it."""


class Api(msgspec.Struct, frozen=True):
    """Where the daemon answers, and what has to be shown there."""

    socket: Path
    listen: tuple[str, int] | None
    """Host and port of the TCP listener, or None for none. On loopback everybody may read; beyond it, who shows one of
    the tokens or a certificate."""
    token: Secret | None = None
    """What a client shows to change something over TCP, as silences; None where only the unix socket can."""
    read_token: Secret | None = None
    """What a client shows that only reads."""
    tls: Tls | None = None
    """None for TCP in the clear."""

    @property
    def is_open(self) -> bool:
        """Whether others than this machine reach the TCP listener."""
        return self.listen is not None and not is_loopback(self.listen[0])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name is looked up nowhere: only ``localhost`` is one."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Config(msgspec.Struct, frozen=True):
    """All that ``gpumon.yaml`` says, with the defaults where it is silent."""

    hostname: str = msgspec.field(default_factory=socket.gethostname)
    job: str = "gpumon"
    instance: str = ""
    state_directory: Path = SYSTEM_STATE
    history: Keeping = Keeping()
    probes: ProbeKeeping = ProbeKeeping()
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
    rootfs: Path | None = None
    """Where the node's root is mounted, in a container; None for our own root."""
    rule_files: tuple[Path, ...] = ()
    """Empty for the rules that are shipped."""
    evaluation_interval_ms: int = 5_000
    latency_targets: tuple[LatencyTarget, ...] = LATENCY_TARGETS
    """What latencies are measured against."""
    evaluator: Literal["local", "remote"] = "local"
    """Who evaluates alerting rules and notifies: this daemon, or a Prometheus elsewhere that has the same rules."""
    external_url: str = ""
    """Where people see this node's alerts, for links in messages; without ``/`` at the end."""
    external_labels: tuple[tuple[str, str], ...] = ()
    """Labels that alerts get on their way to an Alertmanager, sorted by name."""
    alertmanagers: tuple[AlertmanagerServer, ...] = ()
    heartbeats: tuple[Secret, ...] = ()
    """URLs that are called once a minute while all is well here."""
    receivers: tuple[Receiver, ...] = ()
    route: Route | None = None
    """The tree's root; None where there is no receiver."""
    inhibit_rules: tuple[InhibitRule, ...] = DEFAULT_INHIBIT_RULES
    time_intervals: Mapping[str, tuple[TimeInterval, ...]] = msgspec.field(default_factory=dict)
    """What routes name as times in which they are mute, or alone speak."""
    reports: tuple[ScheduledReport, ...] = ()

    def named(self) -> Config:
        """With ``instance`` filled in, ``<host>:9519``, where the file does not say it."""
        if self.instance:
            return self
        port = self.api.listen[1] if self.api.listen else DEFAULT_PORT
        return replace(self, instance=f"{self.hostname}:{port}")
