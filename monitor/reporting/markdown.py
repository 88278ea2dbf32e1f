"""A report as Markdown: reads as it stands in a terminal, too. Names come from servers: in them nothing is markup."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.paper.markdown import escape, markdown_table
from monitor.reporting.schema import Report
from monitor.reporting.sections import headline, notices, sections, subtitle, title


def markdown(report: Report) -> str:
    """The whole file."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {escape(title(report))}"
    yield ""
    yield escape(subtitle(report))
    yield ""
    for notice in notices(report):
        yield f"**{escape(notice)}**"
        yield ""
    figures = headline(report)
    if figures:
        yield from markdown_table(("", ""), figures, numbers=(False, True))
        yield ""
    for one in sections(report):
        level = "###" if one.title[:1].isdigit() else "##"
        yield f"{level} {escape(one.title)}"
        yield ""
        for note in one.notes:
            yield escape(note)
            yield ""
        if one.table is not None:
            table = one.table
            yield from markdown_table(table.columns, table.rows, [name not in table.words for name in table.columns])
            yield ""
        if one.items:
            yield from (f"- {escape(item)}" for item in one.items)
            yield ""
