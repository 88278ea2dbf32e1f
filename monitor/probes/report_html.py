"""The report of a run as one HTML page: opens without a network, on light and on dark, and prints.

No script, no font, no picture from outside; a content security policy in the page forbids them, and allows no style but
the one that stands in its head. Whatever comes from a server or a person is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from monitor.paper import page, svg
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

_LEVEL: dict[Level, str] = {"good": "✓", "info": "•", "warning": "⚠ Warning", "bad": "✗ Bad"}


def report(result: Result) -> str:
    """The whole page."""
    name = result.spec.name or result.workload
    model = result.facts.model or result.spec.model
    return page.begin(f"{name}: {model}") + "\n".join(_body(result, name, model)) + page.END


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
        yield page.figures(figures)
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
            yield f"<figure>{svg.svg(chart)}{note}</figure>"
        yield "</div>"
    yield "<h2>Numbers</h2>"
    for table in tables(result):
        yield from _table(table)
    yield "<h2>How it was measured</h2>"
    yield from page.pairs(facts(result))
    told = notes(result)
    if told:
        yield "<h3>What was said while it ran</h3><ul>"
        yield from (f'<li class="break">{escape(note)}</li>' for note in told)
        yield "</ul>"
    yield "<h3>What the words mean</h3>"
    yield from page.pairs(definitions())


def _findings(found: Sequence[Finding]) -> Iterator[str]:
    if found:
        yield '<ul class="findings">'
        yield from (
            f'<li class="{escape(one.level)}"><b>{_LEVEL[one.level]}</b>{escape(one.text)}</li>' for one in found
        )
        yield "</ul>"


def _table(table: Table) -> Iterator[str]:
    yield f"<h3>{escape(table.title)}</h3>"
    if table.caption:
        yield f'<p class="quiet">{escape(table.caption)}</p>'
    yield from page.table(table.columns, table.rows, table.words, "notes")
