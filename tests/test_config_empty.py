"""A field of gpumon.yaml that holds nothing between its quotes says nothing: it is refused, never passed over. A token,
a certificate or a rule file that somebody believes in has to be there."""

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


@pytest.mark.parametrize("matchers", ["['']", "''", "'{}'", "[' ', '{}']"])
def test_an_inhibit_rule_that_means_every_alert_is_refused(matchers: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(f"inhibit_rules: [{{source_matchers: {matchers}, target_matchers: [a=b]}}]")
    (said,) = caught.value.problems
    assert 'needs "source_matchers": without any, every alert would be meant' in str(said)
