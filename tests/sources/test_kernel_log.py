"""The kernel's log as a source: what is seen, counted and told, and what happens when it cannot be read."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from monitor.samples import Event, Scrape
from monitor.sources.kernel_log import FAMILIES, MAX_EVENTS, KernelLogSource, check_access
from monitor.sources.kernel_readers import MAX_RECORDS, CannotRead, KmsgReader
from monitor.sources.source import SourceAbsent, SourceDown
from monitor.sources.xid import COUNTED_CODES
from tests.sources.kernel_fakes import (
    GPU_3,
    UUID,
    XID_31,
    XID_79,
    FakeJournal,
    FakeKmsg,
    kinds,
    kmsg_record,
    no_journal,
    nvml_shape,
    value,
)

ERRORS = "gpumon_gpu_xid_errors_total"
NOW = 5_000_000


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def on_kmsg(folder: Path, kmsg: FakeKmsg, *, nvml_events: bool = False) -> KernelLogSource:
    source = KernelLogSource(nvml_events=nvml_events, journal=no_journal(folder), kmsg=kmsg.reader())
    source.know_gpus(GPU_3)
    return source


def on_journal(folder: Path, journal: FakeJournal) -> KernelLogSource:
    source = KernelLogSource(journal=journal.reader(), kmsg=KmsgReader(folder / "no-kmsg"))
    source.know_gpus(GPU_3)
    return source


async def until(source: KernelLogSource, done: Callable[[Scrape, list[Event]], bool]) -> tuple[Scrape, list[Event]]:
    """Poll until ``done`` is true of the last scrape and all events so far."""
    events: list[Event] = []
    while True:
        scrape = await source.poll(NOW)
        events += scrape.events
        if done(scrape, events):
            return scrape, events
        await asyncio.sleep(0.02)


def test_counters_start_at_zero_and_the_first_xid_is_an_increase(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        # Even an XID in the first poll: its counter is 0 once before it is 1.
        kmsg.write(XID_79)
        shown = []
        for _ in range(3):
            scrape = await source.poll(NOW)
            shown.append(value(scrape, ERRORS, gpu="3", code="79"))
        assert shown == [0, 1, 1]
        for code in COUNTED_CODES:
            if code != 79:
                assert value(scrape, ERRORS, gpu="3", UUID=UUID, pci_bus_id="00000000:1B:00.0", code=str(code)) == 0
        await source.close()

    run(test())


def test_a_code_outside_the_list_starts_at_zero_too(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        assert value(await source.poll(NOW), ERRORS, code="32") is None
        kmsg.write("NVRM: Xid (PCI:0000:1b:00): 32, pid=1, name=x, Channel ID 00000009")
        shown = [value(await source.poll(NOW), ERRORS, gpu="3", code="32") for _ in range(2)]
        assert shown == [0, 1]
        await source.close()

    run(test())


def test_an_xid_is_an_event_that_says_what_to_do(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        kmsg.write("usb 1-1: new device", "NVRM: Xid (PCI:0000:1b:00 GPU-I:01): 48, pid=17, name=python3, DBE")
        (event,) = (await source.poll(NOW)).events
        assert (event.at_ms, event.kind, event.severity) == (NOW, "xid", "critical")
        assert event.title == "GPU 3: XID 48: double-bit ECC error"
        assert "threshold" in event.detail
        assert event.labels == {
            "gpu": "3",
            "UUID": UUID,
            "pci_bus_id": "00000000:1B:00.0",
            "code": "48",
            "pid": "17",
            "process": "python3",
            "GPU_I_ID": "01",
        }
        assert (await source.poll(NOW)).events == ()
        await source.close()

    run(test())


def test_a_repeat_is_seen_each_time(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        await source.poll(NOW)
        counts = []
        for again in (1, 2, 1):
            kmsg.write(*[XID_31] * again)
            scrape = await source.poll(NOW)
            assert kinds(scrape.events) == [("xid", "31")] * again
            counts.append(value(scrape, ERRORS, code="31"))
        assert counts == [1, 3, 4]
        await source.close()

    run(test())


def test_the_last_xid_as_dcgm_exporter_has_it_and_when_it_was(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        scrape = await source.poll(NOW)
        dcgm = "DCGM_FI_DEV_XID_ERRORS"
        assert value(scrape, dcgm, gpu="3", modelName="NVIDIA H200", err_code="0", err_msg="No Error") == 0
        assert value(scrape, "gpumon_gpu_last_xid_timestamp_seconds") is None
        kmsg.write(XID_31, XID_79)
        scrape = await source.poll(NOW + 2000)
        assert value(scrape, dcgm) == 79
        assert value(scrape, dcgm, err_code="79", err_msg="GPU has fallen off the bus", device="nvidia3") == 79
        for code in ("31", "79"):
            assert value(scrape, "gpumon_gpu_last_xid_timestamp_seconds", gpu="3", code=code) == NOW / 1000 + 2
        await source.close()

    run(test())


def test_every_series_is_declared_and_the_shape_stays(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        first = await source.poll(NOW)
        kmsg.write(XID_79)
        second = await source.poll(NOW)
        third = await source.poll(NOW)
        source.know_gpus(nvml_shape(("3", UUID, "00000000:1B:00.0")))  # the same GPUs, in a new scrape
        fourth = await source.poll(NOW)
        assert first.shape is not second.shape
        assert second.shape is third.shape is fourth.shape
        names = {dict(series)["__name__"] for series in second.shape.series}
        assert names == set(FAMILIES) == set(second.shape.families)
        assert len(set(second.shape.series)) == len(second.shape.series) == len(second.values)
        await source.close()

    run(test())


def test_a_gpu_that_nvml_does_not_know(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        kmsg.write("NVRM: Xid (PCI:0000:9d:00): 79, GPU has fallen off the bus.")
        (event,) = (await source.poll(NOW)).events
        assert event.title == "GPU at 00000000:9D:00.0: XID 79: GPU has fallen off the bus"
        scrape = await source.poll(NOW)
        assert value(scrape, ERRORS, pci_bus_id="00000000:9D:00.0") == 1
        # NVML finds it later: the count goes on under its number.
        source.know_gpus(nvml_shape(("3", UUID, "00000000:1B:00.0"), ("7", "GPU-7", "00000000:9D:00.0")))
        scrape = await source.poll(NOW)
        assert value(scrape, ERRORS, gpu="7", UUID="GPU-7", code="79") == 1
        # And NVML loses the other: its series stay.
        source.know_gpus(nvml_shape(("7", "GPU-7", "00000000:9D:00.0")))
        assert value(await source.poll(NOW), ERRORS, gpu="3", code="79") == 0
        await source.close()

    run(test())


def test_nonsense_in_the_log_does_not_make_series_without_end(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        before = len((await source.poll(NOW)).values)
        kmsg.write(*(f"NVRM: Xid (PCI:0000:1b:00): {code}, x" for code in range(1000, 1500)))
        await source.poll(NOW)
        assert len((await source.poll(NOW)).values) <= before + 2 * 64
        await source.close()

    run(test())


def test_a_lost_gpu_is_told_once(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        lost = "NVRM: GPU 0000:1b:00.0: GPU has fallen off the bus."
        kmsg.write(XID_79, lost)
        assert kinds((await source.poll(NOW)).events) == [("xid", "79")]
        kmsg.write(lost.replace("1b", "2b"), lost.replace("1b", "2b"))  # one that writes no XID
        (event,) = (await source.poll(NOW + 1000)).events
        assert (event.kind, event.severity) == ("gpu_lost", "critical")
        kmsg.write(lost)
        assert kinds((await source.poll(NOW + 200_000)).events) == [("gpu_lost", "")]
        await source.close()

    run(test())


def test_an_oom_kill(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        kmsg.write("Memory cgroup out of memory: Killed process 4711 (python3) total-vm:9kB, anon-rss:1048576kB")
        (event,) = (await source.poll(NOW)).events
        assert (event.kind, event.labels["pid"], event.labels["process"]) == ("oom_kill", "4711", "python3")
        assert event.title == "out of memory: python3 (pid 4711) was killed"
        await source.close()

    run(test())


def test_a_flood_is_bounded_and_counted_and_the_worst_is_shown(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        await source.poll(NOW)
        kmsg.write(*[XID_31] * (MAX_RECORDS - 1), XID_79, *[XID_31] * 500)
        scrape = await source.poll(NOW)
        assert len(scrape.events) == MAX_EVENTS + 1
        assert ("xid", "79") in kinds(scrape.events)
        assert scrape.events[-1].kind == "kernel_log_flood"
        assert scrape.events[-1].title.startswith(f"{MAX_RECORDS - MAX_EVENTS} more")
        assert value(scrape, ERRORS, code="31") == MAX_RECORDS - 1
        assert value(scrape, "gpumon_kernel_log_events_dropped_total") == MAX_RECORDS - MAX_EVENTS
        # What one poll left is the next one's.
        scrape = await source.poll(NOW)
        assert value(scrape, ERRORS, code="31") == MAX_RECORDS - 1 + 500
        await source.close()

    run(test())


# XIDs from NVML beside the log's.


def test_one_xid_from_both_sides_is_one(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg, nvml_events=True)
        await source.open()
        await source.poll(NOW)
        source.note_nvml("3", 48, NOW)  # NVML first
        kmsg.write(XID_79.replace("79", "48"))
        assert kinds((await source.poll(NOW + 1000)).events) == [("xid", "48")]
        kmsg.write(XID_31)  # the log first
        assert kinds((await source.poll(NOW + 2000)).events) == [("xid", "31")]
        source.note_nvml("3", 31, NOW + 1500)
        scrape = await source.poll(NOW + 60_000)
        assert scrape.events == ()
        assert value(scrape, ERRORS, code="48") == value(scrape, ERRORS, code="31") == 1
        await source.close()

    run(test())


def test_what_only_nvml_tells_is_counted_after_a_while(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg, nvml_events=True)
        await source.open()
        await source.poll(NOW)
        source.note_nvml("3", 48, NOW)
        source.note_nvml("3", 48, NOW + 500)
        source.note_nvml("3", 0, NOW)  # some drivers report 0
        kmsg.write(XID_79.replace("79", "48"))  # one of two
        assert len((await source.poll(NOW + 1000)).events) == 1
        scrape = await source.poll(NOW + 8000)
        (event,) = scrape.events
        assert event.title == "GPU 3: XID 48: double-bit ECC error"
        assert value(scrape, ERRORS, code="48") == 2
        assert value(scrape, ERRORS, code="0") is None
        await source.close()

    run(test())


def test_without_the_log_nvml_alone_counts_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        source = KernelLogSource(
            nvml_events=True, journal=no_journal(tmp_path), kmsg=KmsgReader(tmp_path / "nowhere")
        )  # fmt: skip
        source.know_gpus(GPU_3)
        await source.open()
        scrape = await source.poll(NOW)
        assert value(scrape, "gpumon_kernel_log_up") == 0
        assert "cannot be read" in scrape.facts["kernel log"]
        source.note_nvml("3", 48, NOW + 1000)
        scrape = await source.poll(NOW + 1000)
        assert kinds(scrape.events) == [("xid", "48")]
        assert value(scrape, ERRORS, code="48") == 1
        await source.close()

    run(test())


# /dev/kmsg.


def test_what_was_in_kmsg_before_the_start_is_not_new(tmp_path: Path) -> None:
    async def test() -> None:
        device = tmp_path / "kmsg"
        device.write_bytes(kmsg_record(1, XID_79))
        source = KernelLogSource(journal=no_journal(tmp_path), kmsg=KmsgReader(device))
        await source.open()
        with device.open("ab") as log:
            log.write(kmsg_record(2, XID_31))
        scrape = await source.poll(NOW)
        assert kinds(scrape.events) == [("xid", "31")]
        assert value(scrape, "gpumon_kernel_log_up") == 1
        assert scrape.facts == {"kernel log": "/dev/kmsg"}
        await source.close()

    run(test())


def test_records_that_were_overwritten_are_counted_and_reading_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        kmsg.write(XID_31, 17, XID_79)
        scrape = await source.poll(NOW)
        assert kinds(scrape.events) == [("xid", "31"), ("xid", "79")]
        assert value(scrape, "gpumon_kernel_log_lost_total") == 17
        assert value(scrape, "gpumon_kernel_log_messages_total") == 2
        await source.close()

    run(test())


def test_a_process_name_that_is_no_ascii(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        kmsg.write("NVRM: Xid (PCI:0000:1b:00): 31, pid=1, name=größe\x1b[31m\\, Ch")
        (event,) = (await source.poll(NOW)).events
        assert event.labels["process"] == "größe [31m\\"
        await source.close()

    run(test())


def test_kmsg_that_fails_is_opened_again(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        source = on_kmsg(tmp_path, kmsg)
        await source.open()
        kmsg.fail(OSError(5, "Input/output error"))
        with pytest.raises(SourceDown, match="Input/output error"):
            await source.poll(NOW)
        kmsg.write(XID_79)
        assert kinds((await source.poll(NOW)).events) == [("xid", "79")]
        await source.close()

    run(test())


# Permission.


def test_without_permission_the_source_is_absent_and_says_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, device = FakeJournal(tmp_path), tmp_path / "kmsg"
    device.touch()
    system_open, system_access = os.open, os.access

    def refuse(path: str, flags: int) -> int:
        if str(path) == str(device):
            raise PermissionError(1, "Operation not permitted")
        return system_open(path, flags)

    def may(path: Path | str, mode: int, **options: bool) -> bool:
        return Path(path).name != "system.journal" and system_access(path, mode, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", may)

    async def test() -> None:
        source = KernelLogSource(journal=journal.reader(), kmsg=KmsgReader(device))
        await source.open()
        reasons = []
        for _ in range(2):
            with pytest.raises(SourceAbsent) as raised:
                await source.poll(NOW)
            reasons.append(str(raised.value))
        assert "the journal: Permission denied" in reasons[0]
        assert f"{device}: Operation not permitted" in reasons[0]
        assert "group systemd-journal" in reasons[0]
        assert len(set(reasons)) == 1  # so that the poller says it once
        assert check_access(journal.reader(), KmsgReader(device)) == ("", reasons[0])
        # The right is given while the daemon runs.
        monkeypatch.setattr(os, "open", system_open)
        assert (await source.poll(NOW)).facts == {"kernel log": "/dev/kmsg"}
        assert check_access(journal.reader(), KmsgReader(device)) == ("/dev/kmsg", "")
        await source.close()

    run(test())
    assert journal.calls() == []  # a journalctl without the right would run and show nothing


def test_the_cure_where_there_is_no_journal(tmp_path: Path) -> None:
    way, reason = check_access(no_journal(tmp_path), KmsgReader(tmp_path / "none"))
    assert way == ""
    assert "CAP_SYSLOG" in reason
    assert "the journal: there is none" in reason
    assert "group systemd-journal" not in reason


def test_what_doctor_says_where_the_journal_can_be_read(tmp_path: Path) -> None:
    assert check_access(FakeJournal(tmp_path).reader(), KmsgReader(tmp_path / "none")) == ("the journal", "")


# The journal.


def test_the_journal_is_followed_from_the_start_on(tmp_path: Path) -> None:
    async def test() -> None:
        journal = FakeJournal(tmp_path)
        journal.write("NVRM: Xid (PCI:0000:1b:00): 48, old", age=100)
        journal.write(XID_79, age=50)
        reader = journal.reader()
        source = KernelLogSource(journal=reader, kmsg=KmsgReader(tmp_path / "no-kmsg"))
        source.know_gpus(GPU_3)
        await source.open()
        scrape, _ = await until(source, lambda *_: reader.proved)
        assert value(scrape, "gpumon_kernel_log_messages_total") == 0
        journal.write("usb 1-1: new device", XID_31, at_ms=NOW - 400)
        scrape, events = await until(source, lambda _, events: bool(events))
        (event,) = events
        assert (event.kind, event.labels["code"], event.at_ms) == ("xid", "31", NOW - 400)
        assert value(scrape, ERRORS, gpu="3", code="79") == 0
        assert scrape.facts == {"kernel log": "the journal"}
        (call,) = journal.calls()
        assert {"--dmesg", "--follow", "--output=json"} <= set(call)
        await source.close()

    run(test())


def test_messages_as_journalctl_writes_them(tmp_path: Path) -> None:
    async def test() -> None:
        journal = FakeJournal(tmp_path)
        source = on_journal(tmp_path, journal)
        await source.open()
        # While journalctl starts. No clean text: a list of bytes. Too long: null. What root writes to /dev/kmsg: its
        # first word is the name.
        journal.write(list(XID_31.replace("VLLM", "V\x1bLM").encode()), None)
        journal.write(XID_79.removeprefix("NVRM: "), who="NVRM")
        journal.write([300, 301])
        _, events = await until(
            source, lambda scrape, _: value(scrape, "gpumon_kernel_log_messages_total") == 4
        )  # fmt: skip
        assert kinds(events) == [("xid", "31"), ("xid", "79")]
        assert events[0].labels["process"] == "V LM::Worker"
        await source.close()

    run(test())


def test_a_journalctl_that_is_killed_is_started_again_where_it_was(tmp_path: Path) -> None:
    async def test() -> None:
        journal = FakeJournal(tmp_path)
        reader = journal.reader()
        source = KernelLogSource(journal=reader, kmsg=KmsgReader(tmp_path / "no-kmsg"))
        await source.open()
        journal.write(XID_31)
        await until(source, lambda _, events: len(events) == 1)
        first = reader.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        journal.write(XID_79)  # while none runs
        scrape, events = await until(source, lambda _, events: len(events) == 1)
        assert kinds(events) == [("xid", "79")]
        assert reader.pid not in (None, first)
        assert value(scrape, "gpumon_kernel_log_restarts_total") == 1
        assert journal.calls()[1][-1] == "--after-cursor=s=1;i=1"
        await source.close()

    run(test())


def test_a_journalctl_that_always_fails_is_tried_after_pauses_and_said(tmp_path: Path) -> None:
    async def test() -> None:
        journal = FakeJournal(tmp_path)
        tries = tmp_path / "tries"
        journal.journalctl.write_text(f"#!/bin/sh\necho x >> {tries}\necho 'Failed to open: No luck' >&2\nexit 1\n")
        reader = journal.reader(pauses=(0.0, 3600.0))
        source = KernelLogSource(journal=reader, kmsg=KmsgReader(tmp_path / "no-kmsg"))
        await source.open()
        with pytest.raises(SourceDown, match=r"journalctl ended: Failed to open: No luck") as raised:
            await until(source, lambda *_: False)
        assert not isinstance(raised.value, SourceAbsent)
        for _ in range(20):
            with pytest.raises(SourceDown):
                await source.poll(NOW)
        assert len(tries.read_text().split()) == 2
        await source.close()

    run(test())


def test_a_journal_without_messages_of_the_kernel_gives_way_to_kmsg(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg = FakeKmsg(tmp_path)
        reader = FakeJournal(tmp_path).reader()
        source = KernelLogSource(journal=reader, kmsg=kmsg.reader(), proof_seconds=0.3)
        await source.open()
        assert reader.pid is not None
        kmsg.write(XID_79)  # before it is known that the journal stays silent
        scrape, events = await until(source, lambda _, events: bool(events))
        assert kinds(events) == [("xid", "79")]
        assert scrape.facts == {"kernel log": "/dev/kmsg"}
        assert reader.pid is None
        await source.close()

    run(test())


def test_a_journal_that_speaks_is_the_only_one_that_is_read(tmp_path: Path) -> None:
    async def test() -> None:
        kmsg, journal = FakeKmsg(tmp_path), FakeJournal(tmp_path)
        journal.write("booted", age=1000)
        reader, standby = journal.reader(), kmsg.reader()
        source = KernelLogSource(journal=reader, kmsg=standby, proof_seconds=30)
        await source.open()
        await until(source, lambda *_: reader.proved)
        with pytest.raises(CannotRead, match="not open"):
            await standby.drain()
        kmsg.write(XID_31)
        journal.write(XID_31)
        scrape, _ = await until(source, lambda _, events: bool(events))
        scrape = await source.poll(NOW)
        assert value(scrape, ERRORS, code="31") == 1
        await source.close()

    run(test())


def test_a_flood_in_the_journal_is_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        journal = FakeJournal(tmp_path)
        source = on_journal(tmp_path, journal)
        await source.open()
        many = 3 * MAX_RECORDS
        journal.write("booted")
        await until(source, lambda scrape, _: value(scrape, "gpumon_kernel_log_messages_total") == 1)
        journal.write(*[XID_31] * (many - 1))
        await asyncio.sleep(0.5)  # most of it comes at once
        seen, counted, lost = 1.0, 0.0, 0.0
        while seen < many:
            scrape = await source.poll(NOW)
            before = counted
            seen, counted, lost = (
                value(scrape, name, **labels) or 0.0
                for name, labels in (
                    ("gpumon_kernel_log_messages_total", {}),
                    (ERRORS, {"code": "31"}),
                    ("gpumon_kernel_log_lost_total", {}),
                )
            )
            assert counted - before <= MAX_RECORDS
            await asyncio.sleep(0.02)
        assert counted + lost == many - 1
        await source.close()

    run(test())


def test_a_line_without_end_is_left_out(tmp_path: Path) -> None:
    async def test() -> None:
        journal = FakeJournal(tmp_path)
        source = on_journal(tmp_path, journal)
        await source.open()
        journal.write(XID_31, "NVRM: " + "x" * (3 << 20), XID_79)
        scrape, events = await until(source, lambda _, events: len(events) == 2)
        assert kinds(events) == [("xid", "31"), ("xid", "79")]
        assert value(scrape, "gpumon_kernel_log_lost_total") == 1
        await source.close()

    run(test())


def test_close_ends_journalctl(tmp_path: Path) -> None:
    async def test() -> None:
        reader = FakeJournal(tmp_path).reader()
        source = KernelLogSource(journal=reader, kmsg=KmsgReader(tmp_path / "no-kmsg"))
        await source.open()
        pid = reader.pid
        assert pid is not None
        await source.close()
        assert ended(pid)

    run(test())


_PARENT = """
import asyncio, sys
from pathlib import Path
from tests.sources.kernel_fakes import FakeJournal

async def main():
    journal = FakeJournal(Path(sys.argv[1]))
    reader = journal.reader()
    await reader.open()
    while not journal.calls():  # it has become journalctl
        await asyncio.sleep(0.01)
    print(reader.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_journalctl_dies_with_its_parent(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not ended(pid)
        parent.kill()
    deadline = time.monotonic() + 30
    while not ended(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended(pid)


def ended(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has looked at how."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"
