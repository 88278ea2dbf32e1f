"""A field of gpumon.yaml that holds nothing between its quotes says nothing: it is refused, never passed over. A token,
a certificate or a rule file that somebody believes in has to be there. Nor is a line break part of a name."""

from __future__ import annotations

import pytest

from monitor.config import ConfigError, loads


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("api: {token: {env: ''}}", "1:20"),
        ("api: {token: {file: ''}}", "1:21"),
        ("api: {tls: {cert_file: '', key_file: k}}", "1:24"),
        ("api: {tls: {cert_file: c, key_file: k, client_ca_file: ''}}", "1:56"),
        ("api: {socket: ''}", "1:15"),
        ("state_directory: ''", "1:18"),
        ("heartbeat: {env: ''}", "1:18"),
        ("receivers: [{name: a, apprise: {env: ''}}]", "1:38"),
        ("receivers: [{name: a, webhook: {url: {env: ''}}}]", "1:44"),
        ("receivers: [{name: a, webhook: {url: http://x, ca_file: ''}}]", "1:57"),
        ("alerting: {rule_files: ['']}", "1:25"),
        ("sources: {host: {model_caches: ['']}}", "1:33"),
        ("sources: {host: {rootfs: ''}}", "1:26"),
        ("sources: {vllm: {servers: [{url: 'http://a:1', log: {file: ''}}]}}", "1:60"),
        ("sources: {vllm: {servers: [{url: 'http://a:1', log: {unit: ''}}]}}", "1:60"),
    ],
)
def test_what_is_empty_is_refused(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert f"gpumon.yaml:{place}: expected a " in str(caught.value)
    assert "found nothing between the quotes" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        r'receivers: [{name: "a\n", apprise: "json://x"}]',
        r'receivers: [{name: a, webhook: {url: http://x, headers: {"X\n": y}}}]',
        r'alerting: {external_labels: {"a\n": b}}',
        r'sources: {vllm: {servers: [{url: "http://a:1", gpus: ["0\n"]}]}}',
        r'time_intervals: [{name: a, time_intervals: [{times: [{start_time: "09:00\n", end_time: "10:00"}]}]}]',
        r'reports: [{name: "a\n", schedule: daily 08:00, receiver: a}]',
    ],
)
def test_a_line_break_at_the_end_of_a_name_is_refused(text: str) -> None:
    others = "" if text.startswith("receivers") else '\nreceivers: [{name: a, apprise: "json://x"}]'
    loads(text.replace(r"\n", "") + others)
    with pytest.raises(ConfigError) as caught:
        loads(text + others)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("text", ["alerting: {rule_files: []}", "alerting:\n  rule_files:\n"])
def test_no_rule_file_is_neither_the_shipped_rules_nor_none(text: str) -> None:
    with pytest.raises(ConfigError, match="leave rule_files out for the shipped rules, or name a file with `groups"):
        loads(text)


@pytest.mark.parametrize("matchers", ["['']", "''", "'{}'", "[' ', '{}']"])
def test_an_inhibit_rule_that_means_every_alert_is_refused(matchers: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(f"inhibit_rules: [{{source_matchers: {matchers}, target_matchers: [a=b]}}]")
    (said,) = caught.value.problems
    assert 'needs "source_matchers": without any, every alert would be meant' in str(said)
