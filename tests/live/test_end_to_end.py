"""The whole way, with nothing simulated but the GPU that this machine has not: a real vLLM in a real preemption storm,
the daemon, a real Prometheus 3 that scrapes it plainly, a real mail server and a webhook.

The shipped rule keeps a critical alert firing for minutes after its cause is gone, as it should. So two daemons watch
the same storm: ``node1`` with the shipped rules, as they are, and ``node2`` with a copy of them in which only
``keep_firing_for`` is shorter, so that its recovery can be waited for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import yaml

from tests.live.receivers import JsonReceiver, MailServer, json_receiver, mail_server
from tests.live.servers import PROJECT, Daemon, Prometheus, QueryApi, Vllm, daemon, prometheus, storm, wait_for

pytestmark = pytest.mark.live

SHIPPED = PROJECT / "alerts.yaml"
KEPT = 10
"""Seconds of ``keep_firing_for`` in the shortened copy."""
OWN_OF_EACH = re.compile(r"up|ALERTS|ALERTS_FOR_STATE|scrape_.*")
"""What Prometheus makes for itself and the daemon never re-exports."""


@dataclass(frozen=True)
class Story:
    """The storm is over: who was there, and what they got. Everything still runs."""

    alert: str
    vllm: Vllm
    shipped: Daemon
    shortened: Daemon
    prometheus: Prometheus
    webhooks: dict[str, JsonReceiver]
    mails: MailServer
    firing_in_prometheus: list[dict[str, Any]]
    firing_at_shipped: list[dict[str, Any]]


def rules() -> list[dict[str, Any]]:
    """Every rule of the shipped file."""
    return [rule for group in yaml.safe_load(SHIPPED.read_text())["groups"] for rule in group["rules"]]


def kv_cache_alert() -> str:
    """The name of the shipped critical alert on a full KV cache."""
    names = [
        rule["alert"]
        for rule in rules()
        if "kv_cache_usage_perc" in rule["expr"]
        and rule.get("labels", {}).get("severity") == "critical"
        and "alert" in rule
    ]
    assert len(names) == 1, f"one critical alert on the KV cache is shipped, not {names}"
    return str(names[0])


@pytest.fixture(scope="module")
def story(vllm: Vllm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Plays the storm, from the first scrape to the recovery."""
    folder = tmp_path_factory.mktemp("story")
    alert = kv_cache_alert()
    copy = folder / "alerts-shortened.yaml"
    text, changed = re.subn(r"(keep_firing_for:) *\S+", rf"\1 {KEPT}s", SHIPPED.read_text())
    assert changed, "the shipped rules keep alerts firing, or this test needs no copy"
    copy.write_text(text)
    with ExitStack() as stack:
        mails = stack.enter_context(mail_server())
        webhooks = {name: stack.enter_context(json_receiver()) for name in ("shipped", "shortened")}
        mail_url = folder / "mail-url"
        mail_url.write_text(f"mailto://127.0.0.1:{mails.port}?from=gpumon@node2.example&to=ops@ops.example\n")

        def settings(*apprise: object, **rules: list[str]) -> dict[str, Any]:
            return {
                # In a storm on two cores vLLM's own answers are slow.
                "sources": {"vllm": {"interval": "1s", "deadline": "10s", "servers": [{"url": vllm.url}]}},
                "alerting": {"evaluation_interval": "1s", **rules},
                "receivers": [{"name": "ops", "apprise": list(apprise)}],
                "route": {"receiver": "ops", "group_wait": "0s", "group_interval": "1s"},
            }

        shipped = stack.enter_context(
            daemon(folder, settings(f"json://127.0.0.1:{webhooks['shipped'].port}/"), name="node1")
        )
        shortened = stack.enter_context(
            daemon(
                folder,
                settings({"env": "OPS_WEBHOOK"}, {"file": str(mail_url)}, rule_files=[str(copy)]),
                name="node2",
                environment={"OPS_WEBHOOK": f"json://127.0.0.1:{webhooks['shortened'].port}/"},
            )
        )
        fleet = stack.enter_context(
            prometheus(folder, {"gpumon": [shipped.instance, shortened.instance]}, rule_files=[SHIPPED])
        )
        for node in (shipped, shortened):
            wait_for("vLLM is scraped", partial(node.query, "vllm:kv_cache_usage_perc"), 60, node.process)
        with storm(vllm):
            # Whoever misses the storm misses the alert: it blows until the last of them has seen it.
            for node in (shipped, shortened):
                wait_for(f"{alert} fires", partial(firing, node, alert), 300, node.process)
            for name, receiver in webhooks.items():
                wait_for(f"the firing reaches {name}'s webhook", partial(receiver.with_title, "[FIRING]", alert), 60)
            wait_for("the firing reaches the mail server", partial(mails.with_subject, "[FIRING]", alert), 60)
            in_prometheus = wait_for(
                f"{alert} fires in Prometheus for both nodes",
                lambda: found if len(found := firing(fleet, alert)) == 2 else None,
                300,
                fleet.process,
            )
            at_shipped = firing(shipped, alert)
        told = partial(webhooks["shortened"].with_title, "[RESOLVED]", alert)
        wait_for("the recovery reaches the webhook", told, 300, shortened.process)
        wait_for("the recovery reaches the mail server", partial(mails.with_subject, "[RESOLVED]", alert), 60)
        yield Story(alert, vllm, shipped, shortened, fleet, webhooks, mails, in_prometheus, at_shipped)


def firing(where: QueryApi, alert: str) -> list[dict[str, Any]]:
    """The firing alerts of this name."""
    return [each for each in where.alerts(alert) if each["state"] == "firing"]


def test_the_storm_was_real(story: Story) -> None:
    preemptions = story.prometheus.query("vllm:num_preemptions_total")
    assert preemptions
    assert all(float(value) > 10 for value in preemptions.values()), preemptions


def test_the_webhook_gets_the_alert_firing_and_then_resolved(story: Story) -> None:
    bodies = story.webhooks["shortened"].with_title(story.alert)
    titles = [body["title"] for body in bodies]
    assert titles[0].startswith("[FIRING] critical"), titles
    assert titles[-1].startswith("[RESOLVED] critical"), titles
    assert "node2" in titles[0], titles
    assert [bodies[0]["type"], bodies[-1]["type"]] == ["failure", "success"]
    assert f"server: node2:{story.vllm.port}" in bodies[0]["message"]


def test_each_transition_is_told_once(story: Story) -> None:
    for receiver in story.webhooks.values():
        events = [event_of(body["message"]) for body in receiver.bodies]
        assert len(events) == len(set(events)), events


def test_the_shipped_rule_is_still_kept_firing(story: Story) -> None:
    """``node1`` has the rules as they are shipped: it told the firing, and a short calm is no recovery for it."""
    titles = [body["title"] for body in story.webhooks["shipped"].with_title(story.alert)]
    assert [title.split()[0] for title in titles] == ["[FIRING]"], titles


def test_the_mail_reads_well(story: Story) -> None:
    mails = story.mails.with_subject(story.alert)
    subjects = [str(mail["Subject"]) for mail in mails]
    assert subjects[0].startswith("[FIRING] critical"), subjects
    assert subjects[-1].startswith("[RESOLVED] critical"), subjects
    plain = mails[0].get_body(("plain",))
    assert plain is not None
    lines = plain.get_content().splitlines()
    assert any(line.startswith("Action: ") for line in lines), lines
    assert any(line.strip() == f"server: node2:{story.vllm.port}" for line in lines), lines


def test_webhook_and_mail_tell_the_same_events(story: Story) -> None:
    mailed = set()
    for mail in story.mails.with_subject(story.alert):
        plain = mail.get_body(("plain",))
        assert plain is not None
        mailed.add(event_of(plain.get_content()))
    assert mailed == {event_of(body["message"]) for body in story.webhooks["shortened"].with_title(story.alert)}


def event_of(message: str) -> str:
    """The event's id, the message's last line."""
    found = re.search(r"^Event: (\S+)\s*\Z", message, re.MULTILINE)
    assert found is not None, message
    return found[1]


def test_prometheus_fires_the_same_alert_with_the_same_labels(story: Story) -> None:
    ours = [each["labels"] for each in story.firing_at_shipped]
    theirs = [
        each["labels"] for each in story.firing_in_prometheus if each["labels"]["instance"] == story.shipped.instance
    ]
    assert ours == theirs
    ours_text = {name: text for each in story.firing_at_shipped for name, text in each["annotations"].items()}
    assert set(ours_text) >= {"summary", "description", "action"}


def excluded(labels: tuple[tuple[str, str], ...]) -> bool:
    """Series that each side makes for itself: they are not re-exported, on purpose."""
    name = dict(labels)["__name__"]
    return bool(OWN_OF_EACH.fullmatch(name)) or name in {rule.get("record") for rule in rules()}


def test_a_plain_scrape_gives_prometheus_the_series_of_our_store(story: Story) -> None:
    node = story.shipped
    everything = f'{{job="gpumon", instance="{node.instance}"}}'

    def differences() -> list[str]:
        now = time.time() - 2  # both have scraped what was there then
        ours = {labels for labels in node.query(everything, at=now) if not excluded(labels)}
        theirs = {labels for labels in story.prometheus.query(everything, at=now) if not excluded(labels)}
        assert len(ours) > 400
        return [
            f"only {who}: {dict(labels)}"
            for who, some in (("we", ours - theirs), ("they", theirs - ours))
            for labels in sorted(some)
        ]

    found: list[str] = []

    def none_left() -> bool:
        found[:] = differences()
        return not found

    try:
        wait_for("the same series at both", none_left, 30)
    except Exception as error:
        raise AssertionError("\n".join(found[:40])) from error


AT_REST = [
    '{__name__=~"vllm:.+"}',
    '{__name__=~"http_.+"}',
    '{__name__=~"node_(memory_MemTotal_bytes|boot_time_seconds|filesystem_size_bytes)"}',
    "sum by (instance, server) (vllm:generation_tokens_total)",
    "histogram_quantile(0.95, sum by (instance, server, le) (vllm:time_to_first_token_seconds_bucket))",
    "histogram_quantile(0.5, vllm:e2e_request_latency_seconds_bucket)",
    "vllm:time_to_first_token_seconds_sum / vllm:time_to_first_token_seconds_count",
    "vllm:prefix_cache_hits_total / vllm:prefix_cache_queries_total < 0.5",
    "vllm:num_preemptions_total > 5 and on (instance, server) vllm:num_requests_running == 0",
    "increase(vllm:num_preemptions_total[1m])",
    "topk by (instance) (1, vllm:request_success_total)",
    "count by (instance, finished_reason) (vllm:request_success_total)",
    "vllm:kv_cache_usage_perc unless on (instance, server) vllm:num_requests_waiting > 0",
    'label_replace(vllm:num_requests_running, "host", "$1", "server", "(.*):.*")',
]


@pytest.fixture(scope="module")
def at_rest(story: Story) -> float:
    """A moment when vLLM had stood still for over a minute, epoch seconds."""

    def still() -> bool:
        moved = story.prometheus.query("increase(vllm:iteration_tokens_total_count[70s])")
        return bool(moved) and all(float(value) == 0 for value in moved.values())

    wait_for("vLLM is at rest", still, 180)
    return time.time() - 2


@pytest.mark.parametrize("expression", AT_REST)
def test_the_same_query_gives_the_same_labels_and_values(story: Story, at_rest: float, expression: str) -> None:
    """Both are asked for the same moment of a server at rest: not a digit may differ."""
    node = story.shipped
    ours = node.query(expression, at=at_rest)
    theirs = {
        labels: value
        for labels, value in story.prometheus.query(expression, at=at_rest).items()
        if dict(labels)["instance"] == node.instance
    }
    assert ours
    assert ours == theirs


def test_the_same_range_query_gives_the_same_points(story: Story, at_rest: float) -> None:
    node = story.shipped
    asked = {
        "query": f'vllm:generation_tokens_total{{instance="{node.instance}"}}',
        "start": f"{at_rest - 30:.3f}",
        "end": f"{at_rest:.3f}",
        "step": "5",
    }
    assert node.api("query_range", **asked) == story.prometheus.api("query_range", **asked)
