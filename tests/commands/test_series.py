"""``gpumon series``: nothing undocumented is exported, and the page in ``docs/`` is what the code says."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

import monitor.sources
from monitor.cli import cli
from monitor.commands.series import all_entries, to_markdown, to_text
from monitor.own_series import FAMILIES as OWN
from monitor.probes.canary import CanarySource
from monitor.samples import NAME, Family, Labels, Scrape, label
from monitor.sources import nvml_table
from monitor.sources.catalogue import NOTES, Entry, Undocumented, declared, entries
from monitor.sources.host import HostSource
from monitor.sources.kernel_log import KernelLogSource
from monitor.sources.nvml_frame import Facts, Frame, GpuFacts, GpuValues, MigValues
from monitor.sources.nvml_series import NvmlSeries
from monitor.sources.source import SourceDown
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_health import EngineSource
from tests.daemons import daemon, wait_for
from tests.http_server import answer, serve
from tests.nvml_stub.control import Stub
from tests.nvml_stub.fixtures import nvml, nvml_library
from tests.sources.nvml_polls import ask, source_of, until_up

__all__ = ["nvml", "nvml_library"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "series.md"
HOW = "run `gpumon series --markdown > docs/series.md`"
WHERE = "say what it is in monitor/sources/catalogue.py (NOTES) or nvml_table.py, then " + HOW

_NO_NUMBERS = ("index", "slow", "links", "gpm", "mig", "processes", "error", "lost")


@cache
def by_sample() -> dict[str, Entry]:
    return {sample: entry for entry in all_entries() for sample in entry.samples}


def undocumented(series: Iterable[Labels], source: str = "") -> list[str]:
    """What the catalogue does not say of these series, in words."""
    wrong = set()
    for labels in series:
        name = label(labels, NAME)
        entry = by_sample().get(name)
        if entry is None:
            wrong.add(f"{name} is exported and not documented")
            continue
        if source and entry.source != source:
            wrong.add(f"{name} is of the source {source}, and documented as of {entry.source}")
        for key, _ in labels:
            if key not in (NAME, "job", "instance", *entry.labels):
                wrong.add(f"{name} has the label {key}, which is not documented")
    return [f"{text}: {WHERE}" for text in sorted(wrong)]


def test_a_name_is_documented_once() -> None:
    names = [entry.name for entry in all_entries()]
    assert sorted(names) == sorted(set(names))


def test_every_entry_says_all_of_it() -> None:
    for entry in all_entries():
        for text in (entry.help, entry.call, entry.cadence, entry.cost):
            assert text.strip(), entry


def test_a_family_that_is_new_is_named() -> None:
    with pytest.raises(
        Undocumented, match=r"gpumon_brand_new \(source gpumon\).*NOTES in monitor/sources/catalogue.py"
    ):
        entries([Family("gpumon_brand_new", "gauge", "New.")])


def test_every_table_of_families_is_in_the_catalogue() -> None:
    documented = {entry.name for entry in all_entries()}
    missing = []
    for module in pkgutil.iter_modules(monitor.sources.__path__, "monitor.sources."):
        if module.name.endswith("nvml_reader"):  # a program of its own
            continue
        table = getattr(importlib.import_module(module.name), "FAMILIES", ())
        names = [row if isinstance(row, str) else row.name if isinstance(row, Family) else row[0] for row in table]
        missing += [f"{module.name} declares {name}: {WHERE}" for name in names if name not in documented]
    assert missing == []


def test_the_page_shows_every_source() -> None:
    page = to_markdown(all_entries())
    assert [entry.name for entry in all_entries() if f"collect[]={entry.source}`" not in page] == []


def test_every_note_is_about_something() -> None:
    families = [*((source, family.name) for source, family in declared()), *(("gpumon", row[0]) for row in OWN)]
    first = [
        next(note for note in NOTES if note.source == source and fnmatchcase(name, note.pattern))
        for source, name in families
    ]
    assert [note for note in NOTES if note not in first] == []


def test_the_page_is_what_the_code_says() -> None:
    assert DOCS.read_text(encoding="utf-8") == to_markdown(all_entries()), f"docs/series.md is old: {HOW}"


def test_the_page_is_a_table_of_every_name() -> None:
    page = to_markdown(all_entries())
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(all_entries())
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}


def test_the_command() -> None:
    runner = CliRunner()
    assert runner.invoke(cli, ["series"]).stdout == to_text(all_entries())
    assert runner.invoke(cli, ["series", "--markdown"]).stdout == to_markdown(all_entries())
    assert re.search(r"^DCGM_FI_DEV_GPU_TEMP +gauge +C +gpu,UUID,", to_text(all_entries()), re.MULTILINE)


def test_a_simulated_daemon_exports_nothing_else(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate", "--past", "60") as running:

        def exposition() -> str | None:
            text = running.text("/metrics")
            wanted = ("DCGM_FI_DEV_GPU_UTIL{", "vllm:num_requests_running{", "node_load1 ", "gpumon_source_up{")
            return text if all(name in text for name in wanted) else None

        text = wait_for(exposition, "every source's series")
    families = list(text_string_to_metric_families(text))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    series = [
        # The parser calls DCGM's counters, which have no such ending, `…_total`.
        (*sorted(sample.labels.items()), (NAME, family.name if kinds.get(family.name) == "counter" else sample.name))
        for family in families
        for sample in family.samples
    ]
    assert len(series) > 300
    assert undocumented(series) == []
    documented = {entry.name: entry.kind for entry in all_entries()}
    assert {name: kind for name, kind in kinds.items() if documented.get(name) != kind} == {}


def test_the_gpu_source_exports_nothing_else(nvml: Stub) -> None:
    scrapes: list[Scrape] = []

    async def poll(source: object) -> None:
        scrapes.append(await until_up(source))  # type: ignore[arg-type]

    ask(source_of(nvml), poll)
    assert len(scrapes[0].shape.series) > 30
    assert undocumented(scrapes[0].shape.series, "nvml") == []


def test_all_that_a_gpu_can_have_is_documented() -> None:
    names = [row.name for row in nvml_table.ALL]
    slow = {row.name: 1.0 for row in nvml_table.SLOW}
    gpm = {row.name: 0.5 for row in nvml_table.GPM}
    fields = [field for field in GpuValues.__struct_fields__ if field not in _NO_NUMBERS]
    values = GpuValues(
        **(dict.fromkeys(fields, 1) | {"index": 0}),  # type: ignore[arg-type]
        slow=slow,
        gpm=gpm,
        links=[1, 0],
        mig=[MigValues(3, "1g.18gb", 1, 1, 1, 1, gpm)],
    )
    known = [field for field in GpuFacts.__struct_fields__ if field not in ("index", "uuid", "name", "bus_id", "mig")]
    facts = GpuFacts(0, "GPU-0", "NVIDIA H200", "00000000:06:00.0", **dict.fromkeys(known, 1), mig=True)
    frame = Frame([values], facts=Facts("580.1", "13.0", [facts]), seconds=0.1, cpu_seconds=1.0, rss_bytes=1)
    scrape = NvmlSeries("gpu7").scrape(frame, 1_000, restarts=0, left_behind=0)
    assert undocumented(scrape.shape.series, "nvml") == []
    # And the other way: what is documented is there.
    assert set(names) - {label(labels, NAME) for labels in scrape.shape.series} == set()


def test_the_host_exports_nothing_else() -> None:
    scrape = asyncio.run(HostSource().poll(1_000))
    assert len(scrape.shape.series) > 30
    assert undocumented(scrape.shape.series, "host") == []


def test_the_kernel_log_exports_nothing_else() -> None:
    async def poll() -> Scrape | None:
        source = KernelLogSource(nvml_events=True)
        source.note_nvml("0", 79, 1_000)
        await source.open()
        try:
            return await source.poll(60_000)
        except SourceDown:
            return None  # a machine on which no log can be read
        finally:
            await source.close()

    scrape = asyncio.run(poll())
    assert scrape is None or undocumented(scrape.shape.series, "kernel_log") == []


def test_a_server_is_documented_where_its_names_are_ours() -> None:
    body = (
        b'vllm:num_requests_running{engine="0",model_name="m"} 1\n'
        b'vllm:cache_config_info{engine="0",gpu_memory_utilization="0.9",num_gpu_blocks="10",block_size="16"} 1\n'
    )

    async def poll() -> list[Scrape]:
        async with serve(answer(body)) as server:
            scrape = VllmSource(server.url, "gpu7:8000")
            source = EngineSource(server.url, "gpu7:8000", scrape)
            try:
                canary = CanarySource(server.url, "gpu7:8000", scrape, source)
                return [await scrape.poll(1_000), await source.poll(1_000), await canary.poll(1_000)]
            finally:
                await scrape.close()
                await source.close()

    of_metrics, of_health, of_canary = asyncio.run(poll())
    assert undocumented(of_metrics.shape.series, "vllm") == []
    assert undocumented(of_health.shape.series, "engine") == []
    assert undocumented(of_canary.shape.series, "canary") == []


def test_json_has_every_series() -> None:
    done = CliRunner().invoke(cli, ["series", "--json"])
    assert done.exit_code == 0
    found = json.loads(done.output)["series"]
    assert [one["name"] for one in found] == [entry.name for entry in all_entries()]
    (power,) = [one for one in found if one["name"] == "DCGM_FI_DEV_POWER_USAGE"]
    assert (power["type"], power["unit"], power["source"]) == ("gauge", "W", "nvml")
