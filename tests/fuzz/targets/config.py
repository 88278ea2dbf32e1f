"""gpumon.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from monitor.api.alertmanager_config import config_text
from monitor.config import loads
from monitor.yaml_reader import ConfigError
from tests.fuzz.target import Broken, Target, text_of
from tests.fuzz.targets.rules import check_problems

_EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def run(data: bytes) -> None:
    """Read it; a good one is told at Alertmanager's status without its secrets."""
    text = text_of(data)
    try:
        config = loads(text, "gpumon.yaml")
    except ConfigError as error:
        check_problems(error, text)
        return
    shown = config_text(config)
    for word in ("hunter2", "s3cret"):
        if word in shown:
            raise Broken("a secret is told at Alertmanager's status")


def seeds() -> Iterable[bytes]:
    """The examples, and a section each."""
    for path in sorted(_EXAMPLES.rglob("gpumon*.yaml")):
        yield path.read_bytes()
    yield b"node: {hostname: n1, instance: 'n1:9519', job: gpumon}\nexternal_labels: {site: north}\n"
    yield b"api:\n  listen: 127.0.0.1:9519\n  token: {file: /etc/x}\n  tls: {cert_file: a, key_file: b}\n"
    yield b"sources:\n  vllm:\n    discover: false\n    servers: [{url: 'http://127.0.0.1:8000', api_key: s3cret}]\n"
    yield b"receivers:\n- name: team\n  apprise: 'json://hunter2@h/x'\n- {name: w, webhook: {url: 'http://h/', bearer_token: s3cret}}\nroute: {receiver: team, group_by: [alertname], routes: [{receiver: w, matchers: ['a=~\"b|c\"']}]}\n"
    yield b"time_intervals:\n- name: n\n  time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}], weekdays: ['monday:friday'], months: ['1:3'], days_of_month: ['-1'], years: ['2026'], location: Europe/Berlin}]\n"
    yield b"inhibit_rules:\n- {source_matchers: [a=b], target_matchers: ['c!=d'], equal: [gpu]}\nheartbeat: [{url: 'https://hc/hunter2'}]\n"
    yield b"history: {retention: 30d, size: 2GiB}\nprobes: {keep: {runs: 100}}\ncanary: {interval: 5m}\nreports: [{schedule: '0 7 * * 1', receiver: team}]\n"
    yield b"evaluation_interval: 5s\nrules: ['a.yaml']\nsources: {nvml: {interval: 1s}, host: false, kernel_log: true}\n"


TARGET = Target(
    what="gpumon.yaml",
    promise="a problem's place is in the file, and it holds nothing a terminal obeys; no secret is shown",
    modules=(
        "monitor.config", "monitor.yaml_reader", "monitor.field_kinds", "monitor.config_api", "monitor.config_parts",
        "monitor.config_routes", "monitor.config_alerting", "monitor.config_vllm", "monitor.config_reports",
        "monitor.schedule", "monitor.api.alertmanager_config",
    ),
    run=run,
    seeds=seeds,
    words=("node:", "api:", "sources:", "vllm:", "servers:", "receivers:", "route:", "apprise: ", "webhook: ", "url: ",
           "time_intervals:", "matchers: ", "group_by: ", "reports:", "schedule: ", "token: ", "listen: ", "history:",
           "retention: ", "file: ", "'0 7 * * 1'", "30d", "2GiB", "{env: X}", "[::1]:9519", "https://"),
    longest=1500,
)  # fmt: skip
