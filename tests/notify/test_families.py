"""gpumon's own series on notifications, each with its number."""

from __future__ import annotations

from monitor.notify.families import FAMILIES, add_to
from monitor.notify.queues import ReceiverStatus
from monitor.samples import ScrapeBuilder, format_labels
from tests.notify.parts import T0


def test_each_number_has_its_series() -> None:
    builder = ScrapeBuilder()
    well = ReceiverStatus("ops", 3, 2, 50, 7, 1, 4, "", T0, None)
    failing = ReceiverStatus("page", 1, 0, 0, 9, 0, 0, "HTTP 500", None, T0 - 90_000)
    add_to(
        builder,
        [well, failing],
        buried=6,
        silences={"active": 2, "pending": 1},
        recording_ok=False,
        corrupt_files=5,
        now_ms=T0,
    )
    scrape = builder.build(T0)
    found = {format_labels(labels): value for labels, value in zip(scrape.shape.series, scrape.values, strict=True)}
    assert found == {
        'gpumon_notifications_sent_total{receiver="ops"}': 50,
        'gpumon_notifications_failed_total{receiver="ops"}': 7,
        'gpumon_notifications_queued{receiver="ops"}': 3,
        'gpumon_notifications_held{receiver="ops"}': 2,
        'gpumon_notifications_failing_seconds{receiver="ops"}': 0,
        'gpumon_notifications_dead_total{receiver="ops"}': 4,
        'gpumon_notifications_sent_total{receiver="page"}': 0,
        'gpumon_notifications_failed_total{receiver="page"}': 9,
        'gpumon_notifications_queued{receiver="page"}': 1,
        'gpumon_notifications_held{receiver="page"}': 0,
        'gpumon_notifications_failing_seconds{receiver="page"}': 90,
        'gpumon_notifications_dead_total{receiver="page"}': 0,
        "gpumon_notifications_dead_total": 6,
        'gpumon_silences{state="active"}': 2,
        'gpumon_silences{state="pending"}': 1,
        "gpumon_state_recorded": 0,
        "gpumon_state_files_corrupt_total": 5,
    }
    assert {labels.partition("{")[0] for labels in found} == {name for name, _, _ in FAMILIES}
