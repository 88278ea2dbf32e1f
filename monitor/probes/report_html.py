"""The report of a run as one HTML page: opens without a network, on light and on dark, and prints.

No script, no font, no picture from outside; a content security policy in the page forbids them, and allows no style but
the one that stands in its head. Whatever comes from a server or a person is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from monitor.probes import report_plots
from monitor.probes.report_charts import charts
from monitor.probes.report_tables import (
    Table,
    answers,
    definitions,
    doubts,
    duration,
    facts,
    failed_texts,
    headline,
    moment,
    notes,
    tables,
    trust,
)
from monitor.probes.schema import Finding, Level, Result

_STYLE = Path(__file__).with_name("report.css").read_text("utf-8")

_LEVEL: dict[Level, str] = {"good": "✓", "info": "•", "warning": "⚠ Warning", "bad": "✗ Bad"}


def report(result: Result) -> str:
    """The whole page."""
    style = _STYLE + report_plots.STYLE
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    name = result.spec.name or result.workload
    model = result.facts.model or result.spec.model
    head = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{allowed}'; "
        "base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(name)}: {escape(model)}</title><style>{style}</style></head><body><main>\n"
    )
    return head + "\n".join(_body(result, name, model)) + "\n</main></body></html>\n"


def _body(result: Result, name: str, model: str) -> Iterator[str]:
    yield f'<h1 class="break">{escape(name)}: {escape(model or "no model")}</h1>'
    known = result.facts
    where = [known.server or result.spec.server, known.server_version, ", ".join(dict.fromkeys(known.gpus))]
    took = duration((result.ended_ms - result.began_ms) / 1000)
    words = [word for word in (*where, moment(result.began_ms), f"took {took}") if word]
    yield f'<p class="quiet break">{escape(" · ".join(words))}</p>'
    if known.simulated or result.spec.simulated:
        yield '<p class="alarm"><b>Simulated:</b> the server was gpumon\'s own, which serves no model.</p>'
    good, why = trust(result)
    if not good:
        yield f'<p class="alarm break">{escape(why)}</p>'
    figures = headline(result)
    if figures:
        cells = "".join(f"<div><dt>{escape(one)}</dt><dd>{escape(value)}</dd></div>" for one, value in figures)
        yield f'<dl class="figures">{cells}</dl>'
    yield from _findings(answers(result))
    doubtful = doubts(result)
    if doubtful:
        yield "<h2>Can it be trusted?</h2>"
        yield from _findings(doubtful)
    errors = failed_texts(result)
    if errors:
        yield "<h2>What went wrong</h2><ul>"
        yield from (f'<li class="break">{count} × {escape(text)}</li>' for text, count in errors)
        yield "</ul>"
    drawn = charts(result)
    if drawn:
        yield '<h2>Plots</h2><div class="plots">'
        for chart in drawn:
            note = f"<figcaption>{escape(chart.note)}</figcaption>" if chart.note else ""
            yield f"<figure>{report_plots.svg(chart)}{note}</figure>"
        yield "</div>"
    yield "<h2>Numbers</h2>"
    for table in tables(result):
        yield from _table(table)
    yield "<h2>How it was measured</h2>"
    yield from _pairs(facts(result))
    told = notes(result)
    if told:
        yield "<h3>What was said while it ran</h3><ul>"
        yield from (f'<li class="break">{escape(note)}</li>' for note in told)
        yield "</ul>"
    yield "<h3>What the words mean</h3>"
    yield from _pairs(definitions())


def _findings(found: Sequence[Finding]) -> Iterator[str]:
    if found:
        yield '<ul class="findings">'
        yield from (
            f'<li class="{escape(one.level)}"><b>{_LEVEL[one.level]}</b>{escape(one.text)}</li>' for one in found
        )
        yield "</ul>"


def _pairs(rows: list[tuple[str, str]]) -> Iterator[str]:
    yield '<div class="scroll"><table class="pairs">'
    yield from (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    yield "</table></div>"


def _table(table: Table) -> Iterator[str]:
    words = [' class="word"' if name in table.words else "" for name in table.columns]
    yield f"<h3>{escape(table.title)}</h3>"
    if table.caption:
        yield f'<p class="quiet">{escape(table.caption)}</p>'
    heads = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(table.columns, words, strict=True))
    yield f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>'
    for row in table.rows:
        cells = [
            f'<td class="word{" notes" if name == "notes" else ""}">{escape(cell)}</td>'
            if kind
            else f"<td>{escape(cell)}</td>"
            for cell, kind, name in zip(row, words, table.columns, strict=True)
        ]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"
