"""The doctor's checks of gpumon and its neighbours: configuration, vLLM, daemon, ports."""

from __future__ import annotations

import re

from monitor import __version__
from monitor.client.errors import ClientError
from monitor.client.format import clean, count, duration
from monitor.commands.access_look import look_at_access
from monitor.commands.doctor_machine import Answer, DaemonTold, Finding, Machine
from monitor.config import DEFAULT_PORT, VllmServer

_ENGINE = re.compile(r"^(?:# \w+ )?(?:ray_)?(?:vllm|sglang|tgi)[:_]", re.MULTILINE)
"""A series of vLLM, of vLLM under Ray, or of an engine that is stored under vLLM's names."""


def check_configuration(machine: Machine) -> list[Finding]:
    """Whether ``gpumon.yaml`` and the rules that it names are good."""
    from monitor.reloading import read_rules
    from monitor.yaml_reader import ConfigError

    setting = machine.setting
    if setting.config is None:
        if any("ermission denied" in problem for problem in setting.problems):
            cure = "Join the group gpumon (`sudo usermod -aG gpumon $USER`), or run the doctor as root"
            return [Finding("configuration", "warning", f"{setting.path} may not be read by this user", cure)]
        return [_bad(problem) for problem in setting.problems]
    try:
        rules = sum(len(group.rules) for group in read_rules(setting.config).groups)
    except ConfigError as error:
        return [_bad(str(problem)) for problem in error.problems]
    if setting.path is None:
        cure = "`gpumon config init` writes one from what is here"
        return [Finding("configuration", "ok", f"no file: defaults and the {rules} shipped rules", cure)]
    return [Finding("configuration", "ok", f"{setting.path} is good, {count(rules, 'rule')}")]


def _bad(problem: str) -> Finding:
    return Finding("configuration", "problem", problem, "Mend the line; `gpumon check FILE` looks again")


def check_vllm(machine: Machine) -> list[Finding]:
    """The servers that are configured or run here, and whether each answers."""
    config = machine.setting.config
    servers = {s.server: s for s in config.vllm_servers} if config is not None else {}
    urls = {s.url for s in servers.values()}
    unnamed = []
    for one in machine.servers():
        if one.server not in servers and one.url.rstrip("/") not in urls:
            servers[one.server] = VllmServer(one.url.rstrip("/"), one.server)
            unnamed.append(one.server)
    if not servers:
        cure = "Name it: `sources: {vllm: {servers: [http://127.0.0.1:8000]}}`, or `gpumon daemon --vllm URL`"
        return [Finding("vllm", "warning", "no server configured, and none found on this node", cure)]
    return [_server(machine, server, server.server in unnamed) for server in servers.values()]


def _server(machine: Machine, server: VllmServer, unnamed: bool) -> Finding:
    headers = {}
    if server.api_key is not None:
        try:
            headers["Authorization"] = f"Bearer {server.api_key.reveal()}"
        except ValueError as error:
            return Finding("vllm", "problem", f"{server.server}: its api_key cannot be had: {error}", "Mend api_key:")
    answer = machine.fetch(f"{server.url}/metrics", headers, _verify(server, unnamed))
    name = f"{server.server} ({'found here' if unnamed else 'configured'})"
    if answer.status == 200 and _ENGINE.search(answer.text):
        return Finding("vllm", "ok", f"{name} answers with its metrics")
    if answer.status == 200:
        cure = "Is this vLLM's port? It may also run with --disable-log-stats, or still load its model"
        return Finding("vllm", "warning", f"{name} answers, with no series of an engine", cure)
    if answer.status in (401, 403):
        cure = "Give its key: `api_key: {file: …}` beside the server's url"
        return Finding("vllm", "problem", f"{name} refuses us: HTTP {answer.status}", cure)
    if answer.status:
        cure = "Try `curl URL/metrics`: the URL names scheme, host and port of vLLM itself, not of a proxy"
        return Finding("vllm", "problem", f"{name}: HTTP {answer.status} for /metrics", cure)
    cure = "Is it started, has it loaded its model, and is the port right?"
    return Finding("vllm", "problem", f"{name}: {clean(answer.error)}", cure)


def _verify(server: VllmServer, unnamed: bool) -> bool | str:
    if unnamed or server.insecure_skip_verify:  # one that was found gets no key, and is only asked whether it answers
        return False
    return str(server.ca_file) if server.ca_file is not None else True


def check_daemon(machine: Machine) -> list[Finding]:
    """Whether one runs, may be asked, is ours in version, and what it cannot read."""
    try:
        told = machine.daemon()
    except ClientError as error:
        where = f"{error.where}: " if error.where else ""
        return [Finding("daemon", "problem", f"{where}{error.what}", error.cure)]
    if told is None:
        cure = "`gpumon service install`, or `gpumon daemon`; `gpumon tui` starts a private one"
        return [Finding("daemon", "warning", "none runs: nothing is watched now", cure)]
    return [_daemon(told), *_sources(told), *_history(told)]


def _daemon(told: DaemonTold) -> Finding:
    capabilities = told.capabilities
    seen = f"{told.target} answers, version {capabilities.version}"
    if capabilities.simulated:
        return Finding("daemon", "warning", f"{seen}, simulated: none of it is real", "End it, and start a real one")
    if capabilities.version != __version__:
        cure = "Restart it: `systemctl restart gpumon`; or upgrade the older of the two"
        return Finding("daemon", "warning", f"{seen}, and we are {__version__}", cure)
    if capabilities.mode == "private":
        return Finding("daemon", "warning", f"{seen}, private: it notifies nobody", "`gpumon service install`")
    return Finding("daemon", "ok", seen)


def _history(told: DaemonTold) -> list[Finding]:
    """Whether what it reads is kept on disk."""
    kept = told.capabilities.history
    if kept is None:
        return []
    if not kept.ok:
        cure = "Make room there, or see whether the disk fails or is read-only; the last hour is in memory"
        return [Finding("daemon", "problem", f"its history is not written: {clean(kept.problem)}", cure)]
    size = f"its history has {kept.bytes / (1 << 20):.0f} MiB"
    if kept.oldest_ms is not None:
        size += f", {duration(max(0, told.capabilities.now_ms - kept.oldest_ms) / 1000)} back"
    found = [Finding("daemon", "ok", size)]
    if kept.note:
        found.append(Finding("daemon", "warning", clean(kept.note), "Nothing to do: what can be read is read"))
    return found


def _sources(told: DaemonTold) -> list[Finding]:
    found = []
    for source in told.sources:
        name = f"{source.source} {source.server}".strip()
        if source.source == "kernel_log" and source.absent:
            cure = "The daemon's user needs the group systemd-journal; the unit of `gpumon service install` has it"
            found.append(Finding("daemon", "warning", f"it cannot read the kernel's log: {clean(source.reason)}", cure))
        if source.up or source.absent:
            continue
        seen = f"source {name} is down: {clean(source.reason)}"
        if source.age_seconds is not None:
            seen += f", last read {duration(source.age_seconds)} ago"
        found.append(Finding("daemon", "problem", seen, "See the line above on what it reads"))
    up = sum(source.up for source in told.sources)
    if not found and told.sources:
        found.append(Finding("daemon", "ok", f"{count(up, 'source')} read"))
    return found


SOURCES = ("nvml", "host", "kernel_log", "vllm", "engine", "canary", "server_log", "gpumon")
"""The kinds of source that ``?collect[]=`` knows."""
_NEIGHBOURS = (
    (9400, "dcgm-exporter", "DCGM_FI_", "nvml"),
    (9100, "node_exporter", "node_", "host"),
)


def check_ports(machine: Machine) -> list[Finding]:
    """Exporters of the same series, and our own port."""
    found = []
    for port, name, prefix, source in _NEIGHBOURS:
        answer = machine.fetch(f"http://127.0.0.1:{port}/metrics", {}, True)
        if answer.status == 200 and prefix in answer.text:
            seen = f"{name} runs on port {port}: a Prometheus that scrapes both has its series twice"
            others = [one for one in SOURCES if one != source]
            cure = f"Scrape us without them: `params: {{collect[]: [{', '.join(others)}]}}` in its scrape_config"
            found.append(Finding(f"port {port}", "warning", seen, cure))
        elif answer.status or answer.error != "connection refused":
            said = f"HTTP {answer.status}" if answer.status else clean(answer.error)
            seen = f"something answers ({said}), and it is no {name}"
            found.append(Finding(f"port {port}", "ok", seen))
        else:
            found.append(Finding(f"port {port}", "ok", f"no {name} here: our series stand alone"))
    return found + _own_port(machine)


def _own_port(machine: Machine) -> list[Finding]:
    config = machine.setting.config
    listen = config.api.listen if config is not None else ("127.0.0.1", DEFAULT_PORT)
    if listen is None:
        return [Finding("own port", "ok", "no TCP: the unix socket alone")]
    host, port = listen
    scheme, is_open = "http", False
    if config is not None:
        scheme, is_open = ("http" if config.api.tls is None else "https"), config.api.is_open
    elsewhere = is_open and host not in ("0.0.0.0", "::")  # noqa: S104 # nothing is bound here
    if not elsewhere and machine.can_listen(port):
        return [Finding("own port", "ok", f"{port} is free")]
    if is_open and not elsewhere:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    where = f"[{host}]" if ":" in host else host
    answer = machine.fetch(f"{scheme}://{where}:{port}/-/healthy", {}, False)  # nothing is shown to whoever that is
    if answer.status == 200 and answer.text.startswith("gpumon is"):
        return [Finding("own port", "ok", f"{port} is a gpumon daemon's")]
    if elsewhere and answer.error == "connection refused":
        return [Finding("own port", "ok", f"{port} is free on {host}")]
    cure = "End what has it (`ss -ltnp`), or set `api: {listen: 127.0.0.1:PORT}`, or `listen: none`"
    return [Finding("own port", "problem", f"{port} is taken by something else: {_said(answer)}", cure)]


def check_access(machine: Machine) -> list[Finding]:
    """Who may read and change over TCP: tokens in the clear, certificates that end."""
    config = machine.setting.config
    if config is None or config.api.listen is None:
        return []
    found = [Finding("access", seen.state, seen.seen, seen.cure) for seen in look_at_access(config.api)]
    if found:
        return found
    if not config.api.is_open:
        return [Finding("access", "ok", "TCP is for this machine alone")]
    ways = [name for name, there in (("token", config.api.token), ("read_token", config.api.read_token)) if there]
    if config.api.tls is not None and config.api.tls.client_ca_file is not None:
        ways.append("a client's certificate")
    return [Finding("access", "ok", f"{config.api.listen[0]} is read with {', '.join(ways)}, over TLS")]


def _said(answer: Answer) -> str:
    return f"HTTP {answer.status}" if answer.status else clean(answer.error)
