"""A server's log: what is an error, what is one error only, and a log that is rotated, cut, flooded or not there."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from monitor.samples import Event, Scrape, format_labels
from monitor.sources.source import SourceAbsent, SourceDown
from monitor.sources.vllm_log import ServerLog
from monitor.sources.vllm_log_lines import MAX_BYTES, FileLines, JournalLines

DEAD = (
    "(EngineCore pid=7) ERROR 11-20 20:30:31 [core.py:400] EngineCore encountered a fatal error.\n"
    "(EngineCore pid=7) ERROR 11-20 20:30:31 [core.py:400] Traceback (most recent call last):\n"
    "(EngineCore pid=7) ERROR 11-20 20:30:31 [core.py:400] RuntimeError: CUDA error: an illegal access\n"
)
BALANCE = (
    "(Worker pid=8) INFO 11-20 20:30:31 [eplb_state.py:634] EPLB step: 100 for model m/moe: avg_tokens=10.00, "
    "max_tokens=40, balancedness={}, steps until the next rearrangement: 5\n"
)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def polls(path: Path, *texts: str, old: str = "") -> list[Scrape]:
    """A poll after each text, 2 s apart, of a log that began with ``old``."""

    path.write_text(old)

    async def work() -> list[Scrape]:
        log = ServerLog("n1:8000", path=str(path))
        await log.open()
        try:
            seen = [await log.poll(0)]
            for k, text in enumerate(texts):
                append(path, text)
                seen.append(await log.poll(2000 * (k + 1)))
        finally:
            await log.close()
        return seen

    return asyncio.run(work())


def readings(scrape: Scrape) -> dict[str, float]:
    return {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}


def errors(scrape: Scrape) -> tuple[float, float]:
    got = readings(scrape)
    name = 'gpumon_engine_log_errors_total{{level="{}",server="n1:8000"}}'
    return got[name.format("error")], got[name.format("critical")]


def test_errors_are_counted_from_0_and_a_traceback_is_one_of_them(tmp_path: Path) -> None:
    before, after = polls(tmp_path / "log", DEAD + "INFO 11-20 20:30:31 [a.py:1] ERROR is a word here\n", old=DEAD)
    assert errors(before) == (0, 0), "what stood there before is not new"
    assert before.events == ()
    assert errors(after) == (0, 1)
    assert after.events == (
        Event(
            2000,
            "server_log",
            "critical",
            "n1:8000: EngineCore encountered a fatal error.",
            {"server": "n1:8000"},
            "RuntimeError: CUDA error: an illegal access",
        ),
    )
    assert readings(after)['gpumon_engine_log_lines_total{server="n1:8000"}'] == 4


def test_an_engine_that_died_is_critical_by_the_exception_at_the_end(tmp_path: Path) -> None:
    where = "(APIServer pid=9) ERROR 11-20 20:58:43 [async_llm.py:906] "
    lines = ("AsyncLLM output_handler failed.", "Traceback (most recent call last):", '  File "a.py", line 3, in run')
    last = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."
    after = polls(tmp_path / "log", "".join(f"{where}{line}\n" for line in (*lines, last)))[1]
    assert errors(after) == (0, 1)
    (event,) = after.events
    assert (event.severity, event.title) == ("critical", "n1:8000: AsyncLLM output_handler failed.")
    assert event.detail == last


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("ERROR 11-20 20:30:31 [core.py:4] text", "text"),  # vLLM 0.9
        ("\x1b[1;36m(APIServer pid=1)\x1b[0;0m ERROR 11-20 20:30:31 [core.py:4] text", "text"),  # on a terminal
        ("(VllmWorker rank=0 pid=3) ERROR 11-20 20:30:31 [core.py:4] text", "text"),
        ("(A pid=1) (Worker_TP0 pid=3) ERROR 11-20 20:30:31 [core.py:4] text", "text"),
        ("ERROR:    Exception in ASGI application", "Exception in ASGI application"),  # uvicorn
        ("ERROR 11-20 20:30:31 [a.py:4] bad key: Bearer sk-12345678", "bad key: Bearer ***"),
        ("ERROR 11-20 20:30:31 [a.py:4] \x07x\x1b]0;y\x07", "x ]0;y"),
    ],
)
def test_every_kind_of_error_line(tmp_path: Path, line: str, title: str) -> None:
    after = polls(tmp_path / "log", line + "\n")[1]
    assert errors(after) == (1, 0)
    (event,) = after.events
    assert (event.title, event.severity) == (f"n1:8000: {title}", "warning")


def test_a_repeat_is_counted_but_is_an_event_once_a_minute(tmp_path: Path) -> None:
    line = "ERROR 11-20 20:30:{:02} [a.py:4] out of cheese\n"
    seen = polls(tmp_path / "log", *(line.format(k) for k in range(40)))
    assert errors(seen[-1]) == (40, 0)
    assert [k for k, scrape in enumerate(seen) if scrape.events] == [1, 31]


def test_a_flood_is_counted_whole_and_gives_few_events(tmp_path: Path) -> None:
    flood = "".join(f"ERROR 11-20 20:30:31 [a.py:{k}] error {k}\n" for k in range(500))
    after = polls(tmp_path / "log", flood)[1]
    assert errors(after) == (500, 0)
    assert len(after.events) == 10
    assert after.facts["left_out"].startswith("490 errors")


def test_what_comes_faster_than_it_can_be_read_is_passed_over_and_said(tmp_path: Path) -> None:
    line = "x" * 99 + "\n"
    _, flooded, calm = polls(tmp_path / "log", line * (5 * MAX_BYTES // 100), DEAD)
    skipped = 'gpumon_engine_log_skipped_bytes_total{server="n1:8000"}'
    assert readings(flooded)[skipped] == len(line) * (5 * MAX_BYTES // 100) - MAX_BYTES
    assert errors(calm) == (0, 1)


def test_balancedness_of_experts_is_a_series_while_it_is_young_and_an_event_when_it_falls(tmp_path: Path) -> None:
    name = 'gpumon_engine_expert_balancedness_ratio{model_name="m/moe",server="n1:8000"}'
    texts = [BALANCE.format(ratio) for ratio in ("0.9000", "0.3125", "0.3000", "0.8000", "0.4000")]
    seen = polls(tmp_path / "log", *texts)
    assert name not in readings(seen[0])
    assert [readings(scrape)[name] for scrape in seen[1:]] == [0.9, 0.3125, 0.3, 0.8, 0.4]
    assert [k for k, scrape in enumerate(seen) if scrape.events] == [2, 5]
    assert seen[2].events[0].title == "n1:8000: its experts are loaded unevenly (balancedness 0.31)"
    seen = polls(tmp_path / "log", texts[0], *[""] * 300)
    assert name in readings(seen[300])
    assert name not in readings(seen[301])


def lines_of(path: Path, *steps: Callable[[], object]) -> list[list[str] | str]:
    """What a read gives at first and after each step; the reason where it gives nothing."""

    async def work() -> list[list[str] | str]:
        lines = FileLines(str(path))
        seen: list[list[str] | str] = []
        for step in (lambda: None, *steps):
            step()
            try:
                seen.append(await lines.read(5))
            except SourceDown as error:
                seen.append(str(error))
        await lines.close()
        return seen

    return asyncio.run(work())


def test_a_rotated_log_is_followed_and_its_end_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")

    def rotate() -> None:
        append(path, "last of the first\n")
        path.rename(tmp_path / "log.1")
        path.write_text("first of the second\n")

    seen = lines_of(
        path,
        lambda: append(path, "a\nhal"),
        lambda: append(path, "f\n"),
        rotate,
        lambda: path.rename(tmp_path / "log.2"),
        lambda: append(tmp_path / "log.2", "late\n"),
        lambda: path.write_text("third\n"),
    )
    assert seen == [[], ["a"], ["half"], ["last of the first", "first of the second"], [], ["late"], ["third"]]


def test_a_log_that_is_cut_in_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a long beginning\n")
    assert lines_of(path, lambda: path.write_text("new\n")) == [[], ["new"]]


def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "log"
    seen = lines_of(path, lambda: path.write_text("all of it\nis new\n"))
    assert seen == [f"{path}: No such file or directory", ["all of it", "is new"]]
    assert lines_of(tmp_path) == [f"{tmp_path}: Is a directory"]


def test_a_line_without_end_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("")
    seen = lines_of(path, *[lambda: append(path, "x" * 9000)] * 3, lambda: append(path, "\nnext\n"))
    assert seen[:4] == [[]] * 4
    assert [len(line) for line in seen[4]] == [8192, 4]


def journal(script: str, use: Callable[[JournalLines], Awaitable[None]]) -> None:
    """``use`` a journal whose ``journalctl`` is a Python script."""

    async def work() -> None:
        lines = JournalLines("vllm.service", command=(sys.executable, "-c", script))
        try:
            async with asyncio.timeout(60):
                await use(lines)
        finally:
            await lines.close()

    asyncio.run(work())


async def until(lines: JournalLines, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += await lines.read(1)
        await asyncio.sleep(0.01)
    return found


def test_a_units_journal_is_followed_from_now_on() -> None:
    script = "import sys, time\nprint(*sys.argv[1:], sep='\\n', flush=True)\ntime.sleep(600)"

    async def use(lines: JournalLines) -> None:
        asked = await until(lines, 6)
        assert "--follow" in asked
        assert "--lines=0" in asked
        assert "--unit=vllm.service" in asked

    journal(script, use)


def test_a_journal_that_may_not_be_read_says_so_and_is_tried_again() -> None:
    script = "import sys\nsys.exit('No journal files were opened due to insufficient permissions.')"

    async def use(lines: JournalLines) -> None:
        for _ in range(2):
            with pytest.raises(SourceDown) as caught:
                await until(lines, 1)
            assert "insufficient permissions" in str(caught.value)
            assert "group systemd-journal" in str(caught.value)

    journal(script, use)


def test_a_flood_of_the_journal_stays_bounded() -> None:
    line = "y" * 1000
    count = 4 * MAX_BYTES // 1000
    script = f"for _ in range({count}): print('{line}')\nprint('end', flush=True)\nimport time; time.sleep(600)"

    async def use(lines: JournalLines) -> None:
        await lines.read(1)
        for _ in range(6000):
            if lines._waiting and lines._waiting[-1] == "end":
                break
            await asyncio.sleep(0.01)
        found = await lines.read(1)
        assert sum(map(len, found)) <= MAX_BYTES
        assert lines.skipped == count * 1000 + 3 - sum(map(len, found))

    journal(script, use)


def test_a_machine_without_journalctl() -> None:
    async def work() -> None:
        await JournalLines("x", command=("no-such-program-here",)).read(1)

    with pytest.raises(SourceAbsent, match="no-such-program-here is not on this machine"):
        asyncio.run(work())


def test_a_log_is_a_file_or_a_unit() -> None:
    for arguments in ({}, {"path": "a", "unit": "b"}):
        with pytest.raises(ValueError, match="a file or the journal"):
            ServerLog("n1:8000", **arguments)  # type: ignore[arg-type]


def test_a_log_is_read_again_once_a_thread_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_text("")

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        lines = FileLines(str(path))
        assert await lines.read(30) == []
        path.write_text("a\n")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", none)
            with pytest.raises(SourceDown, match="Resource temporarily unavailable"):
                await lines.read(30)
        assert await lines.read(30) == ["a"]
        await lines.close()

    asyncio.run(story())
