"""The machine's readings: node_exporter's names and units, against /proc and psutil; dead mounts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from monitor import threads
from monitor.samples import Scrape, format_labels
from monitor.sources.host import MODES, HostSource, default_model_caches
from monitor.sources.host_devices import MAX_NETWORKS, Background, Row
from monitor.sources.host_kernel import Timex
from monitor.sources.mounts import Mount, parse_mounts
from monitor.sources.source import SourceDown

STAT = (
    "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 200 300 400 500 600 700 800 90 0\ncpu3 1 2 3 4 5 6 7 8 0 0\n"
    "intr 5000 1 2 3\nctxt 6000\nbtime 1700000000\nprocesses 70\nprocs_running 3\nprocs_blocked 1\nsoftirq 8 9\n"
)
MEMINFO = (
    "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 700 kB\nBuffers: 20 kB\nCached: 300 kB\n"
    "SwapTotal: 50 kB\nSwapFree: 40 kB\nHugePages_Total: 8\nHugepagesize: 2048 kB\n"
)
DISKSTATS = (
    " 259 0 nvme0n1 5 0 80 1500 7 0 160 250 0 2500 1\n 259 1 nvme0n1p1 5 0 80 1 7 0 160 1 0 2500 1\n"
    " 7 0 loop0 1 0 8 0 0 0 0 0 0 4 0\n 8 0 sda 1 0 2 0 0 0 4 0 0 10 0\n 8 1 sda1 1 0 2 0 0 0 4 0 0 10 0\n"
)
NETDEV = (
    "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n"
    "    lo: 111 1 0 0 0 0 0 0 222 1 0 0 0 0 0 0\n  eth0:333 31 32 33 0 0 0 0 444 41 42 43 0 0 0 0\n"
)
MOUNTS = (
    "proc /proc proc rw 0 0\noverlay / overlay rw 0 0\n/dev/a / ext4 rw 0 0\n"
    "nfs:/x /data/with\\040blank nfs4 noatime,ro 0 0\n"
    "tmpfs /run tmpfs rw 0 0\n/dev/b /var/lib/docker/overlay2/q ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"
)


def statvfs_of(blocks: int) -> os.statvfs_result:
    # f_bsize is given apart from f_frsize, the unit of the counts: confusing them must show.
    return os.statvfs_result((1 << 20, 4096, blocks, blocks // 2, blocks // 4, 50, 30, 0, 0, 255))


def make_proc(root: Path, **changed: str | None) -> Path:
    files: dict[str, str | None] = {
        "stat": STAT,
        "loadavg": "0.50 1.25 2.00 1/200 4242\n",
        "meminfo": MEMINFO,
        "diskstats": DISKSTATS,
        "net/dev": NETDEV,
        "1/mounts": MOUNTS,
        "pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0 avg60=0 avg300=0 total=7\n",
        "pressure/memory": "some avg10=0.00 total=1500000\nfull avg10=0.00 total=500000\n",
        "pressure/io": "some avg10=0.00 total=4000000\nfull avg10=0.00 total=3000000\n",
        "vmstat": "nr_free_pages 9\npswpin 11\npswpout 12\npgmajfault 13\noom_kill 2\n",
        "sys/fs/file-nr": "951\t0\t2466170\n",
        "sys/kernel/domainname": "(none)\n",
    }
    for name, text in {**files, **changed}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores psutil's /proc, which ``host`` sets, and gives each test the same NTP discipline."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", psutil.PROCFS_PATH)
    timex = Timex(offset=1500, maxerror=20_000, esterror=300, status=0x2000)
    monkeypatch.setattr("monitor.sources.host_kernel.read_timex", lambda: (0, timex))


def host(
    proc: Path,
    *,
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    deadline: float = 2.0,
    sys: Path | str = "/nonexistent",
    model_caches: Sequence[str] = (),
    rootfs: Path | str = "",
) -> HostSource:
    psutil.PROCFS_PATH = str(proc)
    return HostSource(deadline=deadline, statvfs=statvfs, sys=sys, model_caches=model_caches, rootfs=rootfs)


def readings(scrape: Scrape) -> dict[str, float]:
    found = {format_labels(labels): value for labels, value in zip(scrape.shape.series, scrape.values, strict=True)}
    assert len(found) == len(scrape.values), "a series stands twice in one scrape"
    return found


def poll(source: HostSource, now_ms: int = 1_700_000_123_500) -> dict[str, float]:
    return readings(asyncio.run(source.poll(now_ms)))


def test_every_reading_has_node_exporters_name_labels_and_unit(tmp_path: Path) -> None:
    got = poll(host(make_proc(tmp_path), statvfs=lambda path: statvfs_of(len(path) * 100)))
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
        "node_memory_HugePages_Total": 8.0,
        "node_memory_Hugepagesize_bytes": 2097152.0,
    }
    for labels, blocks in ((root, 100), (data, 1600), (run, 400)):
        wanted |= {
            f"node_filesystem_size_bytes{labels}": blocks * 4096.0,
            f"node_filesystem_free_bytes{labels}": blocks * 2048.0,
            f"node_filesystem_avail_bytes{labels}": blocks * 1024.0,
            f"node_filesystem_device_error{labels}": 0.0,
            f"node_filesystem_files{labels}": 50.0,
            f"node_filesystem_files_free{labels}": 30.0,
            f"node_filesystem_readonly{labels}": float(labels == data),
        }
    disks = (("nvme0n1", 80, 160, 2.5, 5, 7, 1.5, 0.25), ("sda", 2, 4, 0.01, 1, 0, 0.0, 0.0))
    for device, read, written, busy, reads, writes, read_time, write_time in disks:
        wanted |= {
            f'node_disk_reads_completed_total{{device="{device}"}}': reads,
            f'node_disk_writes_completed_total{{device="{device}"}}': writes,
            f'node_disk_read_time_seconds_total{{device="{device}"}}': read_time,
            f'node_disk_write_time_seconds_total{{device="{device}"}}': write_time,
            f'node_disk_read_bytes_total{{device="{device}"}}': read * 512.0,
            f'node_disk_written_bytes_total{{device="{device}"}}': written * 512.0,
            f'node_disk_io_time_seconds_total{{device="{device}"}}': busy,
        }
    for device, received, sent in (
        ("lo", (111, 1, 0, 0), (222, 1, 0, 0)),
        ("eth0", (333, 31, 32, 33), (444, 41, 42, 43)),
    ):
        for way, counts in (("receive", received), ("transmit", sent)):
            for what, count in zip(("bytes", "packets", "errs", "drop"), counts, strict=True):
                wanted[f'node_network_{way}_{what}_total{{device="{device}"}}'] = count
    wanted |= {
        "node_boot_time_seconds": 1.7e9,
        "node_time_seconds": 1_700_000_123.5,
        "node_intr_total": 5000,
        "node_context_switches_total": 6000,
        "node_forks_total": 70,
        "node_procs_running": 3,
        "node_procs_blocked": 1,
        "node_pressure_cpu_waiting_seconds_total": 2.5,
        "node_pressure_memory_waiting_seconds_total": 1.5,
        "node_pressure_memory_stalled_seconds_total": 0.5,
        "node_pressure_io_waiting_seconds_total": 4,
        "node_pressure_io_stalled_seconds_total": 3,
        "node_vmstat_oom_kill": 2,
        "node_vmstat_pswpin": 11,
        "node_vmstat_pswpout": 12,
        "node_vmstat_pgmajfault": 13,
        "node_filefd_allocated": 951,
        "node_filefd_maximum": 2466170,
        "node_timex_sync_status": 1,
        "node_timex_offset_seconds": 1.5e-6,
        "node_timex_maxerror_seconds": 0.02,
        "node_timex_estimated_error_seconds": 0.0003,
    }
    (uname,) = [name for name in got if name.startswith("node_uname_info")]
    assert got.pop(uname) == 1
    assert f'nodename="{os.uname().nodename}"' in uname
    assert 'domainname="(none)"' in uname
    assert got == wanted


def test_families_say_type_and_help(tmp_path: Path) -> None:
    scrape = asyncio.run(host(make_proc(tmp_path), statvfs=lambda _: statvfs_of(1)).poll(1))
    for labels in scrape.shape.series:
        name = dict(labels)["__name__"]
        family = scrape.shape.families[name]
        assert family.help
        assert family.kind == (
            "counter" if name.endswith("_total") else "untyped" if name.startswith("node_vmstat") else "gauge"
        )


def test_what_a_machine_does_not_have_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = make_proc(
        tmp_path,
        meminfo="MemTotal: 1000 kB\nMemFree: 100 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        diskstats="",
        loadavg=None,
        vmstat="",
        **{
            "net/dev": None,
            "1/mounts": None,
            "pressure/cpu": None,
            "pressure/memory": None,
            "pressure/io": None,
            "sys/fs/file-nr": None,
        },
    )
    monkeypatch.setattr("monitor.sources.host_kernel.read_timex", lambda: None)
    got = poll(host(proc))
    assert [name for name in got if not name.startswith(("node_cpu", "node_uname"))] == [
        "node_intr_total",
        "node_context_switches_total",
        "node_forks_total",
        "node_procs_running",
        "node_procs_blocked",
        "node_boot_time_seconds",
        "node_memory_MemTotal_bytes",
        "node_memory_MemFree_bytes",
        "node_time_seconds",
    ]


def test_a_machine_without_proc_is_down_and_says_what_it_read(tmp_path: Path) -> None:
    with pytest.raises(SourceDown, match=f"cannot read {tmp_path}/stat"):
        asyncio.run(host(tmp_path).poll(1))


def test_what_is_empty_in_proc_gives_no_readings_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceDown, match=r"/stat$"):
        asyncio.run(host(make_proc(tmp_path, stat="")).poll(1))
    proc = make_proc(tmp_path, loadavg="", meminfo="", diskstats="", vmstat="", **{"net/dev": ""})
    got = poll(host(proc, statvfs=lambda _: statvfs_of(1)))
    assert "node_load1" not in got
    assert "node_memory_MemTotal_bytes" not in got


def test_where_no_thread_can_be_had_file_systems_are_not_read_and_all_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(work: Callable[[], object], name: str) -> threading.Thread:
        raise OSError(11, "Resource temporarily unavailable")

    source = host(make_proc(tmp_path), statvfs=lambda _: statvfs_of(1))
    monkeypatch.setattr(threads, "start", none)
    scrape = asyncio.run(source.poll(1))
    got = readings(scrape)
    assert got["node_load1"] == 0.5
    assert not [name for name in got if name.startswith("node_filesystem_size_bytes")]
    assert "Resource temporarily unavailable" in scrape.facts["filesystem_errors"]


def test_own_mount_table_where_process_1_is_hidden(tmp_path: Path) -> None:
    proc = make_proc(tmp_path, **{"1/mounts": None, "self/mounts": "/dev/c /srv xfs rw 0 0\n"})
    got = poll(host(proc, statvfs=lambda _: statvfs_of(10)))
    assert got['node_filesystem_size_bytes{device="/dev/c",fstype="xfs",mountpoint="/srv"}'] == 40960


HOSTS_ROOT = """\
28 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 28 8:17 / /data rw,relatime - xfs /dev/sdb1 rw
"""
CONTAINERS_ROOT = """\
900 800 0:300 / / ro,relatime - overlay overlay ro,lowerdir=/a,upperdir=/b
901 900 8:1 / /host ro,relatime - ext4 /dev/sda1 rw
902 901 8:17 / /host/data rw,relatime - xfs /dev/sdb1 rw
903 901 8:33 / /host/mnt/my\\040disk ro,relatime - ext4 /dev/sdc1 ro
904 901 0:5 / /host/proc rw - proc proc rw
905 901 0:6 / /host/var/lib/kubelet/pods/0a/volumes/t rw - tmpfs tmpfs rw
906 900 8:1 /etc/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
907 900 8:1 /hosted /hosted rw,relatime - ext4 /dev/sda1 rw
"""


def test_in_a_container_the_file_systems_are_those_below_the_nodes_root(tmp_path: Path) -> None:
    asked = []

    def statvfs(path: str) -> os.statvfs_result:
        asked.append(path)
        return statvfs_of(10)

    proc = make_proc(tmp_path, **{"1/mountinfo": HOSTS_ROOT, "self/mountinfo": CONTAINERS_ROOT})
    got = poll(host(proc, statvfs=statvfs, rootfs="/host/"))
    readonly = {name: value for name, value in got.items() if name.startswith("node_filesystem_readonly")}
    assert readonly == {
        'node_filesystem_readonly{device="/dev/sda1",fstype="ext4",mountpoint="/"}': 0.0,
        'node_filesystem_readonly{device="/dev/sdb1",fstype="xfs",mountpoint="/data"}': 0.0,
        'node_filesystem_readonly{device="/dev/sdc1",fstype="ext4",mountpoint="/mnt/my disk"}': 1.0,
    }
    assert set(asked) == {"/host/", "/host/data", "/host/mnt/my disk"}


def test_in_a_container_that_sees_the_hosts_processes_their_mounts_are_not_taken_for_its_own(tmp_path: Path) -> None:
    own = "overlay / overlay ro 0 0\n/dev/sda1 /state ext4 rw 0 0\n"
    for mountinfo, expected in ((CONTAINERS_ROOT, {"/state"}), (HOSTS_ROOT, {"/", "/run"})):
        files = {"1/mountinfo": HOSTS_ROOT, "self/mountinfo": mountinfo, "self/mounts": own}
        got = poll(host(make_proc(tmp_path, **files), statvfs=lambda _: statvfs_of(10)))
        points = {name.split('mountpoint="')[1][:-2] for name in got if name.startswith("node_filesystem_size_bytes")}
        assert expected <= points
        assert points.isdisjoint({"/", "/run"} if expected == {"/state"} else {"/state"})


def test_the_model_cache_is_looked_for_below_the_nodes_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "models").mkdir(parents=True)
    line = f"901 900 8:1 / {root} ro - ext4 /dev/sda1 rw\n"
    proc = make_proc(tmp_path / "proc", **{"self/mountinfo": line})
    sys = tmp_path / "sys"
    source = host(
        proc, statvfs=lambda _: statvfs_of(1), sys=sys, rootfs=root, model_caches=["/models", str(tmp_path / "proc")]
    )
    found = [name for name in poll(source) if name.startswith("gpumon_model_cache_info")]
    assert found == ['gpumon_model_cache_info{mountpoint="/",path="/models"}']


def test_series_keep_their_shape_between_polls(tmp_path: Path) -> None:
    source = host(make_proc(tmp_path), statvfs=lambda _: statvfs_of(1))
    assert asyncio.run(source.poll(1)).shape is asyncio.run(source.poll(2)).shape


def test_a_cpu_counter_does_not_fall_back_a_little_but_starts_anew_after_a_hotplug(tmp_path: Path) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    source = host(make_proc(tmp_path, stat=f"cpu0 {900 * tick} 0 0 {500 * tick} 7 0 0 0\nbtime 1\n"))
    idle, user = 'node_cpu_seconds_total{cpu="0",mode="idle"}', 'node_cpu_seconds_total{cpu="0",mode="user"}'
    poll(source)
    make_proc(tmp_path, stat=f"cpu0 {901 * tick} 0 0 {499 * tick} 7 0 0 0\nbtime 1\n")
    got = poll(source)
    assert (got[idle], got[user]) == (500, 901)
    make_proc(tmp_path, stat=f"cpu0 {2 * tick} 0 0 {3 * tick} 0 0 0 0\nbtime 1\n")
    got = poll(source)
    assert (got[idle], got[user]) == (3, 2)


def test_too_many_devices_are_cut_and_said_and_real_ones_stay(tmp_path: Path) -> None:
    header = "".join(NETDEV.splitlines(keepends=True)[:2])
    links = "".join(f"veth{i}: 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0\n" for i in range(MAX_NETWORKS))
    proc = make_proc(tmp_path, **{"net/dev": f"{header}{links}ib0: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n"})
    scrape = asyncio.run(host(proc, statvfs=lambda _: statvfs_of(1)).poll(1))
    got = readings(scrape)
    assert sum(name.startswith("node_network_receive_bytes") for name in got) == MAX_NETWORKS
    assert got['node_network_receive_bytes_total{device="ib0"}'] == 5
    assert scrape.facts["left_out"] == "1 network devices"


def test_a_mount_that_fails_has_an_error_and_no_values(tmp_path: Path) -> None:
    def statvfs(path: str) -> os.statvfs_result:
        if path == "/run":
            raise PermissionError(13, "Permission denied")
        return statvfs_of(1)

    scrape = asyncio.run(host(make_proc(tmp_path), statvfs=statvfs).poll(1))
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
    source = host(make_proc(tmp_path, **{"1/mounts": mounts}), statvfs=statvfs, deadline=1.0)
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
        Mount("nfs:/x", "/data/with blank", "nfs4", readonly=True),
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


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def make_sys(root: Path) -> Path:
    port = "class/infiniband/mlx5_0/ports/1"
    write(
        root,
        **{
            "class/net/eth0/operstate": "up",
            "class/net/eth0/speed": "100000",
            "class/net/eth0/mtu": "9000",
            "class/net/eth0/carrier_changes": "2",
            "class/net/lo/operstate": "unknown",
            "class/net/virt/operstate": "down",
            "class/net/virt/speed": "-1",
            "class/net/bonding_masters": "",
            "class/infiniband/mlx5_0/board_id": "MT_0000000838",
            "class/infiniband/mlx5_0/fw_ver": "28.39.1002",
            "class/infiniband/mlx5_0/hca_type": "MT4129",
            f"{port}/state": "4: ACTIVE",
            f"{port}/phys_state": "5: LinkUp",
            f"{port}/rate": "400 Gb/sec (4X NDR)",
            f"{port}/counters/port_rcv_data": "100",
            f"{port}/counters/port_xmit_data": "101",
            f"{port}/counters/link_downed": "3",
            f"{port}/counters/port_xmit_wait": "N/A (no PMA)",
            "devices/system/edac/mc/mc0/ce_count": "7",
            "devices/system/edac/mc/mc0/ue_count": "1",
            "devices/system/edac/mc/power/control": "auto",
        },
    )
    return root


def test_links_infiniband_and_memory_errors_from_sys(tmp_path: Path) -> None:
    got = poll(host(make_proc(tmp_path / "proc"), sys=make_sys(tmp_path / "sys")))
    prefixes = ("node_infiniband", "node_edac", "node_network_up", "node_network_speed", "node_network_mtu")
    port = '{device="mlx5_0",port="1"}'
    card = '{board_id="MT_0000000838",device="mlx5_0",firmware_version="28.39.1002",hca_type="MT4129"}'
    assert {name: value for name, value in got.items() if name.startswith(prefixes)} == {
        'node_network_up{device="eth0"}': 1,
        'node_network_up{device="lo"}': 0,
        'node_network_up{device="virt"}': 0,
        'node_network_speed_bytes{device="eth0"}': 12.5e9,
        'node_network_mtu_bytes{device="eth0"}': 9000,
        f"node_infiniband_info{card}": 1,
        f"node_infiniband_state_id{port}": 4,
        f"node_infiniband_physical_state_id{port}": 5,
        f"node_infiniband_rate_bytes_per_second{port}": 50e9,
        f"node_infiniband_port_data_received_bytes_total{port}": 400,
        f"node_infiniband_port_data_transmitted_bytes_total{port}": 404,
        f"node_infiniband_link_downed_total{port}": 3,
        'node_edac_correctable_errors_total{controller="0"}': 7,
        'node_edac_uncorrectable_errors_total{controller="0"}': 1,
    }
    assert got['node_network_carrier_changes_total{device="eth0"}'] == 2


def test_a_device_that_hangs_in_sys_holds_nobody_up_and_its_readings_end() -> None:
    release = threading.Event()
    calls: list[int] = []
    now = 0.0

    def work() -> list[Row]:
        calls.append(1)
        if len(calls) > 1:
            assert release.wait(60)
        return [("x", float(len(calls)), ())]

    async def story() -> None:
        nonlocal now
        slow = Background(work, 10.0, lambda: now)
        assert await slow.rows(30) == [("x", 1.0, ())]
        now = 9.0
        assert await slow.rows(30) == [("x", 1.0, ())]
        assert len(calls) == 1, "too early for another"
        now = 10.0
        assert await slow.rows(0.01) == [("x", 1.0, ())], "the last one stands while another is read"
        now = 29.0
        assert await slow.rows(0.01) == [("x", 1.0, ())]
        now = 30.0
        assert await slow.rows(0.01) == [], "what is too old is absent, not frozen"
        assert len(calls) == 2, "a call that hangs is not joined by another"
        release.set()
        for _ in range(3000):
            if rows := await slow.rows(0.01):
                assert rows == [("x", float(len(calls)), ())]
                return
            await asyncio.sleep(0.01)
        pytest.fail("it did not come back")

    try:
        asyncio.run(story())
    finally:
        release.set()


def test_what_is_read_apart_is_tried_again_once_a_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        nonlocal now
        slow = Background(lambda: [("x", 1.0, ())], 10.0, lambda: now)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", none)
            assert await slow.rows(30) == [], "absent, and the other readings of the poll are not lost for it"
        now = 10.0
        assert await slow.rows(30) == [("x", 1.0, ())]

    asyncio.run(story())


def test_the_clock_is_not_synchronised_where_the_kernel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.sources.host_kernel.read_timex", lambda: (5, Timex(offset=1500)))
    got = poll(host(make_proc(tmp_path)))
    assert got["node_timex_sync_status"] == 0
    assert got["node_timex_offset_seconds"] == 0.0015, "microseconds, unless the status says nanoseconds"


def test_the_model_cache_names_its_file_system(tmp_path: Path) -> None:
    cache, link = tmp_path / "big" / "hub", tmp_path / "link"
    cache.mkdir(parents=True)
    link.symlink_to(cache)
    mounts = f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path}/big xfs rw 0 0\n/dev/c {tmp_path}/bi xfs rw 0 0\n"
    got = poll(
        host(
            make_proc(tmp_path / "proc", **{"1/mounts": mounts}),
            model_caches=[str(link), str(tmp_path / "none")],
            statvfs=lambda _: statvfs_of(1),
        )
    )
    assert [name for name in got if name.startswith("gpumon_model_cache")] == [
        f'gpumon_model_cache_info{{mountpoint="{tmp_path}/big",path="{cache}"}}'
    ]


def test_where_models_are_kept_by_default() -> None:
    assert default_model_caches({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}) == ("/a",)
    assert default_model_caches({"HF_HOME": "/b"}) == ("/b/hub",)
    assert default_model_caches({"XDG_CACHE_HOME": "/c"}) == ("/c/huggingface/hub",)
    assert default_model_caches({})[0].endswith("/.cache/huggingface/hub")
