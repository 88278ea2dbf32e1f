"""The page that a browser sees at a node's address."""

from __future__ import annotations

import asyncio

import httpx

from monitor.samples import NAME, Scrape, Shape
from monitor.store.head import Head
from tests.api.running import running

RULES = """
groups:
  - name: g
    rules:
      - alert: Own
        expr: up == 1
      - alert: KvCacheFull
        expr: up == 1
        labels: {severity: critical}
        annotations: {summary: "<script>alert(1)</script> of {{ $labels.server }}"}
      - alert: Watchdog
        expr: vector(1)
        labels: {severity: none}
"""


def test_what_fires_and_where_everything_is() -> None:
    async def main() -> None:
        head = Head("gpumon", "n1:9519")
        async with running(head, RULES) as api:
            now_ms = api.node.clock.now_ms()
            quiet = (await api.client.get("/")).text
            assert "Nothing fires." in quiet
            series = ((NAME, "up"), ("server", "<b>"))
            head.ingest("test", Scrape(now_ms, Shape([series], {}), [1.0]))
            api.node.engine.step(now_ms, head)
            answer = await api.client.get("/")
            assert answer.headers["content-type"].startswith("text/html")
            assert "no-store" in answer.headers["cache-control"]
            assert "script" not in answer.headers["content-security-policy"]
            page = answer.text
            assert "<h1>n1</h1>" in page
            assert "<script>" not in page
            assert "&lt;script&gt;alert(1)&lt;/script&gt; of &lt;b&gt;" in page
            assert '<a href="/runbooks/KvCacheFull">KvCacheFull</a>' in page
            assert page.index("KvCacheFull") < page.index("Own"), "critical first, wherever its rule stands"
            assert "/runbooks/Own" not in page
            assert "Watchdog" not in page
            for place in ("/metrics", "/api/v1/alerts", "/api/v2/alerts", "/runbooks", "/api/v1/query"):
                assert f'href="{place}' in page or f"href='{place}" in page
                at = place + "?query=up" if place.endswith("query") else place
                assert (await api.client.get(at)).status_code == 200, place

    asyncio.run(main())


def test_who_looks_for_pages_of_prometheus_is_led_here() -> None:
    async def main() -> None:
        async with running(Head("gpumon", "n1:9519")) as api:
            for path in ("/graph", "/alerts", "/targets"):
                answer = await api.client.get(path)
                assert (answer.status_code, answer.headers["location"]) == (302, "/")
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as other:
                refused = await other.get("/", headers={"Host": "elsewhere.example"})
                assert refused.status_code == 403

    asyncio.run(main())
