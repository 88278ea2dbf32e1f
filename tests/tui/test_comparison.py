"""Two results beside each other: which two, what is said of each figure, and that no colour is needed to read it."""

from __future__ import annotations

from textual.pilot import Pilot

from monitor.client.errors import ClientError
from monitor.probes.schema import Change
from monitor.tui.app import GpumonApp
from monitor.tui.screens.comparison import ComparisonScreen
from tests.tui.test_probes import going, kept, line, sent
from tests.tui.test_travel import Past, press, run

ONE = "concurrency 1"
CHANGES = (
    Change("throughput", ONE, "output_throughput", "tok/s", "higher", 83.0, 69.0, -0.17, -0.22, -0.12, "worse", 9, 9),
    Change("throughput", ONE, "ttft_p99", "ms", "lower", 40.0, 30.0, -0.25, -0.4, -0.1, "better", 9, 9),
    Change("throughput", ONE, "itl_p50", "ms", "lower", 12.0, 12.2, 0.017, -0.03, 0.05, "noise", 9, 9),
    Change("throughput", "", "memory_used_bytes", "B", "lower", 2.0**37, 2.0**36, -0.5),
    Change("throughput", "", "perplexity", "", "lower", 12.1, None, verdict="missing"),
)  # fmt: skip


def test_two_that_are_marked_the_earlier_is_before() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        late, early = kept(ago_s=60, seed=1, name="fp8"), kept(ago_s=4000, seed=2, baseline="old")
        past.probing.put(late, early)
        past.probing.changes = CHANGES
        past.probing.notes = ("another quantization",)
        past.probing.differences = {"model": ("Qwen3-8B", "Qwen3-8B-FP8")}
        await press(app, pilot, "8", "space")
        text = await press(app, pilot, "down", "space")
        assert text.count("◆") == 3, "both, and that c compares"
        text = await press(app, pilot, "c")
        assert isinstance(app.page, ComparisonScreen)
        assert past.probing.compared == [(early.row.id, late.row.id)]
        assert "baseline old" in line(text, "before")
        assert "fp8" in line(text, "after")
        assert "▲ another quantization" in text
        assert "model: Qwen3-8B → Qwen3-8B-FP8" in text
        assert "1 ▲ better" in text
        assert "1 ▼ worse" in text
        worse = line(text, "concurrency 1", "output")
        assert " ".join(worse.split()) == "concurrency 1 output 83 tok/s 69 tok/s −17 % −22 to −12 % ▼ worse"
        assert "≈ noise" in line(text, "ITL p50")
        assert "? no interval" in line(text, "memory used", "−50 %")
        assert "– one side" in line(text, "perplexity", "12")
        assert text.index("memory used") < text.index("concurrency 1"), "the whole run first"

    run(look)


def test_what_changed_alone_then_what_got_worse_and_the_two_turned_round() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one, other = kept(ago_s=60, seed=1), kept(ago_s=4000, seed=2)
        past.probing.put(one, other)
        past.probing.changes = CHANGES
        await press(app, pilot, "8", "space", "down", "c")
        text = await press(app, pilot, "v")
        assert "compare, changed only  2" in text
        text = await press(app, pilot, "v")
        assert "compare, worse only  1" in text
        await press(app, pilot, "v", "s")
        await sent(app, pilot)
        assert past.probing.compared == [(other.row.id, one.row.id), (one.row.id, other.row.id)]
        await press(app, pilot, "/", *"ttft", "enter", "y")
        assert app.copied == "concurrency 1\tttft_p99\t40 ms\t30 ms\t−25 %\t−40 to −10 %\tbetter"

    run(look)


def test_the_other_is_chosen_baselines_of_its_workload_first() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        runs = (
            kept("latency", 30, seed=1), kept(ago_s=60, seed=2), kept(ago_s=90, seed=3),
            kept(ago_s=5000, seed=4, baseline="old"), going(began_ms=1),
        )  # fmt: skip
        past.probing.put(*runs)
        past.probing.changes = CHANGES
        text = await press(app, pilot, "8", "down", "down", "c")
        choices = [row for row in text.splitlines() if "│" in row and "20" in row]
        assert "baseline old" in choices[0]
        assert "latency" in choices[-1]
        assert len(choices) == 3, "neither itself nor what goes on"
        await press(app, pilot, "enter")
        await sent(app, pilot)
        assert past.probing.compared == [(runs[3].row.id, runs[1].row.id)]

    run(look)


def test_what_cannot_be_compared_says_why() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept(ago_s=60, seed=1), going(began_ms=1))
        assert "it goes on: what is over can be compared" in await press(app, pilot, "8", "c")
        assert "there is no other result" in await press(app, pilot, "down", "c")
        text = await press(app, pilot, "space", "up", "c")
        assert "one of them goes on" in text
        assert not isinstance(app.page, ComparisonScreen)

    run(look)


def test_a_comparison_that_fails_says_so() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept(ago_s=60, seed=1), kept(ago_s=90, seed=3))
        await press(app, pilot, "8")
        past.probing.silent = ClientError("its files are gone", "unix:x")
        text = await press(app, pilot, "space", "down", "c")
        assert "they cannot be compared: its files are gone" in text

    run(look)


def test_it_fits_and_the_interval_is_drawn_where_there_is_room() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept(ago_s=60, seed=1), kept(ago_s=90, seed=3))
        past.probing.changes = CHANGES
        text = await press(app, pilot, "8", "space", "down", "c")
        assert all(len(row) <= app.size.width for row in text.splitlines())
        worse = line(text, "concurrency 1", "output")
        assert ("├" in worse) == (app.size.width >= 150)
        assert "▼ worse" in worse

    for size in ((80, 24), (200, 50)):
        run(look, size)
