"""What is found in the kernel's messages."""

from __future__ import annotations

import pytest

from monitor.sources.kernel_messages import HINTS, MAX_TEXT, Finding, MessageParser, clean, normal_bus


def parse(*messages: str) -> Finding | None:
    """What the last of ``messages`` says."""
    parser = MessageParser()
    found = None
    for message in messages:
        assert any(hint in message.encode() for hint in HINTS) or parser.parse(message) is None
        found = parser.parse(message)
    return found


# The shapes of kernel_rc.c in NVIDIA's open driver, of older drivers, and of NVIDIA's documents.
@pytest.mark.parametrize(
    ("message", "code", "pid", "process", "instance"),
    [
        ("NVRM: Xid (PCI:0000:1b:00): 79, pid=1234, name=python3, GPU has fallen off", 79, "1234", "python3", ""),
        ("NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.", 79, "", "", ""),
        ("NVRM: Xid (PCI:0000:1b:00): 48, pid='<unknown>', name=<unknown>, An uncorrectable error", 48, "", "", ""),
        ("NVRM: Xid (PCI:0000:1b:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel", 94, "7194", "", "05"),
        ("NVRM: Xid (PCI:0000:1b:00 GPU-I:01 GPU-CI:02): 13, pid=9, name=a b, Graphics", 13, "9", "a b", "01"),
        ("NVRM: Xid (0000:1b:00): 14, Channel 00000001", 14, "", "", ""),
        ("NVRM: Xid (PCI:0000:1b:00.0): 31, pid=1, name=VLLM::Worker_TP0, Ch 8", 31, "1", "VLLM::Worker_TP0", ""),
        ("NVRM: Xid (PCI:0000:1b:00): 79", 79, "", "", ""),
        ("NVRM: Xid (PCI:0000:1b:00): 79, ", 79, "", "", ""),
    ],
)  # fmt: skip
def test_shapes_of_an_xid(message: str, code: int, pid: str, process: str, instance: str) -> None:
    found = parse(message)
    assert found is not None
    assert (found.kind, found.code, found.bus) == ("xid", code, "0000:1b:00")
    assert (found.pid, found.process, found.gpu_instance) == (pid, process, instance)


@pytest.mark.parametrize(
    "message",
    [
        "usb 1-1: new device",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.86.15",
        "NVRM: GPU at PCI:0000:1b:00: GPU-0b11d014-1685-04bd-26ed-5fc0bc1c44ae",
        "NVRM: Xid (nonsense): 79, GPU has fallen off the bus.",
        "NVRM: Xid (PCI:0000:1b:00): many",
        # A program that is called like a message, in a message of the kernel about it.
        "python[7]: NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.",
        "systemd[1]: Out of memory: Killed process 1 (x) total-vm:1kB",
        "Memory cgroup out of memory: OOM victim 12 (x) is already exiting. Skip kill the task",
        "oom_reaper: reaped process 12 (python), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
        "oom-kill:constraint",
        "",
    ],
)
def test_other_messages_say_nothing(message: str) -> None:
    assert MessageParser().parse(message) is None


def test_an_xid_says_what_to_do() -> None:
    found = parse("NVRM: Xid (PCI:0000:1b:00): 79, pid=1, name=x, GPU has fallen off the bus.")
    assert found is not None
    assert found.title == "XID 79: GPU has fallen off the bus"
    assert found.severity == "critical"
    assert "power-cycle" in found.detail
    assert found.detail.endswith("The kernel said: GPU has fallen off the bus.")


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", "critical"),
        ("154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", "critical"),
        ("154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)", "info"),
        ("154, GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)", "warning"),
        ("149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)", "critical"),
        ("145, RLW_REMAP Nonfatal XC0 i0 Link 17 (0x00000004 0x00000080)", "warning"),
        ("31, pid=1, name=x, MMU Fault", "info"),
        ("4242, something new", "warning"),
    ],
)
def test_the_message_says_how_bad_it_is(text: str, severity: str) -> None:
    found = parse(f"NVRM: Xid (PCI:0000:1b:00): {text}")
    assert found is not None
    assert found.severity == severity


@pytest.mark.parametrize(
    "message",
    ["NVRM: GPU at 0000:1b:00.0 has fallen off the bus.", "NVRM: GPU 0000:1b:00.0: GPU has fallen off the bus."],
)
def test_a_gpu_is_lost_without_an_xid(message: str) -> None:
    found = parse(message)
    assert found is not None
    assert (found.kind, found.severity, found.bus) == ("gpu_lost", "critical", "0000:1b:00")


def test_a_gpu_that_cannot_be_initialized() -> None:
    found = parse("NVRM: GPU 0000:04:00.0: RmInitAdapter failed! (0x62:0x40:2192)")
    assert found is not None
    assert (found.kind, found.severity, found.bus) == ("gpu_init_failed", "critical", "0000:04:00")
    assert "0x62:0x40:2192" in found.detail


@pytest.mark.parametrize(("word", "severity"), [("Fatal", "critical"), ("Non-fatal", "warning")])
def test_an_nvswitch(word: str, severity: str) -> None:
    found = parse(f"nvidia-nvswitch3: SXid (PCI:0000:c4:00.0): 12028, {word}, Link 32 egress non-posted PRIV error")
    assert found is not None
    assert (found.kind, found.severity, found.code, found.bus) == ("sxid", severity, 12028, "0000:c4:00")
    assert "Link 32" in found.detail


def test_the_node_is_out_of_memory() -> None:
    found = parse(
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0-1,global_oom,"
        "task_memcg=/system.slice/vllm.service,task=python3,pid=4711,uid=1000",
        "Out of memory: Killed process 4711 (python3) total-vm:98304000kB, anon-rss:3145728kB, file-rss:4kB, "
        "shmem-rss:0kB, UID:1000 pgtables:900kB oom_score_adj:0",
    )
    assert found is not None
    assert (found.kind, found.pid, found.process) == ("oom_kill", "4711", "python3")
    assert found.title == "out of memory: python3 (pid 4711) was killed"
    assert found.cgroup == "/system.slice/vllm.service"
    assert "the node was out of memory" in found.detail
    assert "3.0 GiB" in found.detail


def test_a_container_is_out_of_memory() -> None:
    found = parse(
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/kubepods/pod1,"
        "task_memcg=/kubepods/pod1/abc,task=a) b,pid=23793,uid=0",
        "Memory cgroup out of memory: Killed process 23793 (a) b) total-vm:2623712kB, anon-rss:506500kB",
    )
    assert found is not None
    assert (found.pid, found.process, found.cgroup) == ("23793", "a) b", "/kubepods/pod1/abc")
    assert "its cgroup was out of memory" in found.detail
    assert "495 MiB" in found.detail


@pytest.mark.parametrize(
    ("message", "in_group"),
    [
        ("Killed process 12 (java) total-vm:1kB, anon-rss:1kB, file-rss:0kB", False),  # before Linux 5.0
        ("Killed process 12, UID 0, (java) total-vm:1kB, anon-rss:1kB", False),
        ("Out of memory (oom_kill_allocating_task): Killed process 12 (java) total-vm:1kB", False),
        ("Memory cgroup out of memory: Killed process 12 (java) total-vm:1kB", True),
    ],
)
def test_other_shapes_of_a_kill(message: str, in_group: bool) -> None:
    found = parse(message)
    assert found is not None
    assert (found.pid, found.process) == ("12", "java")
    assert ("its cgroup" in found.detail) is in_group


def test_a_reason_belongs_to_one_kill() -> None:
    parser = MessageParser()
    parser.parse("oom-kill:constraint=CONSTRAINT_MEMCG,x,task_memcg=/a,task=x,pid=12,uid=0")
    other = parser.parse("Out of memory: Killed process 13 (y) total-vm:1kB")
    first = parser.parse("Out of memory: Killed process 12 (x) total-vm:1kB")
    again = parser.parse("Out of memory: Killed process 12 (x) total-vm:1kB")
    assert [found and found.cgroup for found in (other, first, again)] == ["", "/a", ""]


def test_reasons_without_a_kill_do_not_pile_up() -> None:
    parser = MessageParser()
    for pid in range(1000):
        parser.parse(f"oom-kill:constraint=CONSTRAINT_MEMCG,x,task_memcg=/a,task=x,pid={pid},uid=0")
    kept = 0
    for pid in range(1000):
        found = parser.parse(f"Out of memory: Killed process {pid} (x) total-vm:1kB")
        assert found is not None
        kept += found.cgroup == "/a"
    assert 0 < kept <= 101


def test_text_is_cleaned_and_bounded() -> None:
    found = parse(f"NVRM: Xid (PCI:0000:1b:00): 13, pid=1, name=\x1b[2Jx\u202e, a\nb\t\x00{'c' * 5000}")
    assert found is not None
    assert found.process == "[2Jx"
    assert "\x1b" not in found.detail
    assert "The kernel said: a b ccc" in found.detail
    assert len(found.detail) < 3 * MAX_TEXT


def test_clean() -> None:
    assert clean("plain – text ×2") == "plain – text ×2"
    assert clean("\u200b\ud800 \ue000") == ""
    assert clean("x" * 400, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("text", ["00000000:1B:00.0", "0000:1b:00.0", "0000:1b:00", "PCI:0000:1b:00", " 0000:1B:00 "])
def test_one_bus_id_in_all_its_writings(text: str) -> None:
    assert normal_bus(text) == "0000:1b:00"


@pytest.mark.parametrize("text", ["", "nonsense", "1b:00.0", "0000:1b:00.0.0"])
def test_what_is_no_bus_id(text: str) -> None:
    assert normal_bus(text) == ""
