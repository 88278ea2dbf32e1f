"""`/runbooks` and `/runbooks/NAME`: what to do about each shipped alert, as HTML for a browser, most often a phone's.

Everybody may read them: they are the same on every node and say nothing of this one. A page is made when it is asked
for, and takes nothing from elsewhere: no script, no font, no picture. The list, which needs all of them, is kept.
"""

from __future__ import annotations

import base64
import functools
import hashlib

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from monitor import runbooks
from monitor.runbooks import Block, Piece

BASE = "/runbooks"

_STYLE = """\
:root{color-scheme:light dark;--ink:#1f2328;--faint:#59636e;--line:#d9dee3;--paper:#fff;--code:#f3f5f7;--link:#0b57a4;
--critical:#b3261e;--warning:#8f4700}
@media(prefers-color-scheme:dark){:root{--ink:#e3e6ea;--faint:#9aa4af;--line:#3a424b;--paper:#14181d;--code:#20262d;
--link:#7db8f5;--critical:#ff8a80;--warning:#ffb45c}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.5 system-ui,
-apple-system,"Segoe UI",Roboto,sans-serif;
-webkit-text-size-adjust:100%;overflow-wrap:break-word}
main{max-width:46rem;margin:0 auto;padding:1rem 1rem 3rem}
nav,footer{font-size:.85rem;color:var(--faint)}
h1{font-size:1.6rem;line-height:1.2;margin:.6rem 0}
h2{font-size:1.1rem;margin:1.8rem 0 .4rem;padding-top:.6rem;border-top:1px solid var(--line)}
p{margin:.6rem 0}ol,ul{padding-left:1.4rem;margin:.6rem 0}li{margin:.45rem 0}
a{color:var(--link);text-underline-offset:.15em}
code,pre{font:.88em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{background:var(--code);border-radius:4px;padding:.1em .3em}
pre{background:var(--code);border-radius:6px;padding:.5rem .8rem;margin:.35rem 0;white-space:pre-wrap;
overflow-wrap:anywhere}
pre code{background:none;padding:0;font-size:1em;-webkit-user-select:all;user-select:all}
pre span{color:var(--faint);-webkit-user-select:none;user-select:none}
strong.critical{color:var(--critical)}strong.warning{color:var(--warning)}
table{border-collapse:collapse;width:100%}td{padding:.35rem .6rem .35rem 0;vertical-align:top;
border-bottom:1px solid var(--line)}
@media(max-width:36rem){td{display:block;border:0;padding:0}tr{display:block;padding:.5rem 0;
border-bottom:1px solid var(--line)}}
"""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
        + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        + "'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "max-age=300",
}


def routes() -> list[Route]:
    """The routes of `/runbooks`."""

    async def index(request: Request) -> Response:
        return answer("Runbooks", index_html())

    async def page(request: Request) -> Response:
        name = request.path_params["name"]
        if not name:
            return RedirectResponse("../runbooks")
        text = runbooks.text_of(name)
        if text is None:
            return answer("No such runbook", unknown_html(name), 404)
        return answer(name, page_html(text))

    return [Route(BASE, index), Route(f"{BASE}/{{name:path}}", page)]


def page_html(text: str) -> str:
    """A runbook's body."""
    found = ['<nav><a href="../runbooks">all runbooks</a></nav>']
    within = ""
    for block in runbooks.blocks(text):
        wanted = ("ol" if block.number else "ul") if block.kind == "item" else ""
        if wanted != within:
            found.append((f"</{within}>" if within else "") + (f"<{wanted}>" if wanted else ""))
            within = wanted
        found.append(_block(block))
    return "\n".join([*found, f"</{within}>" if within else ""])


@functools.cache
def index_html() -> str:
    """The list of all runbooks."""
    rows = []
    for name in runbooks.names():
        severity, said = runbooks.lead(runbooks.text_of(name) or "")
        shown = f'<strong class="{severity}">{severity}</strong>'
        rows.append(f'<tr><td><a href="runbooks/{name}">{name}</a></td><td>{shown}</td><td>{escape(said)}</td></tr>')
    if not rows:
        return "<h1>Runbooks</h1>\n<p>They are missing here: install gpumon again.</p>"
    return "\n".join(
        ["<h1>Runbooks</h1>", "<p>What to do about each alert that gpumon ships.</p>", "<table>", *rows, "</table>"]
    )


def unknown_html(name: str) -> str:
    """What is said where there is no such page."""
    near = runbooks.nearest(name)
    hint = f' Do you mean <a href="{near}">{near}</a>?' if near is not None else ""
    return (
        f"<h1>No such runbook</h1>\n<p>gpumon ships no alert of the name <code>{escape(name[:80])}</code>.{hint} "
        'A rule of your own has its runbook where you keep it. <a href="../runbooks">All runbooks</a></p>'
    )


def escape(text: str) -> str:
    """``text`` for HTML, inside of an attribute or outside. (The module ``html`` would load its table of names.)"""
    for plain, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;")):
        text = text.replace(plain, written)
    return text


def answer(title: str, body: str, status: int = 200, *, fresh: bool = False) -> Response:
    """A page for a browser; ``body`` is HTML. ``fresh`` is asked for anew each time."""
    whole = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} – gpumon</title>\n<style>{_STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
    headers = {**_HEADERS, "Cache-Control": "no-store"} if fresh else _HEADERS
    return Response(whole, status, headers, "text/html")


def _block(block: Block) -> str:
    if block.kind == "code":
        return "\n".join(map(_command, block.lines))
    tag = {"title": "h1", "heading": "h2", "paragraph": "p", "item": "li"}[block.kind]
    return f"<{tag}>{''.join(map(_piece, block.pieces))}</{tag}>"


def _command(line: str) -> str:
    """One for each line: a tap selects the whole command, and not the remark beside it."""
    command, gap, remark = line.partition("  #")
    said = f"<span>  #{escape(remark)}</span>" if gap else ""
    return f"<pre><code>{escape(command.rstrip())}</code>{said}</pre>"


def _piece(piece: Piece) -> str:
    text = escape(piece.text)
    if piece.style == "code":
        return f"<code>{text}</code>"
    if piece.style == "strong":
        kind = f' class="{text}"' if text in ("critical", "warning") else ""
        return f"<strong{kind}>{text}</strong>"
    if piece.runbook:
        return f'<a href="{piece.runbook}">{text}</a>'
    if piece.target.startswith("https://"):
        return f'<a href="{escape(piece.target)}" rel="noreferrer">{text}</a>'
    return text  # the other pages of docs/ are not served here
