"""docs/configuration.md against the parser: no field is missing there, none is there that is not read, and its examples
are good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitor import config, config_alerting, config_parts, config_routes, config_vllm
from monitor.config import loads
from monitor.notify.inhibition import DEFAULT_INHIBIT_RULES

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"
MODULES = (config, config_alerting, config_parts, config_routes, config_vllm)
SECTIONS = {
    "Top": config.TOP_FIELDS,
    "node": config.NODE_FIELDS,
    "history": config.HISTORY_FIELDS,
    "probes": config.PROBES_FIELDS,
    "api": config.API_FIELDS,
    "sources": config.SOURCES_FIELDS,
    "nvml, kernel_log": config.POLLING_FIELDS,
    "host": config.HOST_FIELDS,
    "vllm": config.VLLM_FIELDS,
    "servers": config_vllm.SERVER_FIELDS,
    "log": config_vllm.LOG_FIELDS,
    "canary": config_vllm.CANARY_FIELDS,
    "targets": config_vllm.TARGET_FIELDS,
    "alerting": config_alerting.ALERTING_FIELDS,
    "alertmanagers": config_alerting.ALERTMANAGER_FIELDS,
    "receivers": config_alerting.RECEIVER_FIELDS,
    "webhook": config_alerting.WEBHOOK_FIELDS,
    "secret": config_parts.SECRET_FIELDS,
    "route": config_routes.ROUTE_FIELDS,
    "inhibit_rules": config_routes.INHIBIT_FIELDS,
    "time_intervals": config_routes.NAMED_INTERVAL_FIELDS,
    "An interval": config_routes.INTERVAL_FIELDS,
    "times": config_routes.TIME_FIELDS,
}


def documented() -> dict[str, list[str]]:
    """Fields by heading, in the order of the text."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in DOCS.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif re.match(r"\| `[a-z0-9_]+` \|", line) and len(re.findall(r"(?<!\\)\|", line)) == 5:
            found.setdefault(heading, []).append(line.split("`")[1])
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_documented(section: str) -> None:
    assert sorted(documented()[section]) == sorted(SECTIONS[section])


def test_no_section_is_forgotten() -> None:
    assert set(documented()) == set(SECTIONS)
    lists = {id(value) for module in MODULES for name, value in vars(module).items() if name.endswith("_FIELDS")}
    # The older names, which are refused.
    assert lists - {id(config_routes._OLD_FIELDS)} == {id(fields) for fields in SECTIONS.values()}
    for module in MODULES:
        # What is read is in one of those lists.
        read = re.findall(r"fields\(([^)\n]*)\)", Path(module.__file__ or "").read_text())
        assert {one for one in read if '"' in one} == set(), module.__name__


def test_links_lead_somewhere() -> None:
    text = DOCS.read_text()
    anchors = {
        re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) - anchors == set()


def test_the_examples_are_good() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        assert loads(example).route is not None


def test_the_inhibit_rules_that_hold_by_themselves_are_there() -> None:
    rows = re.findall(r"^\| `(.*)` \| `(.*)` \| (.*) \|$", DOCS.read_text().partition("gpumon's own:")[2], re.M)
    rules = [
        (source.replace("\\|", "|"), target.replace("\\|", "|"), tuple(re.findall("`(.*?)`", equal)))
        for source, target, equal in rows
    ]
    assert rules == [
        (",".join(map(str, rule.source_matchers)), ",".join(map(str, rule.target_matchers)), rule.equal)
        for rule in DEFAULT_INHIBIT_RULES
    ]


def test_the_defaults_that_it_names() -> None:
    """Each default as the table has it, given to the parser, changes nothing."""
    text = """
api: {socket: /run/gpumon/gpumon.sock, listen: 127.0.0.1:9519}
state_directory: /var/lib/gpumon
history: {enabled: true, retention: 7d, max_size: 2GiB}
probes: {keep: 100, max_size: 2GiB}
node: {job: gpumon}
sources:
  nvml: {enabled: true, interval: 1s, deadline: 2s}
  kernel_log: {enabled: true, interval: 1s, deadline: 2s}
  host: {enabled: true, interval: 2s, deadline: 2s}
  vllm:
    {enabled: true, interval: 1s, deadline: 2s, discover: true,
     targets: {ttft: {p95: 2s, p99: 5s}, itl: {p50: 50ms, p99: 100ms}}}
alerting: {evaluation_interval: 5s, evaluator: local}
"""
    assert loads(text) == loads("")
    receivers = "receivers: [{name: a, apprise: 'json://x'%s}]\n"
    bare = loads(receivers % "")
    said = loads(
        receivers % ", send_resolved: true, rate_limit: 20"
        + "route: {receiver: a, group_by: [alertname], group_wait: 5s, group_interval: 1m, repeat_interval: 4h}"
    )
    assert said == bare
    server = "sources: {vllm: {servers: [{url: 'http://a:1', canary: %s}]}}"
    assert loads(server % "true") == loads(server % "{deadline: 10s, still: 30s}")
