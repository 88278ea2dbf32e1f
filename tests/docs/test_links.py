"""Links of the documentation lead somewhere: to a file that is there, and to a heading that it has."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.shell import TOP, pages

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@cache
def anchors(path: Path) -> frozenset[str]:
    """What can stand behind ``#``: the headings, as GitHub and GitLab call them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*?)\s*$", _prose(path.read_text()), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        name = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        number = 0
        while (numbered := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(numbered)
    return frozenset(found)


def _prose(text: str) -> str:
    return re.sub(r"^ {0,3}```.*?^ {0,3}```", "", text, flags=re.S | re.M)


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    text = re.sub(r"`[^`\n]*`", "", _prose(page.read_text()))
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and (there.suffix != ".md" or anchor not in anchors(there))):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(TOP).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One `two`: three\n\n## One\n## One\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[a](b.md#one-two-three) [b](b.md#one-1) [c](b.md#two) ![d](x.png) [e](#none) [f](https://x.y) `[g](no)`"
    )
    assert broken(page) == ["b.md#two", "x.png", "#none"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [TOP / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        targets = [target for target in _LINK.findall(page.read_text()) if not re.match(r"[a-z]+:", target)]
        todo += [(page.parent / target.partition("#")[0]).resolve() for target in targets]
    assert [page.relative_to(TOP).as_posix() for page in pages() if page not in reached] == []
