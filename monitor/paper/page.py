"""An HTML page that opens without a network, on light and on dark, and prints: its head and its tables.

No script, no font, no picture from outside; a content security policy in the page forbids them, and allows no style but
the one that stands in its head. Whatever comes from a server or a person is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from monitor.paper import svg

STYLE = Path(__file__).with_name("page.css").read_text("utf-8") + svg.STYLE
END = "\n</main></body></html>\n"


def begin(title: str, *, policy: bool = True) -> str:
    """All up to the page's own text. Without a policy for a mail, whose pictures come with it."""
    allowed = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    rule = f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        + (f'<meta http-equiv="Content-Security-Policy" content="{rule}">' if policy else "")
        + '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
    )


def figures(pairs: Iterable[tuple[str, str]]) -> str:
    """The few numbers that matter most, as a row of cards."""
    cells = "".join(f"<div><dt>{escape(one)}</dt><dd>{escape(value)}</dd></div>" for one, value in pairs)
    return f'<dl class="figures">{cells}</dl>'


def pairs(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A table of names and what is said of each."""
    yield '<div class="scroll"><table class="pairs">'
    yield from (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    yield "</table></div>"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str], notes: str = ""
) -> Iterator[str]:
    """A table of numbers; ``words`` are the columns of texts, and ``notes`` the one whose texts are long."""
    kinds = [' class="word"' if name in words else "" for name in columns]
    heads = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(columns, kinds, strict=True))
    yield f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>'
    for row in rows:
        cells = [
            f'<td class="word{" notes" if name == notes else ""}">{escape(cell)}</td>'
            if kind
            else f"<td>{escape(cell)}</td>"
            for cell, kind, name in zip(row, kinds, columns, strict=True)
        ]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"
