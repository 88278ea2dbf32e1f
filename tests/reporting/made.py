"""A report with something in each of its parts, and names that would be markup."""

from __future__ import annotations

from monitor.client.wire import EventRow
from monitor.probes.schema import RunRow
from monitor.reporting.asked import Asked
from monitor.reporting.make import report
from monitor.reporting.price import parse
from monitor.reporting.schema import Report
from tests.reporting.story import PERIOD, answers, line, row
from tests.reporting.test_incidents import change

EVIL = "<script>alert(1)</script>|*x*\x1b[31m"
S = PERIOD.start_ms


def made(*, remarks: tuple[str, ...] = ()) -> Report:
    """It."""
    labels = {"instance": "n1", "server": EVIL, "model_name": "m"}
    instants = {
        "util_sum": [row(4800, instance="n1", gpu="0")],
        "util_n": [row(60, instance="n1", gpu="0")],
        "gpu_model": [row(1, instance="n1", gpu="0", modelName="H200")],
        "energy": [row(1.8e9, instance="n1", gpu="0")],
        "generation": [row(3000, **labels)],
        "prompt": [row(9000, **labels)],
        "finished": [row(100, **labels, finished_reason="stop")],
        "xid": [row(2, instance="n1", gpu="0", code="79")],
        "disk_size": [row(1000, instance="n1", mountpoint="/")],
        **{
            id: [row(count, **labels, le=le) for le, count in (("0.1", 50), ("0.5", 90), ("1", 100), ("+Inf", 100))]
            for id in ("ttft", "itl", "e2e")
        },
    }
    known = answers(
        instants=instants,
        before={**instants, "generation": [row(2000, **labels)]},
        ranges={
            "cover_gpus": [line({"instance": "n1"}, *range(1, 8), value=1)],
            "util_h": [line({"instance": "n1"}, 1, 2, 3, 6, 7, value=160)],
            "util_n_h": [line({"instance": "n1"}, 1, 2, 3, 6, 7, value=2)],
            "disk_free_h": [line({"instance": "n1", "mountpoint": "/"}, *range(1, 11), value=500)],
        },
        before_ranges={
            "cover_gpus": [
                line({"instance": "n1"}, *range(-9, 1), value=1),
            ]
        },
        transitions=(
            change(2, "KvCacheFull", "firing", severity="critical", server=EVIL),
            change(4, "KvCacheFull", "inactive", severity="critical", server=EVIL),
        ),
        events=(EventRow(S + 60_000, "xid", "critical", f"XID 79 {EVIL}"),),
        runs=(RunRow("1", EVIL, "latency", "n1:8000", "m", "done", S + 60_000),),
    )
    return report(Asked(PERIOD, (parse("0.30 EUR/kWh"),), "morning", "UTC", remarks), known)


def empty() -> Report:
    """One of a time of which nothing is known."""
    return report(Asked(PERIOD, zone="UTC"), answers())
