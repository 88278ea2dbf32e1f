"""The list of probe runs, the form of a new one, and the page of one: what they show, what they ask for, and what they
say where nothing may be done."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from textual.events import Paste
from textual.pilot import Pilot

from monitor.client.errors import Refused
from monitor.client.probes import KnownServer, Listing
from monitor.probes.schema import Live, Note, Progress, RunDetail, Slo, Spec, WorkloadName
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.screens.new_probe import NewProbe
from monitor.tui.screens.probes import ProbesScreen
from monitor.tui.screens.run import RunScreen
from monitor.tui.screens.window import Window
from tests.probes.made_results import detail, made
from tests.tui.probing import with_row
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import LIVE, Past, press, run

if TYPE_CHECKING:
    from monitor.tui.server import Asked

NOW = LIVE.now_ms
QUIET = replace(LIVE, engines=tuple(replace(one, running=0, waiting=0) for one in LIVE.engines))


def kept(workload: WorkloadName = "throughput", ago_s: int = 3600, *, seed: int = 1, **row: object) -> RunDetail:
    """A run that was over so long ago."""
    one = detail(made(workload, seed=seed, few=True))
    assert one.row.ended_ms is not None
    shift = NOW - ago_s * 1000 - one.row.ended_ms
    steps = tuple(
        msgspec.structs.replace(step, began_ms=step.began_ms + shift, ended_ms=step.ended_ms + shift)
        for step in one.steps
    )
    times = {"began_ms": one.row.began_ms + shift, "ended_ms": one.row.ended_ms + shift, "server": "n1:8000"}
    return with_row(msgspec.structs.replace(one, steps=steps), **{**times, **row})


def going(fraction: float = 0.43, **row: object) -> RunDetail:
    """A sweep in its second step."""
    one = kept("throughput", 0, seed=7)
    live = Live(4, 17, 0, 315.4, 36.0, 12.5, 0.06, 0, 0.61, 580)
    progress = Progress(NOW, "measuring", "concurrency 4", 1, 3, fraction, 95.0, live)
    changed = {"state": "running", "ended_ms": None, "headline": {}, "by": "ann", "progress": progress, **row}
    notes = (Note(NOW - 9000, "the server is vLLM 0.32.0"),)
    return with_row(msgspec.structs.replace(one, steps=one.steps[:1], findings=(), files=(), notes=notes), **changed)


def line(text: str, *words: str) -> str:
    return next(one for one in text.splitlines() if all(word in one for word in words))


async def sent(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    """Press keys and wait until what they asked for has come."""
    text = await press(app, pilot, *keys)
    for worker in [one for one in app.workers if one.name == "probes"]:
        await worker.wait()
    await settle(app, pilot)
    app.show_page()
    await settle(app, pilot)
    return "\n".join(text_of(app)) or text


# -- the list -------------------------------------------------------------------------------------------------------


def test_what_goes_on_stands_first_with_its_bar_and_its_numbers() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept(ago_s=30, name="fp8", baseline="before"), going(began_ms=NOW - 90_000))
        text = await press(app, pilot, "8")
        assert isinstance(app.page, ProbesScreen)
        first, second = (
            n for n, one in enumerate(text.splitlines()) if one.lstrip("▌ ").startswith(("▶ running   ", "● done   "))
        )
        assert first < second
        top = line(text, "▶ running", "█████▏░░░░░░ 43 %")
        assert "315 tok/s" in top
        assert "n1:8000" in top
        over = line(text, "● done")
        assert "throughput fp8" in over
        assert "before" in over
        assert "yes" in over
        assert "output" in over
        assert "measuring concurrency 4, step 2 of 3" in text
        assert "KV cache 6 %" in text

    run(look, (150, 40))


def test_what_does_not_count_says_so_and_what_was_refused_says_why() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(
            kept("latency", 60, valid=False),
            kept("priority", 90, seed=2, state="refused", headline={}, error="no scheduling"),
        )
        text = await press(app, pilot, "8")
        assert "NO" in line(text, "● not valid", "latency")
        assert "no scheduling" in line(text, "! refused", "priority")

    run(look, (120, 40))


def test_of_the_past_only_runs_up_to_then_and_nothing_is_begun() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept("latency", 3600), kept("throughput", 0, seed=2))
        await press(app, pilot, "8")
        text = await press(app, pilot, "shift+left")
        assert "latency" in line(text, "● done")
        assert "throughput" not in text
        text = await sent(app, pilot, "n")
        assert "l is live again" in text
        assert not isinstance(app.screen, Window)

    run(look)


def test_a_run_that_went_on_then_is_not_told_how_it_ended() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = kept("soak", 0)
        past.probing.put(with_row(one, began_ms=NOW - 200_000))
        await press(app, pilot, "8")
        text = await press(app, pilot, "left")
        assert "it went on then" in line(text, "▶ running", "soak")
        text = await press(app, pilot, "enter")
        assert "it went on then" in text
        assert "what was found" not in text

    run(look)


def test_of_a_prometheus_a_word_and_no_key() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.silent = Refused(
            "probe runs are kept by a gpumon daemon: a Prometheus has none", "http://p", "", 404
        )
        app.take(replace(LIVE, node=replace(LIVE.node, mode="prometheus")))
        text = await press(app, pilot, "8")
        assert "probe runs are kept by a gpumon daemon" in text
        assert "cannot be read" not in text
        await sent(app, pilot, "n")
        assert not isinstance(app.screen, Window)

    run(look)


def test_with_readonly_and_where_the_daemon_refuses_it_says_why() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(going(), kept("latency", 60))
        past.probing.refusal = "TCP is read-only here: use the unix socket"
        text = await press(app, pilot, "8")
        assert "only to look at: TCP is read-only here" in text
        assert "TCP is read-only here" in line(await sent(app, pilot, "n"), "probes  2")
        past.probing.refusal = ""
        app.readonly = True
        await press(app, pilot, "1", "8")
        for key in ("n", "x", "P"):
            assert "started with --readonly" in await sent(app, pilot, key)
        for key in ("b", "d"):
            assert "started with --readonly" in await sent(app, pilot, "G", key)
        assert (past.probing.started, past.probing.cancelled, past.probing.deleted) == ([], [], [])

    run(look)


def test_a_run_is_cancelled_after_it_was_asked() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = going()
        past.probing.put(one)
        await press(app, pilot, "8")
        assert "cancel this run?" in await press(app, pilot, "x")
        await press(app, pilot, "escape")
        assert past.probing.cancelled == []
        past.probing.error = "TCP is read-only here"
        assert "not cancelled: TCP is read-only here. Use the unix socket" in await sent(app, pilot, "x", "enter")
        past.probing.error = ""
        assert "is told to end" in await sent(app, pilot, "enter")
        assert past.probing.cancelled == [one.row.id]

    run(look)


def test_a_baseline_is_named_and_only_what_is_none_can_be_deleted() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = kept("latency", 60)
        past.probing.put(one)
        await press(app, pilot, "8")
        await sent(app, pilot, "b", "ctrl+u", *"may 1", "enter")
        assert past.probing.named == [(one.row.id, "may 1")]
        text = await sent(app, pilot, "d")
        assert "it is the baseline may 1" in text
        await sent(app, pilot, "b", "ctrl+u", "enter")
        assert past.probing.named[-1] == (one.row.id, "")
        assert "delete this result?" in await sent(app, pilot, "d")
        await sent(app, pilot, "y")
        assert past.probing.deleted == [one.row.id]
        assert "no probe has run. n begins one" in await sent(app, pilot)

    run(look)


def test_a_list_that_was_read_before_something_was_done_to_a_run_is_not_shown_after_it() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept("latency", 60, baseline="may"), kept("prefix", 90))
        assert "prefix" in await press(app, pilot, "8")
        page = app.page
        assert isinstance(page, ProbesScreen)
        before = await past.probing.listing()
        one, other = before.runs
        answered = asyncio.Event()

        async def late() -> Listing:
            await answered.wait()
            return before

        slow = SimpleNamespace(probing=SimpleNamespace(listing=late))
        reading = asyncio.create_task(page.read(cast("Asked", slow), None, 60))
        await asyncio.sleep(0)
        page.changed(await past.probing.baseline(one.id, ""))
        await past.probing.delete(other.id)
        page.deleted(other)
        for _ in range(2):  # at once, and when the late answer is there
            page.draw()
            await settle(app, pilot)
            text = "\n".join(text_of(app))
            assert "latency" in text
            assert "may" not in text
            assert "prefix" not in text
            answered.set()
            await reading

    run(look)


def test_a_run_that_is_there_no_more_is_not_compared() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept("latency", 60), kept("prefix", 90))
        await press(app, pilot, "8", "space", "down")
        page = app.page
        assert isinstance(page, ProbesScreen)
        assert page.under is not None
        del past.probing.details[page.under.key]  # deleted by somebody else, and read before a picture comes
        await page.read(cast("Asked", past), None, 600)
        await pilot.press("c")
        assert "one of them is there no more" in await press(app, pilot)
        assert app.page is page

    run(look)


def test_the_profiler_is_started_and_stopped_and_says_where_the_trace_is() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.servers = (*past.probing.servers, KnownServer("n1:8001", "http://n1:8001"))
        await press(app, pilot, "8")
        text = await sent(app, pilot, "P", "tab", "ctrl+u", *"20")
        assert "n1:8001" in text
        assert "it stops by itself" in await sent(app, pilot, "enter")
        assert "/tmp/traces" in await sent(app, pilot, "P", "s")
        assert past.probing.profiled == [("n1:8001", True, 20.0), ("n1:8000", False, 30.0)]
        text = await sent(app, pilot, "P", "ctrl+u", *"9000", "enter")
        assert "1 to 600 seconds" in text
        assert len(past.probing.profiled) == 2

    run(look)


# -- a new one ------------------------------------------------------------------------------------------------------


async def form(app: GpumonApp, pilot: Pilot[None], past: Past, *keys: str) -> str:
    """The form of a sweep."""
    app.take(QUIET)
    past.probing.next = going()
    await press(app, pilot, "8")
    await sent(app, pilot, "n")
    text = await press(app, pilot, *"throu", "enter")
    assert isinstance(app.screen, NewProbe)
    return await press(app, pilot, *keys) if keys else text


def test_a_workload_is_chosen_by_its_summary_and_started_with_what_was_changed() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(QUIET)
        await press(app, pilot, "8")
        text = await sent(app, pilot, "n")
        assert "one request at a time: what one person alone waits for" in line(text, "latency")
        await press(app, pilot, "escape")
        text = await form(app, pilot, past)
        assert "requests at once in each step; doubling without it" in text
        assert "meta-llama/Llama-3.1-8B" in line(text, "server", "n1:8000")
        keys = ("down", *"1,4", "down", "ctrl+u", *"64", "down", "space", "down", "right")
        await press(
            app, pilot, *keys, "down", *"try", "down", *"ttft=0.5s,tpot=40ms@p95,p90", "down", "2", "down", *"2m"
        )
        text = await sent(app, pilot, "enter")
        (spec,) = past.probing.started
        assert spec.workload == "throughput"
        assert (spec.server, spec.url, spec.yes) == ("n1:8000", "", False)
        assert spec.options == {"levels": "1,4", "max": "64", "ignore": True, "order": "down"}
        assert spec.name == "try"
        assert spec.slos == (Slo("ttft", 500.0, 90.0), Slo("tpot", 40.0, 95.0))
        assert (spec.repeats, spec.max_seconds) == (2, 120.0)
        assert isinstance(app.page, RunScreen), "it is opened"
        assert "measuring concurrency 4, step 2 of 3" in text

    run(look)


def test_what_is_usual_is_not_sent() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await form(app, pilot, past)
        await sent(app, pilot, "enter")
        assert past.probing.started[0].options == {}

    run(look)


def test_what_cannot_be_meant_is_told_before_anything_is_sent() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await form(app, pilot, past, *["up"] * 6, *"x=3")
        assert "not yet: 'x' is none of ttft, tpot, itl, e2el" in " ".join(text.split())
        await sent(app, pilot, "enter")
        assert past.probing.started == []
        text = await press(app, pilot, "ctrl+u", "down", "0")
        assert "not yet: repeats" in text
        past.probing.error = "throughput: max must be a whole number"
        text = await sent(app, pilot, "ctrl+u", "enter")
        assert "not started: throughput: max must be a whole number" in text
        assert isinstance(app.screen, NewProbe), "what was written stays"

    run(look)


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("repeats", "²", "repeats: a whole number"),
        ("repeats", "9" * 5000, "repeats: a whole number"),
        ("at most", "9" * 400 + "d", "at most: a time as 90s or 10m"),
        ("at most", "inf", "at most: a time as 90s or 10m"),
        ("at most", "nan", "at most: a time as 90s or 10m"),
        ("price an hour", "inf", "price an hour: a number above 0"),
        ("price an hour", "nan", "price an hour: a number above 0"),
    ],
)
def test_numbers_that_are_none_are_told(field: str, text: str, why: str) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await form(app, pilot, past)
        screen = app.screen
        assert isinstance(screen, NewProbe)
        while screen.here.name != field:
            await pilot.press("down")
        app.post_message(Paste(text))
        shown = " ".join((await press(app, pilot)).split())
        assert f"not yet: {why}" in shown
        await sent(app, pilot, "enter")
        assert past.probing.started == []

    run(look)


def test_a_server_that_serves_people_is_loaded_only_when_that_was_confirmed() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await form(app, pilot, past)
        busy = tuple(replace(one, server="n1:8000", running=12.0, waiting=3.0) for one in LIVE.engines[:1])
        app.take(replace(LIVE, engines=busy))
        text = " ".join((await sent(app, pilot, "enter")).split())
        assert "n1:8000 has other work: 12 running, 3 waiting" in text
        assert past.probing.started == []
        await press(app, pilot, "escape")
        assert isinstance(app.screen, NewProbe)
        await sent(app, pilot, "enter", "enter")
        assert [one.yes for one in past.probing.started] == [True]

    run(look)


def test_a_server_that_the_run_found_busy_is_asked_about_again() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await form(app, pilot, past)
        found = kept("throughput", 0, seed=3, state="busy", headline={}, error="5 running, 0 waiting")
        past.probing.next = msgspec.structs.replace(found, steps=(), findings=(), files=())
        text = await sent(app, pilot, "enter")
        assert "load it all the same?" in text
        assert "5 running, 0 waiting" in text
        past.probing.next = going()
        text = await sent(app, pilot, "enter")
        assert [one.yes for one in past.probing.started] == [False, True]
        assert "measuring concurrency 4" in text

    run(look)


def test_another_address_is_typed() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await form(app, pilot, past, "space")
        assert "which server?" in text
        await sent(app, pilot, "down", *"other:8000/", "enter")
        (spec,) = past.probing.started
        assert (spec.server, spec.url) == ("", "http://other:8000")

    run(look)


# -- one of them ----------------------------------------------------------------------------------------------------


def test_while_it_goes_on_it_has_its_steps_as_they_are_measured_and_what_is_now() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = going()
        past.probing.put(one)
        text = await press(app, pilot, "8", "enter")
        assert "≈ 95 s left  measuring concurrency 4, step 2 of 3" in text
        assert "the server is vLLM 0.32.0" in text
        assert "KV cache 6 %  0 waiting  GPU 61 %  580 W" in text
        assert "concurrency 1" in text
        assert "concurrency 16" not in text
        whole = kept("throughput", 0, seed=7)
        past.probing.put(msgspec.structs.replace(one, steps=whole.steps[:2]))
        await pilot.pause()
        app.take(QUIET)
        text = await sent(app, pilot)
        assert "○ now" in text, "where it is stands beside what was measured"
        assert "TTFT, by requests at once  ● p50  ◆ p99" in text
        past.probing.put(whole)
        text = await sent(app, pilot)
        assert "● done" in text
        assert text.index("what was found") < text.index("factor"), "findings come first"

    run(look, (120, 40))


def test_when_it_is_over_findings_come_first_the_gravest_on_top() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept())
        text = await press(app, pilot, "8", "enter")
        assert text.index("■ failures   BAD") < text.index("▲ disturbed  warning") < text.index("✓ knee")
        assert "✗ missed" in text or "✓ met" in text
        text = await press(app, pilot, "G")
        assert "what was probed" in text
        assert "report.html" in text
        assert "2 × H100" in text

    run(look)


def test_columns_that_do_not_fit_are_a_key_away() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept())
        text = await press(app, pilot, "8", "enter")
        assert "columns 1 of" in text
        assert "host CPU" not in text
        seen = ""
        for _ in range(5):
            seen += "\n" + await press(app, pilot, "v")
        assert "host CPU" in seen
        assert "client cores" in seen
        assert all(len(one) <= 80 for one in seen.splitlines())

    run(look, (80, 24))


def test_what_is_chosen_is_copied_numbers_sentences_and_files() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = kept()
        past.probing.put(msgspec.structs.replace(one, folder="/var/lib/gpumon/results/a"))
        await press(app, pilot, "8", "enter")
        await press(app, pilot, "y")
        assert app.copied == "/var/lib/gpumon/results/a"
        await press(app, pilot, "tab", "y")
        assert app.copied == "2 of 512 requests failed at concurrency 128: 1 shed (HTTP 429), 1 broken."
        page = app.page
        assert isinstance(page, RunScreen)
        while page.selected != "steps":
            await press(app, pilot, "tab")
        await press(app, pilot, "y")
        head, *rows = app.copied.splitlines()
        assert head.split("\t")[:3] == ["step", "tok/s", "factor"]
        assert [row.split("\t")[0] for row in rows] == ["concurrency 1", "concurrency 4", "concurrency 16"]
        await press(app, pilot, "tab", "y")
        assert app.copied.splitlines()[0].startswith("at once")
        assert len(app.copied.splitlines()) == 4
        while page.selected != "summary.md":
            await press(app, pilot, "tab")
        await press(app, pilot, "y")
        assert app.copied == "/var/lib/gpumon/results/a/summary.md"

    run(look)


def test_the_servers_graphs_are_asked_for_while_it_goes_on_alone() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        server = LIVE.engines[0].server
        past.probing.put(going(server=server), kept("latency", 60, server=server))
        await press(app, pilot, "8", "enter")
        await sent(app, pilot)
        assert "generation_h" in past.watched[-1][0]
        assert "power_h" in past.watched[-1][0]
        await press(app, pilot, "escape", "G", "enter")
        await sent(app, pilot)
        assert "generation_h" not in past.watched[-1][0]

    run(look)


def test_a_baseline_is_named_on_its_page_and_what_is_deleted_there_is_left() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept("latency", 60))
        await press(app, pilot, "8", "enter")
        text = await sent(app, pilot, "b", "ctrl+u", *"may", "enter")
        assert "baseline may" in line(text, "● done")
        text = await sent(app, pilot, "b", "ctrl+u", "enter")
        assert "baseline may" not in text
        await sent(app, pilot, "d")
        text = await sent(app, pilot, "enter")
        assert isinstance(app.page, ProbesScreen)
        assert len(past.probing.deleted) == 1

    run(look)


def test_the_same_again_is_a_form_filled_in() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(QUIET)
        one = kept("throughput", 60)
        spec = Spec(
            "throughput", "", "n1:8000", options={"max": 16, "ignore": True}, slos=one.spec.slos, max_seconds=90.0
        )
        past.probing.put(msgspec.structs.replace(one, spec=spec))
        past.probing.next = going()
        await press(app, pilot, "8", "enter")
        text = await sent(app, pilot, "a")
        assert "new probe: throughput" in text
        await sent(app, pilot, "enter")
        (again,) = past.probing.started
        assert again.options == {"max": "16", "ignore": True}
        assert (again.server, again.slos, again.max_seconds) == ("n1:8000", spec.slos, 90.0)

    run(look)


def test_one_is_begun_from_anywhere() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "2", ":", *"new probe", "enter")
        text = await sent(app, pilot)
        text = await sent(app, pilot)
        assert "which probe?" in text

    run(look)


def test_escape_leads_back_to_the_list() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept())
        await press(app, pilot, "8", "enter", "escape")
        assert isinstance(app.page, ProbesScreen)

    run(look)


def test_every_workload_is_drawn_at_every_size() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        names: tuple[WorkloadName, ...] = ("latency", "lengths", "prefix", "rate", "priority", "soak", "suite")
        past.probing.put(*(kept(name, 60 * n, seed=n) for n, name in enumerate(names)))
        await press(app, pilot, "8")
        for _ in names:
            text = await press(app, pilot, "enter")
            assert "what was found" in text
            assert all(len(one) <= app.size.width for one in text.splitlines())
            await press(app, pilot, "G", "escape", "down")

    for size in ((80, 24), (200, 50), (40, 12)):
        run(look, size)
