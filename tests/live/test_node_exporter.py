"""The host's readings beside those of the real node_exporter, on this machine and on a made-up /proc and /sys.

What both give must have the same name and labels; at rest the same value. Neither is asked at the same moment, so that
a counter must lie between two readings of node_exporter's, and a gauge near them.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.samples import NAME, Labels, Scrape, label, make_labels
from monitor.sources.host import HostSource
from tests.live import install_prometheus
from tests.live.servers import free_port, get, running

pytestmark = pytest.mark.live

# What another program's work changes within a second, and by how much at most.
LOOSE = {
    "node_load1": 2.0,
    "node_load5": 1.0,
    "node_load15": 1.0,
    "node_procs_running": 500,
    "node_procs_blocked": 100,
    "node_filefd_allocated": 5_000,
    "node_time_seconds": 60,
    "node_timex_offset_seconds": 0.01,
    "node_timex_maxerror_seconds": 1.0,
    "node_timex_estimated_error_seconds": 1.0,
}
# Ours has no series where node_exporter says 0 or nonsense: no swap, the speed of a link that has none.
NOT_OURS = re.compile(r"^node_memory_Swap(Total|Free|Cached)_bytes$|^node_network_speed_bytes$")
# node_exporter leaves these mount points out by default; models and scratch lie there.
MOUNT_POINTS = r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"


def binary() -> Path:
    """``prometheus-node-exporter`` or ``node_exporter``, beside Prometheus or on the PATH."""
    for name in ("prometheus-node-exporter", "node_exporter"):
        beside = install_prometheus.prometheus_bin() / name
        if beside.exists():
            return beside
        if found := shutil.which(name):
            return Path(found)
    raise AssertionError("node_exporter is neither beside Prometheus nor on the PATH: install Debian's package")


@contextmanager
def node_exporter(folder: Path, *arguments: str) -> Iterator[str]:
    """The real one, on a free port: its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [binary(), f"--web.listen-address=127.0.0.1:{port}", "--log.level=error", *arguments]
    with running("node_exporter", command, folder, lambda: get(url).status_code == 200):
        yield url


def theirs(url: str) -> tuple[dict[Labels, float], dict[str, str]]:
    """Its series without the labels that are empty, and the type of each family."""
    families = list(text_string_to_metric_families(get(f"{url}/metrics").text))
    values = {make_labels(s.name, s.labels): s.value for family in families for s in family.samples}
    kinds = {s.name: {"unknown": "untyped"}.get(f.type, f.type) for f in families for s in f.samples}
    return {labels: value for labels, value in values.items() if label(labels, NAME).startswith("node_")}, kinds


def ours(source: HostSource) -> Scrape:
    return asyncio.run(source.poll(round(time.time() * 1000)))


def test_the_same_names_labels_and_values_on_this_machine(tmp_path: Path) -> None:
    source = HostSource(model_caches=())
    with node_exporter(tmp_path, f"--collector.filesystem.mount-points-exclude={MOUNT_POINTS}") as url:
        before, kinds = theirs(url)
        scrape = ours(source)
        after, _ = theirs(url)
    got = dict(zip(scrape.shape.series, scrape.values, strict=True))
    names = {label(labels, NAME) for labels in got}
    assert len(names) > 60
    assert sorted(labels for labels in got if labels not in before | after) == []
    missing = [s for s in before if s in after and label(s, NAME) in names and s not in got]
    assert [s for s in missing if not NOT_OURS.match(label(s, NAME))] == []
    assert {name: scrape.shape.families[name].kind for name in names} == {name: kinds[name] for name in names}
    helps = {name: scrape.shape.families[name].help for name in names}
    assert all(helps.values())
    wrong = []
    for labels, value in got.items():
        name = label(labels, NAME)
        low, high = sorted((before[labels], after[labels])) if labels in before and labels in after else (value, value)
        slack = LOOSE.get(name, 0.0)
        if name.startswith(("node_memory_", "node_filesystem_")) and kinds[name] == "gauge":
            slack = max(0.1 * abs(high), 512 << 20)  # other programs work on
        if name == "node_cpu_seconds_total":
            slack = 0.011  # a tick, as idle may fall back
        # Their collectors run side by side, so that one may be older than the whole answer.
        if not low - slack - 1e-6 <= value <= high + slack + 1e-6:
            wrong.append((labels, low, value, high))
    assert wrong == []


def test_the_same_readings_of_a_made_up_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    port = "class/infiniband/mlx5_0/ports/1"
    files = {
        proc / "stat": "cpu  1 2 3 4 5 6 7 8 9 0\ncpu0 100 200 300 400 500 600 700 800 0 0\nintr 50 1\nctxt 60\n"
        "btime 1700000000\nprocesses 70\nprocs_running 3\nprocs_blocked 1\nsoftirq 1 1 1 1 1 1 1 1 1 1 1\n",
        proc / "loadavg": "0.50 1.25 2.00 1/200 4242",
        proc / "meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 700 kB\nSwapTotal: 50 kB\n"
        "SwapFree: 40 kB\nDirty: 3 kB\nHugePages_Total: 8\nHugepagesize: 2048 kB",
        proc / "diskstats": " 259 0 nvme0n1 5 6 80 1500 7 8 160 250 0 2500 1 0 0 0 0 0 0\n"
        " 259 1 nvme0n1p1 5 0 80 1 7 0 160 1 0 2500 1 0 0 0 0 0 0\n",
        proc / "vmstat": "nr_free_pages 9\npswpin 11\npswpout 12\npgmajfault 13\noom_kill 2",
        proc / "pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=7",
        proc / "pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=500000",
        proc / "pressure/io": "some avg10=0.00 avg60=0.00 avg300=0.00 total=4000000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=3000000",
        proc / "sys/fs/file-nr": "951\t0\t2466170",
        sys / "class/infiniband/mlx5_0/board_id": "MT_0000000838",
        sys / "class/infiniband/mlx5_0/fw_ver": "28.39.1002",
        sys / "class/infiniband/mlx5_0/hca_type": "MT4129",
        sys / port / "state": "4: ACTIVE",
        sys / port / "phys_state": "5: LinkUp",
        sys / port / "link_layer": "InfiniBand",
        sys / port / "hw_counters/out_of_sequence": "0",
        sys / port / "rate": "400 Gb/sec (4X NDR)",
        **{
            sys / port / "counters" / name: str(100 + k)
            for k, name in enumerate(
                (
                    *("port_rcv_data", "port_xmit_data", "port_rcv_packets", "port_xmit_packets", "port_rcv_errors"),
                    *("port_xmit_discards", "port_xmit_wait", "symbol_error", "link_downed", "link_error_recovery"),
                )
            )
        },
        sys / "devices/system/cpu/online": "0",  # node_exporter looks for its CPUs here
        sys / "devices/system/cpu/isolated": "",
        sys / "devices/system/cpu/cpu0/online": "1",
        sys / "devices/system/edac/mc/mc0/ce_count": "7",
        sys / "devices/system/edac/mc/mc0/ue_count": "1",
        sys / "devices/system/edac/mc/mc0/ce_noinfo_count": "0",
        sys / "devices/system/edac/mc/mc0/ue_noinfo_count": "0",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
    scrape = ours(HostSource(sys=sys, model_caches=()))
    collectors = ("stat", "loadavg", "meminfo", "diskstats", "vmstat", "pressure", "filefd", "infiniband", "edac")
    with node_exporter(
        tmp_path,
        f"--path.procfs={proc}",
        f"--path.sysfs={sys}",
        "--collector.disable-defaults",
        "--collector.cpu",
        *(f"--collector.{name}" for name in collectors),
    ) as url:
        wanted, kinds = theirs(url)
    elsewhere = ("node_time_seconds", "node_timex", "node_uname")  # from the kernel itself, not from files
    got = {
        labels: value
        for labels, value in zip(scrape.shape.series, scrape.values, strict=True)
        if not label(labels, NAME).startswith(elsewhere)
    }
    names = {label(labels, NAME) for labels in got}
    assert got == {labels: value for labels, value in wanted.items() if label(labels, NAME) in names}
    assert {name: scrape.shape.families[name].kind for name in names} == {name: kinds[name] for name in names}
    assert len([name for name in names if name.startswith("node_infiniband")]) == 14
