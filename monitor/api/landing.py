"""`/`: what somebody sees who opens a node's address in a browser, as exporters have it: what fires, what is not read,
and where everything is. Who looks for Prometheus' pages (`/graph`, `/alerts`, …) is led here.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from monitor import __version__, runbooks
from monitor.api.node import Node
from monitor.api.runbooks import answer, escape
from monitor.plain import one_line

_ELSEWHERE = ("/graph", "/query", "/alerts", "/targets", "/status", "/rules")
_PLACES = (
    ("/metrics", "what a Prometheus scrapes; <code>?collect[]=nvml</code> for one kind of source"),
    ("/api/v1/query?query=DCGM_FI_DEV_GPU_UTIL", "Prometheus' API: Grafana takes this address as a data source"),
    ("/api/v1/alerts", "what fires and what is about to; <a href='/api/v1/rules'>the rules</a>"),
    ("/api/v2/alerts", "Alertmanager's API: <code>amtool --alertmanager.url</code> takes this address"),
    ("/api/gpumon/v1/sources", "each source: up, or why not"),
    ("/runbooks", "what to do about each shipped alert"),
    ("/-/ready", "200 once a source has answered"),
)
_MOST = 50


def routes(node: Node) -> list[Route]:
    """The page, and the ways to it."""

    async def page(request: Request) -> Response:
        return answer(node.config.hostname, page_html(node), fresh=True)

    async def lead(request: Request) -> Response:
        return RedirectResponse("/", 302)

    return [Route("/", page), *(Route(path, lead) for path in _ELSEWHERE)]


def page_html(node: Node) -> str:
    """The page's body."""
    made_up = " · simulated" if node.simulated else ""
    parts = [f"<nav>gpumon {escape(__version__)}{made_up}</nav>", f"<h1>{escape(node.config.hostname)}</h1>"]
    firing = [
        one for one in node.engine.alerts() if one.state == "firing" and dict(one.labels).get("severity") != "none"
    ]
    firing.sort(key=lambda one: dict(one.labels).get("severity") != "critical")  # the rest as the rules stand
    rows = [_alert(dict(one.labels), dict(one.annotations)) for one in firing[:_MOST]]
    if len(firing) > _MOST:
        rows.append(f"<li>and {len(firing) - _MOST} more</li>")
    parts.append(f"<h2>Firing</h2><ul>{''.join(rows)}</ul>" if rows else "<p>Nothing fires.</p>")
    dead = [one for one in node.statuses if not one.up and not one.absent]
    if dead:
        said = "".join(f"<li><code>{escape(one.key)}</code> {escape(one_line(one.reason))}</li>" for one in dead)
        parts.append(f"<h2>Not read</h2><ul>{said}</ul>")
    places = "".join(
        f'<tr><td><a href="{escape(path)}"><code>{escape(path.partition("?")[0])}</code></a></td><td>{what}</td></tr>'
        for path, what in _PLACES
    )
    parts.append(f"<h2>What is here</h2><table>{places}</table>")
    parts.append("<p>Live, with a past, in a terminal: <code>gpumon tui</code>.</p>")
    return "\n".join(parts)


def _alert(labels: dict[str, str], annotations: dict[str, str]) -> str:
    name, severity, said = (
        one_line(text)
        for text in (labels.get("alertname", ""), labels.get("severity", ""), annotations.get("summary", ""))
    )
    kind = f' class="{severity}"' if severity in ("critical", "warning") else ""
    shown = escape(name)
    if runbooks.text_of(name) is not None:
        shown = f'<a href="/runbooks/{escape(name)}">{shown}</a>'
    return f"<li><strong{kind}>{escape(severity)}</strong> {shown}: {escape(said)}</li>"
