"""How a probe run looks on a terminal, while it runs and when it is over; and as lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from monitor.client import format as words
from monitor.client.format import ABSENT, clean
from monitor.probes.figures import about
from monitor.probes.schema import Finding, Latency, Progress, RunDetail, Step

_NOTE_STYLES = {"good": "green", "info": "", "warning": "yellow", "bad": "red"}
_GLYPHS = {"good": "✓", "info": "·", "warning": "!", "bad": "✗"}
_SAID_EVERY = 15.0
"""Seconds between two lines of progress where there is no terminal."""
_WIDE = 100


class View(Protocol):
    """What a run is shown on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, detail: RunDetail) -> None:
        """The run as it is now."""

    def say(self, text: str, level: str = "info") -> None:
        """A line that stays."""


def view(*, quiet: bool = False) -> View:
    """A live one on a terminal, lines elsewhere. ``quiet``: standard output is for something else."""
    console = Console(stderr=quiet, highlight=False)
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else Lines()


class LiveView:
    """A table of the steps, a bar, and what happens now; notes go by above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._notes = 0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(Text(""))
        self._live.stop()

    def show(self, detail: RunDetail) -> None:
        for note in detail.notes[self._notes :]:
            self.say(note.text, note.level)
        self._notes = len(detail.notes)
        self._live.update(picture(detail, self._console.width, self._console.height))

    def say(self, text: str, level: str = "info") -> None:
        self._console.print(Text(f"{_GLYPHS.get(level, '·')} {clean(text)}", style=_NOTE_STYLES.get(level, "")))


class Lines:
    """A line for each step and note, and now and then one of where it is; on standard error."""

    def __init__(self) -> None:
        self._steps = self._notes = 0
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, detail: RunDetail) -> None:
        for step in detail.steps[self._steps :]:
            click.echo(step_line(step), err=True)
        for note in detail.notes[self._notes :]:
            self.say(note.text, note.level)
        self._steps, self._notes = len(detail.steps), len(detail.notes)
        progress = detail.row.progress
        if progress is not None and time.monotonic() - self._said >= _SAID_EVERY:
            self._said = time.monotonic()
            click.echo(f"{where(progress)}; {now(progress)}", err=True)

    def say(self, text: str, level: str = "info") -> None:
        click.echo(f"{_GLYPHS.get(level, '·')} {clean(text)}", err=True)


# -- parts -----------------------------------------------------------------------------------------------------------


def picture(detail: RunDetail, width: int, height: int) -> RenderableType:
    """All of it, in so many columns and lines."""
    row, progress = detail.row, detail.row.progress
    head = Text(f"{row.workload} against {clean(row.server)}", style="bold")
    if row.model:
        head.append(f"  {clean(row.model)}", style="dim")
    parts: list[RenderableType] = [head]
    if detail.steps:
        parts.append(steps_table(detail.steps[-max(3, height - 8) :], width))
    if progress is None:
        parts.append(Text("waiting for its process …", style="dim"))
        return Group(*parts)
    if progress.fraction is not None:
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(
            total=1.0, completed=min(max(progress.fraction, 0.0), 1.0), width=max(10, min(40, width - 50))
        )
        line.add_row(bar, f"{progress.fraction * 100:3.0f} %", where(progress))
        parts.append(line)
    else:
        parts.append(Text(where(progress)))
    parts.append(Text(now(progress), style="cyan"))
    return Group(*parts)


def where(progress: Progress) -> str:
    """``measuring concurrency 8, step 4 of 9, 2 min left``."""
    said = f"{progress.phase} {clean(progress.step)}".strip()
    if progress.steps:
        said += f", step {progress.step_index + 1} of {progress.steps}"
    if progress.seconds_left is not None:
        said += f", {words.duration(progress.seconds_left)} left"
    return said


def now(progress: Progress) -> str:
    """The last second, in a line; what is not known is left out."""
    live = progress.live
    said = [f"{live.running} in flight", f"{live.completed} done"]
    if live.failed:
        said.append(f"{live.failed} FAILED")
    for value, text in (
        (live.output_per_s, f"{per_second(live.output_per_s)} tok/s"),
        (live.ttft_ms, f"TTFT {milliseconds(live.ttft_ms)}"),
        (live.itl_ms, f"ITL {milliseconds(live.itl_ms)}"),
        (live.waiting or None, f"{words.number(live.waiting)} waiting"),
        (live.kv_usage, f"KV {words.percent(live.kv_usage)}"),
        (live.gpu_util, f"GPU {words.percent(live.gpu_util)}"),
        (live.power_w, f"{words.number(live.power_w)} W"),
    ):
        if value is not None:
            said.append(text)
    return " · ".join(said)


def milliseconds(value: float | None) -> str:
    """``34 ms``, ``1.2 s``."""
    return words.seconds(None if value is None else value / 1000)


def _pair(one: Latency) -> str:
    if one.median is None:
        return ABSENT
    return f"{milliseconds(one.median)} / {milliseconds(one.p99)}"


def _requests(step: Step) -> str:
    failed = step.metrics.failed
    return f"{step.metrics.completed}" + (f" +{failed} failed" if failed else "")


def _mark(step: Step) -> tuple[str, str]:
    if step.invalid:
        return f"does not count: {clean(step.invalid[0])}", "red"
    if step.metrics.slo_met is not None:
        return ("targets met", "green") if step.metrics.slo_met else ("targets missed", "yellow")
    return "", ""


def step_name(step: Step) -> str:
    """Its name, with the number of the repeat after the first."""
    return clean(step.name) + (f" #{step.repeat + 1}" if step.repeat else "")


def step_line(step: Step) -> str:
    """One step in a line."""
    made = step.metrics
    mark, _ = _mark(step)
    parts = [
        f"{step.workload} {step_name(step)}: {_requests(step)} in {made.duration_s:.1f} s",
        f"{per_second(made.output_throughput)} tok/s",
        f"TTFT {_pair(made.ttft)}",
        f"TPOT {_pair(made.tpot)}",
        f"E2EL {_pair(made.e2el)}",
    ]
    return ", ".join(parts) + (f"; {mark}" if mark else "")


def steps_table(steps: Sequence[Step], width: int) -> Table:
    """The steps, a line each; fewer columns where there is no room."""
    several = len({step.workload for step in steps}) > 1
    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="dim")
    table.add_column("step", no_wrap=True)
    for name in ("requests", "tok/s", "TTFT p50 / p99", "TPOT p50 / p99"):
        table.add_column(name, justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("E2EL p50 / p99", justify="right", no_wrap=True)
    table.add_column("")
    for step in steps:
        made = step.metrics
        mark, style = _mark(step)
        cells = [
            f"{step.workload}: {step_name(step)}" if several else step_name(step),
            _requests(step),
            per_second(made.output_throughput),
            _pair(made.ttft),
            _pair(made.tpot),
        ]
        if width >= _WIDE:
            cells.append(_pair(made.e2el))
        table.add_row(*(Text(cell) for cell in cells), Text(mark, style=style))
    return table


# -- at the end ------------------------------------------------------------------------------------------------------


def summary(detail: RunDetail, *, err: bool = False) -> None:
    """Print what came of a run."""
    console = Console(stderr=err, highlight=False)
    wide = not console.is_terminal  # whoever reads a file wraps its lines
    if wide:
        console = Console(stderr=err, highlight=False, width=120)

    def say(text: Text) -> None:
        console.print(text, soft_wrap=wide)

    row = detail.row
    took = words.duration((row.ended_ms - row.began_ms) / 1000) if row.ended_ms is not None else ABSENT
    head = Text(f"{row.workload} against {clean(row.server)}: ", style="bold")
    head.append(row.state, style="green" if row.state == "done" and row.valid else "yellow")
    head.append(f", {took}", style="dim")
    if detail.facts.simulated:
        head.append("  SIMULATED server", style="yellow")
    say(head)
    facts = [clean(one) for one in (row.model, detail.facts.server_version, *detail.facts.gpus[:2]) if one]
    if facts:
        say(Text("  " + ", ".join(facts), style="dim"))
    if row.error:
        say(Text(f"  {clean(row.error, 1500)}", style="red" if row.state in ("failed", "lost") else ""))
    if detail.steps:
        console.print()
        console.print(steps_table(detail.steps, console.width))
    for reason in detail.invalid:
        say(Text(f"✗ it does not count: {clean(reason)}", style="red"))
    if detail.findings:
        console.print()
    for finding in detail.findings:
        say(finding_text(finding))
    if detail.accuracy is not None and detail.accuracy.perplexity is not None:
        said = f"· perplexity {detail.accuracy.perplexity:.4g} over {detail.accuracy.tokens} tokens"
        say(Text(said))
    if row.headline:
        console.print()
        say(Text(headline(row.headline), style="dim"))


def finding_text(finding: Finding) -> Text:
    """One answer, with its sign."""
    return Text(f"{_GLYPHS[finding.level]} {clean(finding.text, 1000)}", style=_NOTE_STYLES[finding.level])


def headline(figures: Mapping[str, float]) -> str:
    """``output_throughput 1,099 tok/s  ttft_p99_ms 34 ms``: each name as files have it, each value with its unit."""
    return "  ".join(f"{name} {_with_unit(name, value)}" for name, value in figures.items())


def _with_unit(name: str, value: float) -> str:
    unit, _ = about(name)
    if unit == "B":
        return words.size(value)
    written = f"{value:,.0f}" if abs(value) >= 999.5 else words.figure(value)
    return f"{written} {unit}".rstrip()


def per_second(value: float | None) -> str:
    """Tokens of a second, to the token: steps are compared closely."""
    return f"{value:,.0f}" if value is not None and value >= 99.5 else words.number(value)


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
