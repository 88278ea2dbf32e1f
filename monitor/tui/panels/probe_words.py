"""A probe's states, figures and findings in words and glyphs, for its list, its page and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.style import Style

from monitor.client.format import ABSENT, duration, figure, number, percent, seconds, size
from monitor.client.snapshot import NodeFacts
from monitor.probes.schema import Change, Level, Progress, RunRow, RunState
from monitor.tui.palette import CRITICAL, DIM, FAINT, GOOD, KEY, NOTICE, PLAIN
from monitor.tui.rows import Row

STATES: Mapping[RunState, tuple[str, Style]] = {
    "starting": ("◌ starting", KEY),
    "running": ("▶ running", KEY),
    "done": ("● done", GOOD),
    "cancelled": ("◐ cancelled", DIM),
    "failed": ("✗ failed", CRITICAL),
    "busy": ("! busy", NOTICE),
    "refused": ("! refused", NOTICE),
    "lost": ("✗ lost", CRITICAL),
}
"""A glyph and a word for each."""

LEVELS: Mapping[Level, tuple[str, Style]] = {
    "good": ("✓", GOOD),
    "info": ("·", PLAIN),
    "warning": ("▲", NOTICE),
    "bad": ("■", CRITICAL),
}
VERDICTS: Mapping[str, tuple[str, Style]] = {
    "better": ("▲ better", GOOD),
    "worse": ("▼ worse", CRITICAL),
    "noise": ("≈ noise", DIM),
    "unknown": ("? no interval", DIM),
    "missing": ("– one side", FAINT),
}

_KNOWN = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2el": "E2E",
    "kv": "KV",
    "gpu": "GPU",
    "median": "p50",
    "output_throughput": "output",
    "total_throughput": "total",
    "request_throughput": "requests",
    "peak_concurrency": "peak at",
    "slo_concurrency": "targets met to",
}
_AT_ONCE = ("knee", "peak_concurrency", "slo_concurrency")
"""Figures that are numbers of requests."""
_UNITS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_ms", lambda value: seconds(value / 1000)),
    ("_seconds", duration),
    ("_s", duration),
    ("_bytes", size),
)
_FIRST = (
    "output_throughput", "knee", "factor", "slo_concurrency", "peak", "ttft_p50", "ttft_p99", "itl_p50", "itl_p99",
    "tpot_p50", "e2el_p50", "goodput", "request_throughput", "total_throughput",
)  # fmt: skip
"""What figures come first in a list: what their names have in them."""


def name_of(figure_: str) -> str:
    """``ttft_p99_ms`` as ``TTFT p99``."""
    bare = figure_
    for unit, _ in _UNITS:
        bare = bare.removesuffix(unit)
    if bare in _KNOWN:
        return _KNOWN[bare]
    bare = bare.replace("output_throughput", "output").replace("total_throughput", "total")
    bare = bare.removesuffix("_throughput")
    return " ".join(_KNOWN.get(word, word) for word in bare.split("_"))


def value_of(figure_: str, value: float | None) -> str:
    """A figure with the unit that its name says."""
    if value is None:
        return ABSENT
    for unit, form in _UNITS:
        if figure_.endswith(unit):
            return form(value)
    if figure_.endswith(_AT_ONCE):
        return f"{value:.0f} at once" if value else "none"
    if figure_ == "factor":
        return f"×{value:.1f}"
    if figure_.startswith("joules_per"):
        return f"{value:.3g} J/tok"
    if "request_throughput" in figure_ or "goodput" in figure_:
        return f"{per_second(value)} req/s"
    if "throughput" in figure_ or "tokens_per_second" in figure_:
        return f"{per_second(value)} tok/s"
    if figure_ == "rate" or figure_.endswith("_rate"):
        return f"{value:.3g} req/s"
    if "per_joule" in figure_:
        return f"{_plain(value)} tok/J"
    if figure_.endswith(("_share", "_ratio", "_usage", "hits")):
        return percent(value)
    return _plain(value)


def per_second(value: float) -> str:
    """To the token: what is measured is compared closely."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def _plain(value: float) -> str:
    return number(value) if value == int(value) or abs(value) >= 1000 else figure(float(f"{value:.3g}"))


def unit_value(value: float | None, unit: str) -> str:
    """A value of a comparison in its own unit."""
    if value is None:
        return ABSENT
    if unit == "ms":
        return seconds(value / 1000)
    if unit == "s":
        return duration(value)
    if unit == "B":
        return size(value)
    if unit == "%":
        return percent(value)
    if unit in ("tok/s", "req/s", "/s"):
        return f"{per_second(value)} {unit}"
    return f"{_plain(value)} {unit}".strip()


def headline(figures: Mapping[str, float]) -> list[tuple[str, str]]:
    """Names and values, those that say most first."""

    def rank(name: str) -> tuple[int, str]:
        return next((n for n, part in enumerate(_FIRST) if part in name), len(_FIRST)), name

    return [(name_of(one), value_of(one, figures[one])) for one in sorted(figures, key=rank)]


def headline_text(figures: Mapping[str, float], width: int) -> str:
    """As many figures as fit in a width."""
    text = ""
    for name, value in headline(figures):
        more = f"{name} {value}"
        if text and len(text) + 3 + len(more) > width:
            break
        text = f"{text}   {more}" if text else more
    return text


def bar(fraction: float | None, width: int) -> Row:
    """How far it is: ``████▌░░░ 43 %``; a bar of ``width`` cells, and nothing of it where that is not known."""
    if fraction is None:
        return Row().put("░" * width, FAINT)
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    whole, rest = divmod(eighths, 8)
    done = "█" * whole + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")
    return Row().put(done, KEY).put("░" * (width - len(done)), FAINT).put(f" {percent(fraction)}")


def live_text(progress: Progress | None) -> str:
    """The numbers of a run that goes on, those that are known."""
    if progress is None:
        return ""
    live = progress.live
    parts = [] if live.output_per_s is None else [f"{live.output_per_s:,.0f} tok/s"]
    parts += [f"{live.running} in flight", f"{number(live.completed)} done"]
    if live.failed:
        parts.append(f"{number(live.failed)} FAILED")
    if live.ttft_ms is not None:
        parts.append(f"TTFT {seconds(live.ttft_ms / 1000)}")
    if live.itl_ms is not None:
        parts.append(f"ITL {seconds(live.itl_ms / 1000)}")
    return "  ".join(parts)


def server_text(progress: Progress | None) -> str:
    """What server and GPUs do meanwhile, as far as it is read."""
    if progress is None:
        return ""
    live = progress.live
    parts = []
    if live.kv_usage is not None:
        parts.append(f"KV cache {percent(live.kv_usage)}")
    if live.waiting is not None:
        parts.append(f"{number(live.waiting)} waiting")
    if live.gpu_util is not None:
        parts.append(f"GPU {percent(live.gpu_util)}")
    if live.power_w is not None:
        parts.append(f"{live.power_w:.0f} W")
    return "  ".join(parts)


def until_ms(row: RunRow, now_ms: int, node: NodeFacts | None) -> int:
    """Until when a run has lasted. Probes run by the world's clock, which that of a simulated node may leave behind."""
    if row.ended_ms is not None:
        return row.ended_ms
    if node is None or node.speed == 1:
        return now_ms
    return row.progress.at_ms if row.progress is not None else row.began_ms


def where_text(progress: Progress | None) -> str:
    """Where it is: ``measuring concurrency 8, step 4 of 7``."""
    if progress is None:
        return ""
    text = f"{progress.phase} {progress.step}".rstrip()
    if progress.steps is not None:
        text += f", step {min(progress.step_index + 1, progress.steps)} of {progress.steps}"
    elif progress.step:
        text += f", step {progress.step_index + 1}"
    return text


def change_text(value: float | None) -> str:
    """``+12 %``, ``−0.4 %``."""
    if value is None:
        return ABSENT
    share = value * 100
    text = f"{abs(share):.1f}" if abs(share) < 9.95 else f"{abs(share):.0f}"
    return f"{'+' if share >= 0 else '−'}{text} %"


def interval_text(change: Change) -> str:
    """``+3 to +21 %``; that it is not known."""
    if change.low is None or change.high is None:
        return ABSENT
    return f"{change_text(change.low).removesuffix(' %')} to {change_text(change.high)}"
