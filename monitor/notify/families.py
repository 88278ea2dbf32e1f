"""gpumon's own series on notifications."""

from __future__ import annotations

from collections.abc import Iterable

from monitor.notify.queues import ReceiverStatus
from monitor.samples import ScrapeBuilder

FAMILIES = (
    ("gpumon_notifications_sent_total", "counter", "Messages that a receiver took."),
    ("gpumon_notifications_failed_total", "counter", "Attempts to notify a receiver that failed."),
    ("gpumon_notifications_queued", "gauge", "Events that are still to be told to a receiver."),
    ("gpumon_notifications_held", "gauge", "Of these, those that wait for a silence, an inhibition or a mute time."),
    ("gpumon_notifications_failing_seconds", "gauge", "For how long each attempt has failed; 0 while it is well."),
    ("gpumon_notifications_dead_total", "counter", "Events that were given up."),
    ("gpumon_silences", "gauge", "Silences by state."),
    ("gpumon_state_recorded", "gauge", "1 while alert state is written to the disk, 0 from a commit that failed."),
    ("gpumon_state_files_corrupt_total", "counter", "Broken state files that were moved aside."),
)
"""Name, kind and help text of each."""


def add_to(
    builder: ScrapeBuilder,
    receivers: Iterable[ReceiverStatus],
    buried: int,
    silences: dict[str, int],
    *,
    recording_ok: bool,
    corrupt_files: int,
    now_ms: int,
) -> None:
    """Add them to a scrape. ``buried`` are the events of receivers that there are no more."""
    sent, failed, queued, held, failing, dead, silenced, recorded, corrupt = (name for name, _, _ in FAMILIES)
    for name, kind, text in FAMILIES:
        builder.family(name, kind, text)
    for receiver in receivers:
        labels = (("receiver", receiver.name),)
        builder.add(sent, receiver.sent, labels)
        builder.add(failed, receiver.failed, labels)
        builder.add(queued, receiver.queued, labels)
        builder.add(held, receiver.held, labels)
        since_ms = receiver.failing_since_ms
        builder.add(failing, 0 if since_ms is None else max(0, now_ms - since_ms) / 1000, labels)
        builder.add(dead, receiver.dead, labels)
    builder.add(dead, buried, (("receiver", ""),))
    for state, number in silences.items():
        builder.add(silenced, number, (("state", state),))
    builder.add(recorded, int(recording_ok))
    builder.add(corrupt, corrupt_files)
