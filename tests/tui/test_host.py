"""The host, opened: CPUs, memory, filesystems, disks, networks, faults, and their charts."""

from __future__ import annotations

from textual.pilot import Pilot

from monitor.client.wire import Query
from monitor.samples import labels_of
from monitor.store.head import Head
from monitor.tui.app import GpumonApp
from tests.client.node_story import END_MS, LENS, PAST_SECONDS, Node, exported, simulated
from tests.client.story import INSTANCE
from tests.tui.nodes import press, run, screen

NODE = simulated()
Told = tuple[tuple[str, dict[str, str], float, float], ...]
"""Name, labels, value at the end, and how much it grew in each second."""


def host(*told: tuple[str, dict[str, str], float, float]) -> Head:
    """A host with these series, and what every host has."""
    head = Head("gpumon", INSTANCE)
    every: Told = (
        *told,
        ("node_load1", {}, 9.0, 0.0),
        ("node_memory_MemTotal_bytes", {}, 100 * 2.0**30, 0.0),
        ("node_memory_MemAvailable_bytes", {}, 25 * 2.0**30, 0.0),
        ("node_cpu_seconds_total", {"cpu": "0", "mode": "idle"}, 10_000.0, 0.25),
        ("node_cpu_seconds_total", {"cpu": "0", "mode": "iowait"}, 10_000.0, 0.5),
        ("node_cpu_seconds_total", {"cpu": "0", "mode": "user"}, 10_000.0, 0.25),
        ("node_cpu_seconds_total", {"cpu": "1", "mode": "idle"}, 10_000.0, 1.0),
        ("node_cpu_seconds_total", {"cpu": "1", "mode": "iowait"}, 10_000.0, 0.0),
        ("node_cpu_seconds_total", {"cpu": "1", "mode": "user"}, 10_000.0, 0.0),
    )
    for at_ms in range(END_MS - PAST_SECONDS * 1000, END_MS + 1, 10_000):
        for name, labels, value, grows in every:
            series = labels_of({"__name__": name, **labels, "instance": INSTANCE})
            head.append(series, at_ms, value - grows * (END_MS - at_ms) / 1000)
    return head


def joined(text: str) -> str:
    return " ".join(text.split())


def line_of(text: str, word: str) -> str:
    return joined(next(line for line in text.splitlines() if line.startswith(word)))


def test_all_of_a_host_is_on_one_screen() -> None:
    text = screen(Node(NODE), (200, 50), "6")
    for title in ("CPU", "memory", "filesystems", "disks", "networks", "faults"):
        assert f"{title} " in text, title
    for title in ("memory used", "load", "waits for CPU", "disks read", "network in", "InfiniBand in", "busiest disk"):
        assert f"{title} " in text, title
    assert "Linux 6.8.0-51-generic x86_64" in text
    assert "clock in sync" in text
    assert "up 40 d since" in text
    assert "64 % of 6.9 TiB" in text
    assert "active" in text, "an InfiniBand port has its state in words"
    assert "no process was ended for want of memory" in text
    assert "no swap" in text
    assert " of " not in text.splitlines()[2], "nothing has to be scrolled to"


def test_at_80_columns_all_but_the_charts_is_there_at_once() -> None:
    text = screen(Node(NODE), (80, 24), "6")
    assert all(len(line) <= 80 for line in text.splitlines())
    for title in ("CPU", "memory", "filesystems", "disks", "networks"):
        assert any(line.startswith(title) for line in text.splitlines()), title

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        assert "context switches" in await press(app, pilot, "6", "G")

    run(Node(NODE), (80, 24), look)


def test_the_modes_of_the_cpus_and_each_cpu() -> None:
    text = screen(Node(host()), (80, 40), "6")
    modes = line_of(text, "busy")
    assert modes.startswith("busy 38 % user 12 % iowait 25 %")
    assert "0 ▆▁" in text.replace("  ", " "), "a busy CPU and an idle one"
    assert line_of(text, "load").startswith("load 9.0")
    assert "2 CPUs" in text


def test_memory_that_is_only_cached_is_not_used() -> None:
    text = screen(Node(host(("node_memory_Cached_bytes", {}, 20 * 2.0**30, 0.0))), (80, 40), "6")
    line = next(line for line in text.splitlines() if "75 %" in line)
    assert line.startswith("█" * 43)
    assert "75 GiB" in line
    assert "cached 20 GiB" in text


def test_the_fullest_filesystem_is_first_and_one_that_does_not_answer_before_it() -> None:
    def mount(device: str, mountpoint: str, share: float, error: float = 0.0) -> Told:
        labels = {"device": device, "mountpoint": mountpoint, "fstype": "ext4"}
        found: Told = (("node_filesystem_device_error", labels, error, 0.0),)
        if not error:
            found += (
                ("node_filesystem_size_bytes", labels, 1e12, 0.0),
                ("node_filesystem_avail_bytes", labels, 1e12 * (1 - share), 0.0),
                ("node_filesystem_files", labels, 1e6, 0.0),
                ("node_filesystem_files_free", labels, 1e6 * (1 - share), 0.0),
                ("node_filesystem_readonly", labels, float(mountpoint == "/ro"), 0.0),
            )
        return found

    head = host(
        *mount("/dev/a", "/", 0.2),
        *mount("/dev/b", "/models", 0.97),
        *mount("/dev/b", "/models/bound/again", 0.97),
        *mount("/dev/c", "/ro", 0.5),
        *mount("nas:/x", "/nas", 0.0, error=1.0),
    )
    text = screen(Node(head), (80, 40), "6")
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("filesystems"))
    assert [line.split()[0] for line in lines[first + 1 : first + 5]] == ["/nas", "/models", "/ro", "/"]
    assert "does not answer" in lines[first + 1]
    assert "inodes 97 %" in lines[first + 2]
    assert "read-only" in lines[first + 3]


def test_a_disk_has_its_requests_and_how_long_one_takes() -> None:
    disk = {"device": "nvme0n1"}
    head = host(
        ("node_disk_read_bytes_total", disk, 1e12, 2e6),
        ("node_disk_written_bytes_total", disk, 1e12, 5e7),
        ("node_disk_reads_completed_total", disk, 1e9, 100.0),
        ("node_disk_writes_completed_total", disk, 1e9, 300.0),
        ("node_disk_read_time_seconds_total", disk, 1e6, 0.2),
        ("node_disk_write_time_seconds_total", disk, 1e6, 1.8),
        ("node_disk_io_time_seconds_total", disk, 1e6, 0.93),
        ("node_disk_read_bytes_total", {"device": "nvme0n1p1"}, 1e12, 2e6),
    )
    text = screen(Node(head), (80, 40), "6")
    assert line_of(text, "nvme0n1 ") == "nvme0n1 2.0 MB/s 50 MB/s 93 % 400 5.0 ms"
    assert "nvme0n1p1" not in text, "a part of a disk is no disk"


def test_networks_have_their_errors_and_ports_their_state_in_words() -> None:
    port = {"device": "mlx5_0", "port": "1"}
    head = host(
        ("node_network_receive_bytes_total", {"device": "eth0"}, 1e12, 1.2e9),
        ("node_network_transmit_bytes_total", {"device": "eth0"}, 1e12, 1e6),
        ("node_network_receive_drop_total", {"device": "eth0"}, 5000.0, 1.0),
        ("node_network_speed_bytes", {"device": "eth0"}, 1.25e9, 0.0),
        ("node_network_receive_bytes_total", {"device": "veth12"}, 1e12, 1e6),
        ("node_infiniband_state_id", port, 1.0, 0.0),
        ("node_infiniband_rate_bytes_per_second", port, 50e9, 0.0),
        ("node_infiniband_link_downed_total", port, 30.0, 0.01),
    )
    text = screen(Node(head), (90, 40), "6")
    line = line_of(text, "eth0")
    assert line.startswith("eth0 1.2 GB/s 1.0 MB/s 1.2 GB/s")
    assert "300 dropped in 5 min" in line
    assert "veth12" not in text
    assert "down link lost 3 ×" in line_of(text, "mlx5_0:1")


def test_what_went_wrong_is_said() -> None:
    head = host(
        ("node_vmstat_oom_kill", {}, 9.0, 0.02),
        ("node_edac_uncorrectable_errors_total", {"controller": "0"}, 1.0, 0.0),
        ("node_timex_sync_status", {}, 0.0, 0.0),
        ("node_timex_offset_seconds", {}, -0.2, 0.0),
        ("node_pressure_memory_waiting_seconds_total", {}, 900.0, 0.3),
        ("node_pressure_memory_stalled_seconds_total", {}, 900.0, 0.15),
        ("node_memory_SwapTotal_bytes", {}, 2.0**30, 0.0),
        ("node_memory_SwapFree_bytes", {}, 2.0**29, 0.0),
    )
    text = joined(screen(Node(head), (120, 50), "6"))
    assert "9 processes ended for want of memory since the start" in text
    assert "6 in the last 5 min" in text
    assert "1 errors of the memory not corrected" in text or "1 error of the memory not corrected" in text
    assert "clock NOT in sync off by 200 ms" in text
    assert "for memory 30 % all 15 %" in text
    assert "swap 512 MiB of 1.0 GiB" in text


def test_errors_of_the_memory_are_those_of_all_its_controllers() -> None:
    head = host(
        ("node_edac_uncorrectable_errors_total", {"controller": "0"}, 5.0, 0.0),
        ("node_edac_uncorrectable_errors_total", {"controller": "1"}, 0.0, 0.0),
        ("node_edac_correctable_errors_total", {"controller": "0"}, 2.0, 0.0),
        ("node_edac_correctable_errors_total", {"controller": "1"}, 7.0, 0.0),
    )
    text = joined(screen(Node(head), (120, 50), "6"))
    assert "5 errors of the memory not corrected" in text
    assert "9 errors of the memory corrected" in text


def test_what_a_host_does_not_tell_is_left_out_and_not_0() -> None:
    text = screen(Node(host()), (120, 50), "6")
    for word in ("who waits", "steal", "swap", "disks", "networks", "faults", "InfiniBand", "clock in", "file handles"):
        assert word not in text, word


def test_a_node_exporter_alone_is_enough() -> None:
    text = screen(Node(exported(), plain=True), (120, 50), "6")
    assert "host  a100-1:9100" in text
    assert "busy 25 %" in text
    assert "hottest sensor 66 °C" in text
    assert "97 % of 931 GiB" in text
    assert "up 25 h since" in text


def test_tab_and_y_give_promql_and_r_every_reading() -> None:
    node = Node(NODE)

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "6", "tab", "tab", "tab", "y")
        assert app.clipboard == f'node_load1{{instance="{INSTANCE}"}}'
        await press(app, pilot, "escape", "r")
        assert node.opened[-1][0] == '{__name__=~"node_.+",__name__!="node_cpu_seconds_total"}'
        text = await press(app, pilot, "escape")
        assert "filesystems" in text
        text = await press(app, pilot, "left")
        assert "PAST" in text
        assert node.watched[-1][1] is not None
        assert "filesystems" in text

    run(node, (120, 40), look)


def test_every_query_has_an_id_of_its_own() -> None:
    from monitor.client import gpu_queries, host_queries

    def ids(queries: tuple[Query, ...]) -> list[str]:
        return [one.id for one in queries]

    for asked in (
        tuple(host_queries.sheet(LENS, "n")),
        gpu_queries.one(LENS, "n", "0"),
        gpu_queries.every(LENS, few=True),
    ):
        assert len(set(ids(asked))) == len(asked)
        assert all(one.id.endswith("_h") == (one.range_seconds is not None) for one in asked)
