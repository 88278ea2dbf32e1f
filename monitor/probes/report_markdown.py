"""The summary of a run in Markdown: the answer first, then the tables, then how it was measured."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.paper.markdown import escape, markdown_table
from monitor.probes.report_tables import (
    Table,
    answers,
    definitions,
    doubts,
    facts,
    failed_texts,
    headline,
    notes,
    tables,
    trust,
)
from monitor.probes.schema import Finding, Result

_LEVEL = {"good": "", "info": "", "warning": "**Warning:** ", "bad": "**Bad:** "}


def summary(result: Result) -> str:
    """The whole file. Model names and errors come from strangers: in them nothing is markup."""
    return "\n".join(_lines(result)).rstrip() + "\n"


def _lines(result: Result) -> Iterator[str]:
    name = result.spec.name or result.workload
    yield f"# {escape(name)}: {escape(result.facts.model or result.spec.model or 'no model')}"
    yield ""
    if result.facts.simulated or result.spec.simulated:
        yield "**Simulated:** the server was gpumon's own, which serves no model."
        yield ""
    good, why = trust(result)
    if not good:
        yield f"**{escape(why)}**"
        yield ""
    figures = headline(result)
    if figures:
        yield from markdown_table(("", ""), figures, numbers=(False, True))
        yield ""
    for title, found in (("", answers(result)), ("## Can it be trusted?", doubts(result))):
        if title and found:
            yield title
            yield ""
        yield from (f"- {sentence(finding)}" for finding in found)
        if found:
            yield ""
    errors = failed_texts(result)
    if errors:
        yield "## What went wrong"
        yield ""
        for text, count in errors:
            yield f"- {count} × {escape(text)}"
        yield ""
    for table in tables(result):
        yield from _table(table)
    yield "## How it was measured"
    yield ""
    for one, value in facts(result):
        yield f"- {one}: {escape(value)}"
    for note in notes(result):
        yield f"- {escape(note)}"
    yield ""
    yield "## What the words mean"
    yield ""
    for one, value in definitions():
        yield f"- **{one}**: {value}"


def sentence(finding: Finding) -> str:
    """A finding with its weight."""
    return f"{_LEVEL[finding.level]}{escape(finding.text)}"


def _table(table: Table) -> Iterator[str]:
    yield f"## {table.title}"
    yield ""
    if table.caption:
        yield table.caption
        yield ""
    yield from markdown_table(table.columns, table.rows, [name not in table.words for name in table.columns])
    yield ""
