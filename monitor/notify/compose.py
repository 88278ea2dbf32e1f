"""From a batch of events to the notice that is written down as a message. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from monitor.notify.groups import Batch
from monitor.notify.notice import Entry, Graph, Notice
from monitor.notify.records import Kind, event_id
from monitor.records import replace
from monitor.rules.transition import Alert, Transition
from monitor.samples import Labels, labels_of


def notice_of(
    batch: Batch,
    current: Mapping[str, Alert],
    receiver: str,
    node: str,
    now_ms: int,
    *,
    external_url: str,
    unrecorded: bool,
    graphs: tuple[Graph, ...] = (),
) -> Notice:
    """What a batch tells. Alerts that fire are told as they are now, in ``current``, and not as they began."""
    news = []
    for delivery in batch.deliveries:
        change = delivery.transition
        alert = current.get(delivery.key)
        if delivery.kind == "firing" and alert is not None and alert.state == "firing":
            change = replace(change, alert=alert)
        news.append(Entry(change, delivery.kind))
    known = [Entry(firing_of(current[key]), "firing", new=False) for key in batch.known if key in current]
    entries = [*(e for e in news if e.kind == "firing"), *known, *(e for e in news if e.kind == "resolved")]
    group = batch.groups[0]
    whole = len(batch.groups) == 1
    return Notice(
        ident=ident_of([entry.event_id for entry in (news or known)], batch.reminder),
        receiver=receiver,
        group_key=group.key if whole else "{}:{}",
        group_labels=group.place.labels if whole else (),
        entries=tuple(entries),
        node=node,
        now_ms=now_ms,
        external_url=external_url,
        unrecorded=unrecorded,
        reminder=batch.reminder,
        unreachable_since_ms=batch.unreachable_since_ms,
        graphs=graphs,
    )


def firing_of(alert: Alert) -> Transition:
    """The change by which an alert that fires began to."""
    at_ms = alert.active_at_ms if alert.fired_at_ms is None else alert.fired_at_ms
    return Transition(alert, "pending", "firing", at_ms)


def ident_of(event_ids: list[str], reminder: int) -> str:
    """The id of a message: of its one event, or made of those of all. A reminder has one of its own."""
    if len(event_ids) == 1 and not reminder:
        return event_ids[0]
    text = "\0".join([*sorted(event_ids), str(reminder)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def trial_notice(
    receiver: str, node: str, instance: str, now_ms: int, external_url: str, kind: Kind = "firing"
) -> Notice:
    """The message of `gpumon notify test`; or, as ``resolved``, the one that closes what that opened."""
    labels: Labels = labels_of({"alertname": "GpumonTest", "severity": "warning", "instance": instance})
    alert = Alert(
        key="0" * 16,
        group="test",
        rule="GpumonTest",
        state="firing",
        labels=labels,
        annotations={
            "summary": "This is a test of notifications",
            "description": "Somebody asked gpumon to send it. Nothing is wrong.",
            "action": "Nothing to do. What you see here is how an alert will look.",
        },
        value=1.0,
        active_at_ms=now_ms,
        fired_at_ms=now_ms,
        keep_firing_since_ms=None,
    )
    change = Transition(alert, "pending", "firing", now_ms)
    if kind == "resolved":
        change = Transition(alert, "firing", "inactive", now_ms)
    key = '{}:{alertname="GpumonTest"}'
    group: Labels = (("alertname", "GpumonTest"),)
    entries = (Entry(change, kind),)
    return Notice(event_id(change), receiver, key, group, entries, node, now_ms, external_url)
