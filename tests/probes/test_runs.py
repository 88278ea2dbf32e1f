"""The manager of runs, over processes that only say that they load something."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitor.probes import runs as runs_module
from monitor.probes.errors import BadOptions, ProbeError
from monitor.probes.headline import sweep
from monitor.probes.kept import InTheWay, Limits, NoSuchRun
from monitor.probes.names import resolve, slug
from monitor.probes.process import Patience
from monitor.probes.profiles import Profiles
from monitor.probes.runs import Runs, capacity
from monitor.probes.schema import ENDED, RunDetail, RunRow, Secrets, Slo, Spec
from monitor.probes.series import FAMILIES, ProbeSeries
from monitor.probes.servers import Server, address, choose, label
from monitor.samples import NAME, Event, ScrapeBuilder
from tests.probes.fake_run import LAUNCH
from tests.probes.made_results import made

QUICK = Patience(cancelled=0.3, terminated=0.3, silent=30.0, leaving=5.0)


class Stage:
    """A manager, and what it told."""

    def __init__(self, runs: Runs, events: list[Event]) -> None:
        self.runs = runs
        self.events = events

    async def end(self, row: RunRow) -> RunDetail:
        """Wait until a run is over and kept."""
        async with asyncio.timeout(30):
            while True:
                detail = await self.runs.detail(row.id)
                if detail.row.state in ENDED and not any(one == row.id for one in self.runs._live):
                    return detail
                await asyncio.sleep(0.02)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something."""
        async with asyncio.timeout(30):
            while not is_so():  # noqa: ASYNC110 -- what is waited for has no event
                await asyncio.sleep(0.01)

    async def measured(self, row: RunRow) -> None:
        """Wait until a run has a step."""
        await self.until(lambda: bool(self.runs._live[row.id].steps))

    async def play(self, plays: str, workload: Any = "throughput", **labels: str) -> RunRow:
        """Start one that plays something."""
        return await self.runs.start(Spec(workload, "", labels={"play": plays, **labels}), by="alice")

    def series(self) -> dict[str, float]:
        """Its series, as text."""
        builder = ScrapeBuilder()
        for family in FAMILIES:
            builder.family(*family)
        ProbeSeries(self.runs).add_to(builder)
        scrape = builder.build(1_000)
        found = {}
        for labels, value in zip(scrape.shape.series, scrape.values, strict=True):
            pairs = {key: text for key, text in labels if key != NAME}
            name = dict(labels)[NAME]
            found[f"{name}{{{','.join(f'{key}={pairs[key]}' for key in sorted(pairs))}}}"] = value
        return found


@asynccontextmanager
async def stage(folder: Path, **more: Any) -> AsyncIterator[Stage]:
    events: list[Event] = []
    servers = more.pop("servers", [Server("n1:8000", "http://127.0.0.1:8000", "m", lambda: Secrets("ours"))])
    given: dict[str, Any] = {"launch": LAUNCH, "hostname": "n1", "patience": QUICK, **more}
    runs = Runs(folder / "results", servers=lambda: servers, tell=events.append, **given)
    runs.open()
    try:
        yield Stage(runs, events)
    finally:
        await runs.close()


def play(folder: Path, story: Callable[[Stage], Awaitable[None]], **more: Any) -> None:
    async def run() -> None:
        async with stage(folder, **more) as one:
            await story(one)

    asyncio.run(run())


def test_a_run_is_followed_and_kept(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("done")
        assert (row.state, row.server, row.by, row.name) == ("starting", "n1:8000", "alice", "throughput")
        assert on.runs.busy
        detail = await on.end(row)
        assert detail.row.state == "done"
        assert detail.row.model == "fake-model"
        assert detail.row.headline == {"output_throughput": 200.0, "ttft_p50_ms": 20.0}
        assert [step.name for step in detail.steps] == ["concurrency 1", "concurrency 2"]
        assert [note.text for note in detail.notes] == ["a note"]
        assert detail.findings[0].topic == "knee"
        assert detail.spec.url == "http://127.0.0.1:8000"
        assert not on.runs.busy
        assert [(one.kind, one.severity) for one in on.events] == [("probe_started", "info"), ("probe_ended", "info")]
        assert on.events[0].labels == {"server": "n1:8000", "probe": "throughput", "run": row.id}
        path = await on.runs.kept.file(row.id, "steps/01.json")
        assert path.read_text() == "{}"
        for name in ("../index.json", "nothing", "/etc/passwd", ""):
            with pytest.raises(NoSuchRun):
                await on.runs.kept.file(row.id, name)

    play(tmp_path, story)


def test_a_file_that_is_a_link_out_of_its_folder_is_not_given(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("done")
        await on.end(row)
        summary = on.runs.kept.folder(row.id) / "summary.md"
        summary.unlink()
        summary.symlink_to("/etc/hostname")
        with pytest.raises(NoSuchRun):
            await on.runs.kept.file(row.id, "summary.md")

    play(tmp_path, story)


def test_secrets_reach_the_process_and_nothing_else(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("crash")
        detail = await on.end(row)
        assert detail.row.state == "lost"
        assert "ended with code 3" in detail.row.error
        assert "the key is …" in detail.row.error
        assert "no such thing" in detail.row.error
        assert on.events[-1].kind == "probe_failed"
        assert "lost" in on.events[-1].title
        assert "ours" not in str(on.events)

    play(tmp_path, story)
    assert b"ours" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_one_at_a_time_for_each_server(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        first = await on.play("wait")
        with pytest.raises(InTheWay, match="runs against n1:8000 already"):
            await on.play("done")
        # The same server, by the loopback's name.
        with pytest.raises(InTheWay):
            await on.runs.start(Spec("latency", "http://localhost:8000/v1"))
        other = await on.runs.start(Spec("latency", "http://elsewhere:8000", labels={"play": "done"}))
        assert other.server == "elsewhere:8000"
        await on.end(other)
        on.runs.cancel(first.id)
        assert (await on.end(first)).row.state == "cancelled"
        with pytest.raises(InTheWay, match="does not run"):
            on.runs.cancel(first.id)

    play(tmp_path, story)


def test_many_starts_at_once_give_one_run(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        found = await asyncio.gather(*(on.play("wait") for _ in range(5)), return_exceptions=True)
        rows = [one for one in found if isinstance(one, RunRow)]
        assert len(rows) == 1
        assert sum(isinstance(one, InTheWay) for one in found) == 4

    play(tmp_path, story)


def test_a_run_that_does_not_end_is_killed(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("deaf")
        one = on.runs._live[row.id]
        await on.until(lambda: one.progress is not None and one.progress.step == "deaf")
        on.runs.cancel(row.id)
        on.runs.cancel(row.id)  # again changes nothing
        detail = await on.end(row)
        assert detail.row.state == "lost"
        assert "was killed" in detail.row.error
        assert [step.name for step in detail.steps] == ["concurrency 1"]

    play(tmp_path, story)


def test_a_run_that_is_killed_is_lost(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("wait")
        process = on.runs._live[row.id]._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        detail = await on.end(row)
        assert detail.row.state == "lost"
        assert "SIGKILL" in detail.row.error

    play(tmp_path, story)


def test_the_profiler_of_a_run_that_is_killed_is_stopped(tmp_path: Path) -> None:
    posted: list[tuple[str, str, str | None]] = []

    @asynccontextmanager
    async def posting(url: str, secrets: Secrets) -> AsyncIterator[Callable[[str], Awaitable[tuple[int, str]]]]:
        async def post(path: str) -> tuple[int, str]:
            posted.append((url, path, secrets.api_key))
            return 200, ""

        yield post

    async def killed(on: Stage, plays: str) -> RunDetail:
        row = await on.play(plays)
        one = on.runs._live[row.id]
        await on.until(lambda: any(note.text == "a note" for note in one.notes))
        assert one._process is not None
        os.kill(one._process.pid, signal.SIGKILL)
        return await on.end(row)

    async def story(on: Stage) -> None:
        on.runs.profiles = Profiles(posting)
        await killed(on, "wait")
        assert posted == [], "it had not begun to trace"
        detail = await killed(on, "profiled")
        await on.until(lambda: bool(posted))
        assert posted == [("http://127.0.0.1:8000", "/stop_profile", "ours")]
        assert "told to stop its torch profiler" in detail.notes[-1].text
        await killed(on, "profile written")
        assert len(posted) == 1, "that was over"

    play(tmp_path, story)


def test_a_run_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        detail = await on.end(await on.play("silent"))
        assert detail.row.state == "lost"
        assert "said nothing for 0.5 s" in detail.row.error

    play(tmp_path, story, patience=Patience(silent=0.5))


def test_a_line_without_end_is_not_read_on(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        detail = await on.end(await on.play("long line"))
        assert detail.row.state == "lost"
        assert "a line of more than 32 MiB" in detail.row.error

    play(tmp_path, story)


def test_a_process_that_cannot_be_started_is_told_and_not_kept(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        with pytest.raises(ProbeError, match="could not be started"):
            await on.play("done")
        assert on.runs.rows() == []
        assert not on.runs.busy

    play(tmp_path, story, launch=("/nowhere/at/all",))


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file is in the way")

    async def story(on: Stage) -> None:
        with pytest.raises(ProbeError, match="cannot be kept in"):
            await on.play("done")

    play(tmp_path, story)


def test_a_result_that_the_disk_does_not_take_is_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("wait")
        await on.measured(row)
        monkeypatch.setattr(on.runs.kept, "_write_files", full)
        on.runs.cancel(row.id)
        detail = await on.end(row)
        assert (detail.row.state, len(detail.steps)) == ("cancelled", 1)
        assert "No space left" in on.runs.kept.problem
        assert on.events[-1].kind == "probe_ended"

    def full(files: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    play(tmp_path, story)


def test_a_busy_server_is_no_failure_and_no_load(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("busy")
        detail = await on.end(row)
        assert detail.row.state == "busy"
        assert detail.row.error == "16 running, 0 waiting; --yes loads it anyway"
        assert on.events[-1].kind == "probe_ended"
        assert "sent nothing: 16 running" in on.events[-1].title

    play(tmp_path, story)


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    wrong: Mapping[str, Spec] = {
        "no server 'other:1'": Spec("latency", "", server="other:1"),
        "is no address": Spec("latency", "ftp://x"),
        "goes on after the port": Spec("latency", "http://x:1/metrics"),
        "a password has no place": Spec("latency", "http://me:secret@x:1"),
        "requests must be": Spec("latency", "http://x:1", options={"requests": 0}),
        "no option 'requets'": Spec("latency", "http://x:1", options={"requets": 1}),
        "repeats must be": Spec("latency", "http://x:1", repeats=0),
        "max_seconds": Spec("latency", "http://x:1", max_seconds=0.0),
        "slo ttft": Spec("latency", "http://x:1", slos=(Slo("ttft", 100, 20),)),
        "labels": Spec("latency", "http://x:1", labels={str(n): "" for n in range(30)}),
        "price_per_hour": Spec("latency", "http://x:1", price_per_hour=-1.0),
        "is no name": Spec("latency", "http://x:1", name="a\nb"),
    }

    async def story(on: Stage) -> None:
        for words, spec in wrong.items():
            with pytest.raises(BadOptions, match=words) as caught:
                await on.runs.start(spec)
            assert "secret" not in str(caught.value)
        assert on.runs.rows() == []

    play(tmp_path, story)


def test_options_come_as_text_too_and_are_kept_as_what_they_are(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        spec = Spec("latency", "", options={"requests": "5", "seconds": "1m"}, labels={"play": "done"})
        detail = await on.end(await on.runs.start(spec))
        assert detail.spec.options == {"requests": 5, "seconds": 60.0}

    play(tmp_path, story)


def test_changes_come_as_they_happen(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        row = await on.play("wait")
        revision, steps, notes = -1, 0, 0
        while notes == 0:
            revision, detail, steps_before, notes_before = await on.runs.changes(row.id, revision, steps, notes, 10)
            steps, notes = steps_before + len(detail.steps), notes_before + len(detail.notes)
        assert steps == 1
        waiting = asyncio.create_task(on.runs.changes(row.id, revision, steps, notes, 10))
        await asyncio.sleep(0)
        assert not waiting.done()
        _, detail, _, _ = await on.runs.changes(row.id, revision, steps, notes, 0.01)
        assert detail.steps == ()
        # Who knows of a time before a restart gets the whole.
        _, detail, before, _ = await on.runs.changes(row.id, 10_000, 5, 5, 0)
        assert (len(detail.steps), before) == (1, 0)
        on.runs.cancel(row.id)
        _, detail, _, _ = await waiting
        await on.end(row)
        _, detail, before, _ = await on.runs.changes(row.id, revision, steps, notes, 10)
        assert detail.row.state == "cancelled"
        assert before == 0

    play(tmp_path, story)


def test_the_manager_ends_its_runs_and_they_keep_what_they_had(tmp_path: Path) -> None:
    rows: list[RunRow] = []

    async def story(on: Stage) -> None:
        rows.append(await on.play("wait"))
        await on.measured(rows[0])
        await on.runs.close()
        with pytest.raises(InTheWay, match="ending"):
            await on.play("done")

    play(tmp_path, story)

    async def after(on: Stage) -> None:
        detail = await on.runs.detail(rows[0].id)
        assert detail.row.state == "cancelled"
        assert len(detail.steps) == 1
        assert "summary.md" in detail.files

    play(tmp_path, after)


def test_a_restart_keeps_the_list(tmp_path: Path) -> None:
    before: list[RunRow] = []

    async def first(on: Stage) -> None:
        for workload in ("throughput", "latency"):
            await on.end(await on.play("done", workload))
        await on.runs.baseline(on.runs.rows()[0].id, "fp16")
        before.extend(on.runs.rows())

    async def second(on: Stage) -> None:
        assert on.runs.rows() == before
        assert len((await on.runs.detail(before[1].id)).steps) == 2
        assert before[0].baseline == "fp16"

    play(tmp_path, first)
    play(tmp_path, second)


def killed(folder: Path, plays: str) -> str:
    """Have a manager killed while a run plays; its id."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom tests.probes.test_runs import stage\n"
        "async def main():\n"
        f"    async with stage(Path({str(folder)!r})) as on:\n"
        f"        row = await on.play({plays!r})\n"
        "        await on.measured(row)\n"
        "        sys.stdout.write(row.id + '\\n'); sys.stdout.flush()\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )

    async def run() -> str:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        id = (await child.stdout.readline()).decode().strip()
        child.kill()
        await child.wait()
        return id

    return asyncio.run(run())


@pytest.mark.parametrize("plays", ["wait", "slow to write"])
def test_after_a_manager_that_was_killed_its_runs_result_is_found(tmp_path: Path, plays: str) -> None:
    id = killed(tmp_path, plays)

    async def story(on: Stage) -> None:
        async with asyncio.timeout(30):
            while (row := resolve(on.runs.rows(), id)).state != "cancelled":
                assert row.state == "lost"
                await on.runs.detail(id)
                await asyncio.sleep(0.05)
        detail = await on.runs.detail(id)
        assert [step.name for step in detail.steps] == ["concurrency 1"]
        assert detail.row.by == "alice"
        assert "summary.md" in detail.files

    play(tmp_path, story)


def test_what_is_found_again_is_listed_once_it_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = killed(tmp_path, "wait")

    async def story(on: Stage) -> None:
        write, seen = on.runs.kept._write_files, []

        def look(files: dict[str, bytes]) -> None:
            seen.append((sorted(files), on.runs.kept.entries[id].row.state))
            write(files)

        monkeypatch.setattr(on.runs.kept, "_write_files", look)
        await on.until(lambda: len(seen) >= 2)
        assert seen[:2] == [([f"{id}.json"], "lost"), (["index.json"], "cancelled")]

    play(tmp_path, story)


def test_results_are_looked_at_again_once_there_are_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = killed(tmp_path, "wait")

    async def story(on: Stage) -> None:
        summary, asked = on.runs.kept.summary, 0

        def refused(id: str) -> RunDetail | None:
            nonlocal asked
            asked += 1
            raise OSError(errno.EAGAIN, "no thread can be started")

        monkeypatch.setattr(on.runs.kept, "summary", refused)
        with pytest.raises(ProbeError, match=r"now: no thread"):
            await on.runs.detail(id)
        await on.until(lambda: asked >= 2)
        monkeypatch.setattr(on.runs.kept, "summary", summary)
        await on.until(lambda: resolve(on.runs.rows(), id).state == "cancelled")
        monkeypatch.setattr("monitor.probes.kept._is_within", lambda path, folder: refused(id))
        with pytest.raises(ProbeError, match=r"now: no thread"):
            await on.runs.kept.file(id, "summary.md")

    play(tmp_path, story)


def test_a_folder_that_was_copied_here_is_kept_by_its_own_name(tmp_path: Path) -> None:
    ids: list[str] = []

    async def first(on: Stage) -> None:
        row = await on.play("done")
        await on.end(row)
        ids.append(row.id)

    play(tmp_path, first)
    copy = f"{ids[0]}-copy"
    shutil.copytree(tmp_path / "results" / ids[0], tmp_path / "results" / copy)

    async def second(on: Stage) -> None:
        await on.until(lambda: len(on.runs.rows()) == 2)
        assert {row.id for row in on.runs.rows()} == {ids[0], copy}
        assert (await on.runs.kept.file(copy, "summary.md")).parent.name == copy
        await on.runs.delete(copy)
        assert (tmp_path / "results" / ids[0] / "summary.md").exists()

    play(tmp_path, second)


def test_an_index_that_is_broken_is_made_anew(tmp_path: Path) -> None:
    rows: list[RunRow] = []

    async def first(on: Stage) -> None:
        row = await on.play("done")
        await on.end(row)
        rows.extend(on.runs.rows())

    play(tmp_path, first)
    index = tmp_path / "results" / "index.json"
    index.write_text('{"entries": [{')

    async def second(on: Stage) -> None:
        await on.until(lambda: on.runs.rows() == rows and index.exists())
        assert (tmp_path / "results" / "index.json.bad").exists()

    play(tmp_path, second)
    assert json.loads(index.read_text())["entries"]


def test_what_is_too_much_goes_and_baselines_stay(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        ids = []
        for number in range(5):
            row = await on.play("done", name=str(number))
            await on.end(row)
            ids.append(row.id)
            if number == 0:
                await on.runs.baseline(row.id, "first")
        assert {row.id for row in on.runs.rows()} == {ids[0], ids[3], ids[4]}
        assert not (tmp_path / "results" / ids[1]).exists()
        assert not (tmp_path / "results" / f"{ids[1]}.json").exists()
        assert (tmp_path / "results" / ids[0] / "summary.md").exists()

    play(tmp_path, story, limits=Limits(runs=2))


def test_the_newest_stays_whatever_it_takes(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        await on.end(await on.play("done"))
        row = await on.play("done")
        await on.end(row)
        assert [one.id for one in on.runs.rows()] == [row.id]

    play(tmp_path, story, limits=Limits(bytes=1))


def test_baselines_and_deleting(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        one, two = await on.play("done"), None
        await on.end(one)
        two = await on.play("done")
        await on.end(two)
        await on.runs.baseline(one.id, "fp16")
        await on.runs.baseline(two.id, "fp16")  # takes the name
        assert [row.baseline for row in on.runs.rows()] == ["fp16", ""]
        with pytest.raises(InTheWay, match="baseline 'fp16'"):
            await on.runs.delete(two.id)
        for name in ("a b", "../x", "x" * 80):
            with pytest.raises(ProbeError):
                await on.runs.baseline(one.id, name)
        await on.runs.baseline(two.id, "")
        await on.runs.delete(two.id)
        assert [row.id for row in on.runs.rows()] == [one.id]
        with pytest.raises(NoSuchRun):
            await on.runs.delete(two.id)
        busy = await on.play("busy")
        await on.end(busy)
        with pytest.raises(InTheWay, match="measures nothing"):
            await on.runs.baseline(busy.id, "x")
        running = await on.play("wait")
        for refused in (on.runs.delete(running.id), on.runs.baseline(running.id, "x")):
            with pytest.raises(InTheWay, match="still running"):
                await refused

    play(tmp_path, story)


def test_the_series_say_what_runs_and_what_came(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        assert on.series() == {}
        row = await on.play("wait")
        key = "gpumon_probe_running{probe=throughput,server=n1:8000}"
        await on.until(lambda: on.series() == {key: 1.0})
        on.runs.cancel(row.id)
        await on.end(row)
        assert on.series() == {key: 0.0}  # one that was cancelled is no result
        base = await on.play("done")
        await on.end(base)
        assert on.series()["gpumon_probe_capacity_tokens_per_second{server=n1:8000}"] == 200.0
        assert on.series()["gpumon_probe_result{figure=ttft_p50_ms,probe=throughput,server=n1:8000}"] == 20.0
        await on.end(await on.play("done", invalid="yes", speed="9"))
        assert on.series()["gpumon_probe_result{figure=ttft_p50_ms,probe=throughput,server=n1:8000}"] == 20.0
        assert not [name for name in on.series() if "ratio" in name]
        await on.runs.baseline(base.id, "fp16")
        ratio = "gpumon_probe_baseline_ratio{baseline=fp16,figure=ttft_p50_ms,probe=throughput,server=n1:8000}"
        assert on.series()[ratio] == 1.0
        await on.end(await on.play("done", speed="0.5"))
        assert on.series()[ratio] == 2.0
        # One that does not count may be named and kept, and nothing is held against it.
        cached = await on.play("done", invalid="yes", speed="9")
        await on.end(cached)
        await on.runs.baseline(cached.id, "cached")
        assert {name for name in on.series() if "ratio" in name and "baseline=cached" in name} == set()
        assert on.series()[ratio] == 2.0
        # Other options ask for something else: nothing is held against it.
        other = Spec("throughput", "", options={"output_len": 7}, labels={"play": "done"})
        await on.end(await on.runs.start(other))
        assert ratio not in on.series()

    play(tmp_path, story)


def test_what_a_server_can_is_what_the_sweep_says() -> None:
    result = made("throughput")
    assert capacity(result.steps) == sweep(result.steps)["output_throughput"]
    assert capacity(made("latency").steps) is None


def test_of_many_servers_the_series_do_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "_RAN", 2)

    async def story(on: Stage) -> None:
        for number in range(3):
            spec = Spec("latency", f"http://h{number}:1", labels={"play": "busy"})
            await on.end(await on.runs.start(spec))
        assert list(on.runs.loaded) == [("h1:1", "latency"), ("h2:1", "latency")]

    play(tmp_path, story)


def test_a_run_of_a_simulated_server_knows_it(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        detail = await on.end(await on.play("done"))
        assert detail.spec.simulated

    play(tmp_path, story, servers=[Server("sim:8000", "http://sim:8000", simulated=True)])


def test_two_results_are_compared_by_name(tmp_path: Path) -> None:
    async def story(on: Stage) -> None:
        base = await on.play("done")
        await on.end(base)
        await on.runs.baseline(base.id, "fp16")
        later = await on.play("done")
        await on.end(later)
        found = await on.runs.compare("fp16", later.id)
        assert found.changes
        with pytest.raises(NoSuchRun):
            await on.runs.compare("fp8", later.id)

    pytest.importorskip("monitor.probes.compare")
    play(tmp_path, story)


def test_few_results_are_compared_at_once(tmp_path: Path) -> None:
    """Who may only look cannot fill the machine with processes."""
    marks = tmp_path / "marks"
    marks.mkdir()
    code = (
        "import os, sys, time\n"
        f"mark = os.path.join({str(marks)!r}, str(os.getpid()))\n"
        "open(mark, 'w').close()\n"
        f"there = len(os.listdir({str(marks)!r}))\n"
        "time.sleep(0.2)\n"
        "os.remove(mark)\n"
        "sys.exit(str(there))\n"
    )

    async def story(on: Stage) -> None:
        row = await on.play("done")
        await on.end(row)
        found = await asyncio.gather(*(on.runs.compare(row.id, row.id) for _ in range(6)), return_exceptions=True)
        assert {str(one) for one in found} <= {"1", "2"}

    play(tmp_path, story, aside=(sys.executable, "-c", code))


def test_a_name_means_the_newest() -> None:
    def row(id: str, **more: Any) -> RunRow:
        return RunRow(id, more.pop("name", "latency"), "latency", "s", "m", "done", 1, **more)

    rows = [row("20261121-2-b"), row("20261121-1-a", baseline="fp16"), row("20261120-1-c", name="mine")]
    assert resolve(rows, "latency").id == "20261121-2-b"
    assert resolve(rows, "fp16").id == "20261121-1-a"
    assert resolve(rows, "20261120").id == "20261120-1-c"
    assert resolve(rows, "mine").id == "20261120-1-c"
    with pytest.raises(NoSuchRun, match="say more of it"):
        resolve(rows, "20261121")
    for name in ("", "nothing"):
        with pytest.raises(NoSuchRun):
            resolve(rows, name)


def test_servers_are_chosen_by_label_or_address() -> None:
    one = Server("n1:8000", "http://127.0.0.1:8000")
    two = Server("gpu7:8001", "https://gpu7:8001")
    assert choose([one, two], "gpu7:8001", "", "n1") is two
    assert choose([one, two], "", "http://localhost:8000", "n1") is one
    assert choose([one, two], "", "http://n1:8000/v1/", "n1") is one
    assert choose([one], "", "", "n1") is one
    other = choose([one, two], "", "http://localhost:9000", "n1")
    assert (other.name, other.url, other.known) == ("n1:9000", "http://localhost:9000", False)
    with pytest.raises(BadOptions, match="n1:8000, gpu7:8001"):
        choose([one, two], "", "", "n1")
    with pytest.raises(BadOptions, match="give its address"):
        choose([], "", "", "n1")
    assert address("https://h") == "https://h:443"
    assert label("http://[::1]:8000", "n1") == "n1:8000"
    assert slug("FP8, 1st try!") == "fp8-1st-try"
    assert slug("…") == "probe"


def test_what_is_kept_is_one_line_each() -> None:
    """The list is read at the start of the daemon: it has no steps and no requests."""
    assert {"steps", "records"} & {field.name for field in msgspec.structs.fields(RunRow)} == set()
