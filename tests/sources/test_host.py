"""The machine's readings: node_exporter's names and units, against /proc and psutil; dead mounts."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import psutil
import pytest

from monitor.samples import Scrape, format_labels
from monitor.sources.host import MAX_NETWORKS, MODES, HostSource
from monitor.sources.mounts import Mount, parse_mounts
from monitor.sources.source import SourceDown

STAT = (
    "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 200 300 400 500 600 700 800 90 0\ncpu3 1 2 3 4 5 6 7 8 0 0\nbtime 1700000000\n"
)
MEMINFO = (
    "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 700 kB\nBuffers: 20 kB\nCached: 300 kB\n"
    "SwapTotal: 50 kB\nSwapFree: 40 kB\nHugePages_Total: 0\n"
)
DISKSTATS = (
    " 259 0 nvme0n1 5 0 80 1 7 0 160 1 0 2500 1\n 259 1 nvme0n1p1 5 0 80 1 7 0 160 1 0 2500 1\n"
    " 7 0 loop0 1 0 8 0 0 0 0 0 0 4 0\n 8 0 sda 1 0 2 0 0 0 4 0 0 10 0\n 8 1 sda1 1 0 2 0 0 0 4 0 0 10 0\n"
)
NETDEV = (
    "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n"
    "    lo: 111 1 0 0 0 0 0 0 222 1 0 0 0 0 0 0\n  eth0:333 1 0 0 0 0 0 0 444 1 0 0 0 0 0 0\n"
)
MOUNTS = (
    "proc /proc proc rw 0 0\noverlay / overlay rw 0 0\n/dev/a / ext4 rw 0 0\nnfs:/x /data/with\\040blank nfs4 rw 0 0\n"
    "tmpfs /run tmpfs rw 0 0\n/dev/b /var/lib/docker/overlay2/q ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"
)


def statvfs_of(blocks: int) -> os.statvfs_result:
    # f_bsize is given apart from f_frsize, the unit of the counts: confusing them must show.
    return os.statvfs_result((1 << 20, 4096, blocks, blocks // 2, blocks // 4, 0, 0, 0, 0, 255))


def make_proc(root: Path, **changed: str | None) -> Path:
    files: dict[str, str | None] = {
        "stat": STAT,
        "loadavg": "0.50 1.25 2.00 1/200 4242\n",
        "meminfo": MEMINFO,
        "diskstats": DISKSTATS,
        "net/dev": NETDEV,
        "1/mounts": MOUNTS,
    }
    for name, text in {**files, **changed}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
    return root


def readings(scrape: Scrape) -> dict[str, float]:
    found = {format_labels(labels): value for labels, value in zip(scrape.shape.series, scrape.values, strict=True)}
    assert len(found) == len(scrape.values), "a series stands twice in one scrape"
    return found


def poll(source: HostSource, now_ms: int = 1_700_000_123_500) -> dict[str, float]:
    return readings(asyncio.run(source.poll(now_ms)))


def test_every_reading_has_node_exporters_name_labels_and_unit(tmp_path: Path) -> None:
    got = poll(HostSource(proc=make_proc(tmp_path), statvfs=lambda path: statvfs_of(len(path) * 100)))
    tick = os.sysconf("SC_CLK_TCK")
    root, data, run = (
        f'{{device="{d}",fstype="{t}",mountpoint="{m}"}}'
        for d, t, m in (("/dev/a", "ext4", "/"), ("nfs:/x", "nfs4", "/data/with blank"), ("tmpfs", "tmpfs", "/run"))
    )
    wanted = {f'node_cpu_seconds_total{{cpu="0",mode="{mode}"}}': 100 * (i + 1) / tick for i, mode in enumerate(MODES)}
    wanted |= {f'node_cpu_seconds_total{{cpu="3",mode="{mode}"}}': (i + 1) / tick for i, mode in enumerate(MODES)}
    wanted |= {"node_load1": 0.5, "node_load5": 1.25, "node_load15": 2.0}
    wanted |= {
        "node_memory_MemTotal_bytes": 1024000.0,
        "node_memory_MemAvailable_bytes": 716800.0,
        "node_memory_MemFree_bytes": 102400.0,
        "node_memory_Buffers_bytes": 20480.0,
        "node_memory_Cached_bytes": 307200.0,
        "node_memory_SwapTotal_bytes": 51200.0,
        "node_memory_SwapFree_bytes": 40960.0,
    }
    for labels, blocks in ((root, 100), (data, 1600), (run, 400)):
        wanted |= {
            f"node_filesystem_size_bytes{labels}": blocks * 4096.0,
            f"node_filesystem_free_bytes{labels}": blocks * 2048.0,
            f"node_filesystem_avail_bytes{labels}": blocks * 1024.0,
            f"node_filesystem_device_error{labels}": 0.0,
        }
    for device, read, written, busy in (("nvme0n1", 80, 160, 2.5), ("sda", 2, 4, 0.01)):
        wanted |= {
            f'node_disk_read_bytes_total{{device="{device}"}}': read * 512.0,
            f'node_disk_written_bytes_total{{device="{device}"}}': written * 512.0,
            f'node_disk_io_time_seconds_total{{device="{device}"}}': busy,
        }
    for device, received, sent in (("lo", 111.0, 222.0), ("eth0", 333.0, 444.0)):
        wanted |= {
            f'node_network_receive_bytes_total{{device="{device}"}}': received,
            f'node_network_transmit_bytes_total{{device="{device}"}}': sent,
        }
    wanted |= {"node_boot_time_seconds": 1.7e9, "node_time_seconds": 1_700_000_123.5}
    assert got == wanted


def test_families_say_type_and_help(tmp_path: Path) -> None:
    scrape = asyncio.run(HostSource(proc=make_proc(tmp_path), statvfs=lambda _: statvfs_of(1)).poll(1))
    for labels in scrape.shape.series:
        name = dict(labels)["__name__"]
        family = scrape.shape.families[name]
        assert family.help
        assert family.kind == ("counter" if name.endswith("_total") else "gauge")


def test_what_a_machine_does_not_have_is_absent(tmp_path: Path) -> None:
    proc = make_proc(
        tmp_path,
        meminfo="MemTotal: 1000 kB\nMemFree: 100 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        diskstats=None,
        loadavg=None,
        **{"net/dev": None, "1/mounts": None},
    )
    got = poll(HostSource(proc=proc))
    assert [name for name in got if not name.startswith("node_cpu")] == [
        "node_boot_time_seconds",
        "node_memory_MemTotal_bytes",
        "node_memory_MemFree_bytes",
        "node_time_seconds",
    ]


def test_a_machine_without_proc_is_down_and_says_what_it_read(tmp_path: Path) -> None:
    with pytest.raises(SourceDown, match=f"cannot read {tmp_path}/stat"):
        asyncio.run(HostSource(proc=tmp_path).poll(1))


def test_own_mount_table_where_process_1_is_hidden(tmp_path: Path) -> None:
    proc = make_proc(tmp_path, **{"1/mounts": None, "self/mounts": "/dev/c /srv xfs rw 0 0\n"})
    got = poll(HostSource(proc=proc, statvfs=lambda _: statvfs_of(10)))
    assert got['node_filesystem_size_bytes{device="/dev/c",fstype="xfs",mountpoint="/srv"}'] == 40960


def test_series_keep_their_shape_between_polls(tmp_path: Path) -> None:
    source = HostSource(proc=make_proc(tmp_path), statvfs=lambda _: statvfs_of(1))
    assert asyncio.run(source.poll(1)).shape is asyncio.run(source.poll(2)).shape


def test_a_cpu_counter_does_not_fall_back_a_little_but_starts_anew_after_a_hotplug(tmp_path: Path) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    source = HostSource(proc=make_proc(tmp_path, stat=f"cpu0 {900 * tick} 0 0 {500 * tick} 7 0 0 0\n"))
    idle, user = 'node_cpu_seconds_total{cpu="0",mode="idle"}', 'node_cpu_seconds_total{cpu="0",mode="user"}'
    poll(source)
    make_proc(tmp_path, stat=f"cpu0 {901 * tick} 0 0 {499 * tick} 7 0 0 0\n")
    got = poll(source)
    assert (got[idle], got[user]) == (500, 901)
    make_proc(tmp_path, stat=f"cpu0 {2 * tick} 0 0 {3 * tick} 0 0 0 0\n")
    got = poll(source)
    assert (got[idle], got[user]) == (3, 2)


def test_too_many_devices_are_cut_and_said_and_real_ones_stay(tmp_path: Path) -> None:
    links = "".join(f"veth{i}: 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0\n" for i in range(MAX_NETWORKS))
    proc = make_proc(tmp_path, **{"net/dev": links + "ib0: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n"})
    scrape = asyncio.run(HostSource(proc=proc, statvfs=lambda _: statvfs_of(1)).poll(1))
    got = readings(scrape)
    assert sum(name.startswith("node_network_receive") for name in got) == MAX_NETWORKS
    assert got['node_network_receive_bytes_total{device="ib0"}'] == 5
    assert scrape.facts["left_out"] == "1 network devices"


def test_a_mount_that_fails_has_an_error_and_no_values(tmp_path: Path) -> None:
    def statvfs(path: str) -> os.statvfs_result:
        if path == "/run":
            raise PermissionError(13, "Permission denied")
        return statvfs_of(1)

    scrape = asyncio.run(HostSource(proc=make_proc(tmp_path), statvfs=statvfs).poll(1))
    got = {name: value for name, value in readings(scrape).items() if 'mountpoint="/run"' in name}
    assert got == {'node_filesystem_device_error{device="tmpfs",fstype="tmpfs",mountpoint="/run"}': 1}
    assert scrape.facts["filesystem_errors"] == "/run: Permission denied"


async def settles_to(threads: int) -> bool:
    """Whether so many threads are left, once those that are ending have ended."""
    for _ in range(3000):
        if threading.active_count() == threads:
            return True
        await asyncio.sleep(0.01)
    return False


def test_hung_mounts_are_said_within_the_deadline_and_hold_one_thread_each(tmp_path: Path) -> None:
    release = threading.Event()
    asked: list[str] = []

    def statvfs(path: str) -> os.statvfs_result:
        asked.append(path)
        if path.startswith("/dead"):
            assert release.wait(60)
        return statvfs_of(10)

    mounts = "n:/1 /dead1 nfs4 rw 0 0\n/dev/a / ext4 rw 0 0\nn:/2 /dead2 nfs4 rw 0 0\n/dev/b /srv ext4 rw 0 0\n"
    source = HostSource(proc=make_proc(tmp_path, **{"1/mounts": mounts}), statvfs=statvfs, deadline=1.0)
    errors = {
        path: f'node_filesystem_device_error{{device="{device}",fstype="{fstype}",mountpoint="{path}"}}'
        for device, fstype, path in (
            ("n:/1", "nfs4", "/dead1"),
            ("/dev/a", "ext4", "/"),
            ("n:/2", "nfs4", "/dead2"),
            ("/dev/b", "ext4", "/srv"),
        )
    }
    threads = threading.active_count()

    async def story() -> None:
        try:
            for _ in range(3):
                # The poll ends by its own deadline: not ended from here, and not late.
                scrape = await asyncio.wait_for(source.poll(1), source.deadline)
                got = readings(scrape)
                assert {path: got[name] for path, name in errors.items()} == {
                    "/dead1": 1,
                    "/": 0,
                    "/dead2": 1,
                    "/srv": 0,
                }
                assert not any("size_bytes" in name and "/dead" in name for name in got)
                assert scrape.facts["filesystem_errors"] == "/dead1: no answer; /dead2: no answer"
                assert asked.count("/dead1") == asked.count("/dead2") == 1
                assert await settles_to(threads + 2)
        finally:
            release.set()
        assert await settles_to(threads)
        got = readings(await source.poll(2))
        assert [got[name] for name in errors.values()] == [0, 0, 0, 0]

    asyncio.run(story())


def test_mount_table_leaves_out_what_holds_no_data() -> None:
    assert parse_mounts(MOUNTS) == [
        Mount("/dev/a", "/", "ext4"),
        Mount("nfs:/x", "/data/with blank", "nfs4"),
        Mount("tmpfs", "/run", "tmpfs"),
    ]


def test_this_machine_as_psutil_sees_it() -> None:
    before = psutil.cpu_times(percpu=True)
    got = poll(HostSource())
    after = psutil.cpu_times(percpu=True)
    for mode in ("user", "system", "idle"):
        now = sum(value for name, value in got.items() if name.startswith("node_cpu") and f'mode="{mode}"' in name)
        assert sum(getattr(t, mode) for t in before) - 0.1 <= now <= sum(getattr(t, mode) for t in after) + 0.1
    assert got["node_memory_MemTotal_bytes"] == psutil.virtual_memory().total
    assert got["node_boot_time_seconds"] == pytest.approx(psutil.boot_time(), abs=2)
    interfaces = {name for name in psutil.net_io_counters(pernic=True) if "veth" not in name}
    assert {f'node_network_receive_bytes_total{{device="{name}"}}' for name in interfaces} <= got.keys()
    for name, value in got.items():
        if name.startswith("node_filesystem_size_bytes") and 'mountpoint="/"' in name:
            assert value == psutil.disk_usage("/").total
