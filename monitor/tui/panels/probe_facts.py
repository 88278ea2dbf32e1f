"""The words of a run's page: how it ended or how far it is, and what was probed."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import ABSENT, clean, clock, duration, number, size
from monitor.client.slos import slos_text
from monitor.probes.schema import RunDetail
from monitor.tui.palette import DIM, KEY, NOTICE, PLAIN, STRONG
from monitor.tui.panels.probe_words import (
    LEVELS,
    STATES,
    bar,
    headline_text,
    live_text,
    server_text,
    until_ms,
    where_text,
)
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row, View, title

_NOTES = 3
"""The last of them, while it goes on."""


def _state(detail: RunDetail, until: int) -> Row:
    row = detail.row
    state, style = STATES[row.state]
    if row.state == "done" and not row.valid:
        state, style = "● done, but not valid", NOTICE
    line = Row().put("  ").put(state, style)
    line.put(f"  began {clock(row.began_ms, date=True)}, {duration((until - row.began_ms) / 1000)}")
    line.put(f", by {clean(row.by)}" if row.by else "", DIM)
    if row.baseline:
        line.put(f"   baseline {clean(row.baseline)}", KEY)
    return line


def ended(detail: RunDetail, width: int) -> list[Row]:
    """How a run ended, why where it did not go well, and its figures."""
    row = detail.row
    rows = [_state(detail, until_ms(row, row.began_ms, None))]
    if row.error:
        rows += wrapped("why", clean(row.error), width, NOTICE)
    for place, why in enumerate(detail.invalid):
        rows += wrapped("" if place else "not valid", clean(why), width, NOTICE)
    if row.state == "busy":
        rows += wrapped("", "Nothing was sent. a asks whether to load it all the same.", width, PLAIN)
    if row.headline:
        rows.append(Row().put("  ").put(headline_text(row.headline, width - 4), STRONG))
    return rows


def going(detail: RunDetail, view: View, width: int) -> list[Row]:
    """How far a run is, what is now, and the last notes."""
    row, progress = detail.row, detail.row.progress
    if view.at_ms is not None:
        return [Row().put("  ▶ it went on then", KEY).put(f"   it began {clock(row.began_ms, date=True)}", DIM)]
    snapshot = view.snapshot
    node, now_ms = (snapshot.node, snapshot.now_ms) if snapshot is not None else (None, row.began_ms)
    rows = [_state(detail, until_ms(row, now_ms, node))]
    if progress is None:
        rows.append(Row().put("  beginning …", DIM))
    else:
        line = Row().put("  ").extend(bar(progress.fraction, max(12, min(48, width - 64)))).put("  ")
        if progress.seconds_left is not None:
            line.put(f"≈ {duration(progress.seconds_left)} left  ", STRONG)
        line.put(where_text(progress))
        rows.append(line)
        rows += [Row().put(f"  {text}") for text in (live_text(progress), server_text(progress)) if text]
    for note in detail.notes[-_NOTES:]:
        glyph, style = LEVELS[note.level]
        rows += wrapped("", f"{glyph} {clock(note.at_ms)} {clean(note.text)}", width, style, indent=2)
    return rows


def facts(detail: RunDetail, width: int) -> list[Row]:
    """What was probed and what was asked, and everything that was noted."""
    about, spec = detail.facts, detail.spec
    told: list[tuple[str, str]] = [
        ("server", " ".join(one for one in (about.url or spec.url or about.server, about.server_version) if one)),
        ("model", about.model),
        ("GPUs", _counted(about.gpus) + (f", driver {about.driver}" if about.driver else "")),
        ("node", f"{about.hostname}, gpumon {about.gpumon}" if about.gpumon else about.hostname),
        ("KV cache", f"{number(about.kv_cache_tokens)} tokens" if about.kv_cache_tokens else ""),
        ("context", f"{about.max_model_len:,} tokens" if about.max_model_len else ""),
        ("weights", size(about.weights_bytes) if about.weights_bytes else ""),
        ("asked", ", ".join(f"{name} {_plain(value)}" for name, value in spec.options.items())),
        ("targets", slos_text(spec.slos)),
        ("labels", ", ".join(f"{name}={value}" for name, value in detail.row.labels.items())),
    ]
    known = detail.accuracy
    if known is not None:
        text = f"perplexity {known.perplexity:.4g} over {known.tokens} tokens" if known.perplexity else known.why_not
        told.append(("accuracy", text))
    rows = [title("what was probed").rule(width)]
    for label, text in told:
        if text:
            rows += wrapped(label, clean(text, 1000), width, PLAIN)
    if about.simulated:
        rows += wrapped("", "a simulated server: nothing here is real", width, NOTICE)
    notes = [*dict.fromkeys(note for step in detail.steps for note in step.readings.notes)]
    for place, text in enumerate([*(one.text for one in detail.notes), *notes]):
        rows += wrapped("" if place else "notes", clean(text), width, DIM)
    return rows


def server_of(detail: RunDetail) -> str:
    """What was probed, in a word."""
    return detail.row.server or detail.facts.url or detail.spec.url or "?"


def _counted(names: Sequence[str]) -> str:
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(f"{many} × {name.removeprefix('NVIDIA ')}" for name, many in counts.items()) or ABSENT


def _plain(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
