"""`/runbooks`: the pages as a browser gets them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser

import httpx
import pytest

from monitor import runbooks
from monitor.api import runbooks as pages
from monitor.store.head import Head
from tests.api.running import running

_VOID = ("meta", "br", "link", "img")
_LOADED = """
import sys
import monitor.daemon
print(*sorted({"markdown_it", "textual", "monitor.commands.runbook"} & set(sys.modules)))
"""


class _Parsed(HTMLParser):
    """Whether each element ends, and what the page asks a browser to get."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def asked(*paths: str, tcp: bool = False, is_open: bool = False, **headers: str) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        async with running(Head("gpumon", "n1:9519"), is_open=is_open) as api:
            if not tcp:
                return [await api.client.get(path) for path in paths]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", trust_env=False) as client:
                return [await client.get(path, headers=headers) for path in paths]

    return asyncio.run(main())


def test_every_page_is_whole_and_takes_nothing_from_elsewhere() -> None:
    for name in runbooks.names():
        parsed = _Parsed(pages.page_html(runbooks.text_of(name) or ""))
        assert not parsed.tags & {"script", "img", "link", "iframe", "form"}
        for link in parsed.links:
            assert link == "../runbooks" or link in runbooks.names() or link.startswith("https://docs.nvidia.com/")


def test_a_page_and_the_list() -> None:
    page, index, slash = asked("/runbooks/KvCacheFull", "/runbooks", "/runbooks/")
    for one in (page, index):
        assert one.status_code == 200
        assert one.headers["content-type"] == "text/html; charset=utf-8"
        assert one.headers["x-content-type-options"] == "nosniff"
        _Parsed(one.text)
    assert "<h1>KvCacheFull</h1>" in page.text
    assert '<strong class="critical">critical</strong>' in page.text
    assert "<pre><code>gpumon query --graph &#x27;100 * vllm:kv_cache_usage_perc&#x27;</code></pre>" in page.text
    assert '<a href="PreemptionStorm">PreemptionStorm</a>' in page.text
    assert index.text.count('<a href="runbooks/') == len(runbooks.names())
    assert (slash.status_code, slash.headers["location"]) == (307, "../runbooks")


def test_the_policy_lets_in_the_pages_own_style_and_no_more() -> None:
    (page,) = asked("/runbooks/GpuHot")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; ")
    (style,) = re.findall("<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("path", "near"),
    [("/runbooks/KvCacheFul", "KvCacheFull"), ("/runbooks/gpuhot", "GpuHot"), ("/runbooks/xyzzy", None)],
)
def test_an_unknown_name_gets_the_nearest(path: str, near: str | None) -> None:
    (answer,) = asked(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert re.findall('Do you mean <a href="([^"]*)">', answer.text) == ([near] if near else [])


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "%3Cimg%20src=x%20onerror=alert(1)%3E", "..%2f..%2falerts", "%00", "x" * 500]
)
def test_what_is_asked_for_is_never_taken_for_html_or_a_path(name: str) -> None:
    (answer,) = asked(f"/runbooks/{name}")
    assert answer.status_code == 404
    assert "<script" not in answer.text
    assert "<img" not in answer.text
    assert "groups:" not in answer.text
    assert len(answer.text) < 10_000


def test_html_in_a_runbook_is_shown_and_not_done() -> None:
    text = '# T<b>\n\nA <script>x</script> & `<i>` **<u>** [<a>](GpuHot.md) [y](https://z/"onclick="1)\n\n'
    text += '    a < b & "c"\n'
    made = pages.page_html(text)
    assert not _Parsed(made).tags & {"script", "i", "u", "b"}
    assert "<pre><code>a &lt; b &amp; &quot;c&quot;</code></pre>" in made
    assert 'https://z/&quot;onclick=&quot;1"' in made


def test_nobody_has_to_show_anything_for_them() -> None:
    page, index, other = asked(
        "/runbooks/GpuHot", "/runbooks", "/api/v1/alerts", tcp=True, is_open=True, host="n1:9519"
    )
    assert (page.status_code, index.status_code, other.status_code) == (200, 200, 401)


def test_a_daemon_that_nobody_asks_loads_nothing_for_them() -> None:
    got = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True, timeout=60)
    assert got.stdout.split() == []


def test_the_list_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads all pages, everybody may ask for it, and the loop that answers is the one that watches the node."""
    first = pages.index_html()
    monkeypatch.setattr(runbooks, "text_of", lambda name: pytest.fail("read again"))
    assert pages.index_html() == first
