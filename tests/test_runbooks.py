"""The runbooks: each shipped alert has one that is true to its rule, and what it tells people to type can be typed."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from monitor import runbooks
from monitor.cli import cli
from monitor.commands.series import all_entries
from monitor.matchers import parse_matchers
from monitor.promql.parse import parse
from monitor.promql.tree import Aggregate, Binary, Call, Selector, String
from monitor.records import fields
from monitor.rules.rule_file import Group, Rule, default_rules_path, load_rules, read_rules
from monitor.runbooks import Block, blocks
from monitor.sources.xid import XIDS

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "runbooks"
HEADINGS = ["What users feel", "Look first", "Likely causes", "Cure", "False alarm, and tuning", "Related"]
ANYWHERE = {"instance", "job", "__name__"}
VLLM = {
    "--api-server-count",
    "--cpu-offload-gb",
    "--enforce-eager",
    "--gpu-memory-utilization",
    "--kv-cache-dtype",
    "--kv-cache-memory-bytes",
    "--kv-offloading-size",
    "--kv-transfer-config",
    "--long-prefill-token-threshold",
    "--max-loras",
    "--max-model-len",
    "--max-num-batched-tokens",
    "--max-num-queued-reqs",
    "--max-num-queued-tokens",
    "--max-num-seqs",
    "--mm-processor-cache-gb",
    "--no-enable-prefix-caching",
    "--tensor-parallel-size",
}
"""Flags that vLLM 0.32 has."""


@functools.cache
def groups() -> tuple[Group, ...]:
    return load_rules([default_rules_path()]).groups


def shipped() -> dict[str, list[tuple[Group, Rule]]]:
    """The rules of each alert, with their groups."""
    found: dict[str, list[tuple[Group, Rule]]] = {}
    for group in groups():
        for rule in group.rules:
            if not rule.records:
                found.setdefault(rule.name, []).append((group, rule))
    return found


NAMES = sorted(shipped())


def page(name: str) -> list[Block]:
    text = runbooks.text_of(name)
    assert text is not None, f"{name} has no runbook"
    return blocks(text)


def section(name: str, heading: str) -> list[Block]:
    """What stands under a heading."""
    found: list[Block] = []
    within = False
    for block in page(name):
        if block.kind == "heading":
            within = block.text == heading
        elif within:
            found.append(block)
    return found


def commands(name: str) -> list[str]:
    """Everything that a page has to be typed, without its remarks; then what it has so in its sentences."""
    lines = [line.split("  #")[0].rstrip() for block in page(name) for line in block.lines]
    inside = [piece.text for block in page(name) for piece in block.pieces if piece.style == "code"]
    return lines + [text for text in inside if text.startswith("gpumon ")]


def queries(name: str) -> list[str]:
    """The PromQL of a page's commands."""
    found = []
    for line in commands(name):
        words = shlex.split(line) if line.startswith("gpumon query ") else []
        found += [word for word in words[-1:] if words]
    return found


def parts(tree: object) -> Iterator[object]:
    """An expression and all that it is made of."""
    yield tree
    for name in fields(tree):
        value = getattr(tree, name)
        for each in value if isinstance(value, tuple) else (value,):
            if fields(each):
                yield from parts(each)


def name_of(selector: Selector) -> str:
    return next((one.value for one in selector.matchers if one.name == "__name__" and one.op == "="), "")


def labels_of_series() -> dict[str, set[str]]:
    """The labels of every series that gpumon exports or that a shipped rule records."""
    known = {name: {*entry.labels, *ANYWHERE} for entry in all_entries() for name in entry.samples}
    known["ALERTS"] = {"alertname", "alertstate", "severity", *ANYWHERE}
    for group in groups():
        for rule in group.rules:
            if rule.records:
                known[rule.name] = {*known.get(rule.name, ()), *rule.labels, *labels_in(rule.expr, known)}
    return known


def labels_in(expr: str, known: dict[str, set[str]]) -> set[str]:
    """The labels that what an expression gives may have."""
    found = set(ANYWHERE)
    for part in parts(parse(expr)):
        if isinstance(part, Selector):
            name = name_of(part)
            found |= (known[name] if name != "ALERTS" else set()) if name else set[str]().union(*known.values())
        elif isinstance(part, Call) and part.name == "label_replace" and isinstance(part.arguments[1], String):
            found.add(part.arguments[1].value)
    return found


SERIES = labels_of_series()


def test_each_shipped_alert_has_a_page_and_each_page_an_alert() -> None:
    assert runbooks.folder() == FOLDER
    assert runbooks.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_short_and_has_its_parts_in_order(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert 25 <= len(lines) <= 60
    assert max(map(len, lines)) <= 120
    found = page(name)
    assert [found[0].kind, found[0].text] == ["title", name]
    assert [block.text for block in found if block.kind == "heading"] == HEADINGS
    for heading in HEADINGS:
        assert section(name, heading), heading


@pytest.mark.parametrize("name", NAMES)
def test_a_page_begins_with_what_its_rules_are(name: str) -> None:
    rules = shipped()[name]
    terms = []
    for _, rule in rules:
        when = f"after {duration(rule.for_ms)}" if rule.for_ms else "at once"
        kept = f", kept up for {duration(rule.keep_firing_for_ms)}" if rule.keep_firing_for_ms else ""
        terms.append(f"{rule.labels['severity'].text} {when}{kept}")
    muted = " A load test mutes it." if "load" in rules[0][1].labels else ""
    where = f"{'Rule' if len(rules) == 1 else 'Rules'} in the group {rules[0][0].name} of alerts.yaml."
    assert page(name)[1].text == f"{'; '.join(terms)}.{muted} {where}"
    assert runbooks.lead((FOLDER / f"{name}.md").read_text(encoding="utf-8"))[0] == rules[0][1].labels["severity"].text


def duration(ms: int) -> str:
    return f"{ms // 60_000}m" if ms % 60_000 == 0 else f"{ms // 1000}s"


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_to_tune_stand_in_the_rule(name: str) -> None:
    """`> 95`, `[10m]`, `0.6`: what a page says can be changed."""
    exprs = " ".join(" ".join(rule.expr.split()) for _, rule in shipped()[name])
    for block in section(name, "False alarm, and tuning"):
        for piece in block.pieces:
            if piece.style == "code" and re.match(r"[<>=]+ |\[|\d", piece.text):
                assert piece.text in exprs, piece.text


@pytest.mark.parametrize("name", NAMES)
def test_every_query_parses_and_is_about_series_that_there_are(name: str) -> None:
    found = queries(name)
    assert found
    for query in found:
        for part in parts(parse(query)):
            if isinstance(part, Selector):
                series = name_of(part)
                if not series:
                    continue  # it is about all there are
                assert series in SERIES, query
                assert {one.name for one in part.matchers} <= SERIES[series], query
        labels = labels_in(query, SERIES)
        for part in parts(parse(query)):
            asked = part.grouping if isinstance(part, Aggregate) else ()
            asked = part.matching.labels if isinstance(part, Binary) else asked
            assert set(asked) <= labels, query


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_for_what_its_rule_looks_at(name: str) -> None:
    wanted = {one for _, rule in shipped()[name] for one in series_of(rule.expr)} - {"ALERTS"}
    asked = {one for query in queries(name) for one in series_of(query)}
    assert not wanted or wanted & asked, wanted


def series_of(expr: str) -> set[str]:
    """The names of the series that an expression selects."""
    return {name_of(part) for part in parts(parse(expr)) if isinstance(part, Selector)}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_ours_is_one(name: str) -> None:
    ours = [shlex.split(line)[1:] for line in commands(name) if line.startswith("gpumon ")]
    assert ours
    for words in ours:
        understood(words)


def understood(words: list[str]) -> None:
    """Read a command line as the program would, and run nothing."""
    command: click.Command = cli
    context = click.Context(cli, info_name="gpumon")
    while isinstance(command, click.Group):
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        if not isinstance(command, click.Group):
            command.make_context(command.name, list(words), parent=context)
        else:
            context = click.Context(command, parent=context, info_name=command.name)


@pytest.mark.parametrize("name", NAMES)
def test_a_silence_is_of_this_alert_and_of_labels_that_it_has(name: str) -> None:
    lines = [shlex.split(line) for line in commands(name) if line.startswith("gpumon silence add")]
    assert lines or name in ("Watchdog", "ProbeRunning")
    known = {"alertname", "severity", "load"}
    for _, rule in shipped()[name]:
        known |= labels_in(rule.expr, SERIES)
    for words in lines:
        matchers = words[3 : next(place for place, word in enumerate(words) if word.startswith("--"))]
        assert matchers[0] == name
        for text in matchers[1:]:
            (matcher,) = parse_matchers(text)
            assert matcher.name in known, text


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    for block in page(name):
        for piece in block.pieces:
            if piece.style != "link" or piece.target.startswith("https://"):
                continue
            assert piece.runbook, piece.target
            assert piece.runbook in NAMES, piece.target
    related = {piece.runbook for block in section(name, "Related") for piece in block.pieces if piece.runbook}
    assert related
    assert name not in related


def test_flags_are_those_of_vllm() -> None:
    others = {"--since", "--graph", "--for", "--comment", "--no-pager", "--user", "--group", "--gpu-reset", "--grep"}
    others |= {"--pid", "--max-depth", "--sort", "--query-compute-apps", "--format", "--tail", "--server", "--all"}
    others |= {"--unix-socket", "--disk-usage", "--vacuum-size", "--verify"}
    for name in NAMES:
        text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= VLLM | others, name


def test_the_page_of_critical_xids_names_each_code_of_the_rule() -> None:
    (_, rule), *_ = shipped()["GpuXidCritical"]
    wanted = {int(code) for code in re.findall(r"\d+", rule.expr.split('code=~"')[1].split('"')[0])}
    said = " ".join(block.text for block in section("GpuXidCritical", "Likely causes"))
    named = {int(number) for number in re.findall(r"\d+", said)}
    for first, last in re.findall(r"(\d+) to (\d+)", said):
        named |= set(range(int(first), int(last) + 1))
    assert wanted == named


def test_the_page_of_other_xids_names_codes_that_raise_that_alert() -> None:
    said = " ".join(block.text for block in section("GpuXidWarning", "Likely causes"))
    named = {int(number) for number in re.findall(r"\b\d{2,3}\b", said)}
    assert named >= {63, 92, 94, 154}
    assert {XIDS[code].tier for code in named} == {"warning"}


def test_each_alert_says_where_its_runbook_is() -> None:
    for name, rules in shipped().items():
        for _, rule in rules:
            url = rule.annotations["runbook_url"].text
            if name == "Watchdog":  # it is of no node
                assert '{{ with query "gpumon_build_info" }}http://' in url
                assert url.endswith("/runbooks/Watchdog{{ end }}")
            else:
                assert url == "http://{{ $labels.instance }}/runbooks/" + name
                assert "instance" in labels_in(rule.expr, SERIES)


def test_the_index_links_each_page() -> None:
    text = (DOCS / "alerts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(runbooks/(\w+)\.md\) \|", text, re.MULTILINE)
    assert {one for one, _ in rows} == set(NAMES)
    assert all(name == target for name, target in rows)


def test_the_links_can_be_pointed_elsewhere_as_the_page_says() -> None:
    lines = [line.strip() for line in (DOCS / "alerts.md").read_text(encoding="utf-8").splitlines()]
    secure, elsewhere = [shlex.split(line)[:-3] for line in lines if line.startswith("sed ")]
    rules = default_rules_path().read_text(encoding="utf-8")
    for words, wanted in ((secure, "https://{{ "), (elsewhere, '"https://wiki.example.com/gpu/')):
        made = subprocess.run(words, input=rules, capture_output=True, text=True, check=True, timeout=60).stdout
        found = [line.strip() for line in made.splitlines() if "runbook_url:" in line]
        assert len(found) == sum(map(len, shipped().values()))
        assert all(wanted in line and "http://" not in line for line in found)
        assert read_rules(made).groups
    assert 'runbook_url: "https://wiki.example.com/gpu/Watchdog"' in made


# -- reading them ------------------------------------------------------------------------------------------------------


def test_the_markdown_is_understood() -> None:
    text = "# T\n\n**bold** and `a b` and [x](Y.md), [z](https://z/1).\nMore.\n\n## H\n\n    cmd  # why\n    two\n\n"
    text += "1. One\n   goes on.\n2. Two\n\n- item\n"
    found = blocks(text)
    kinds = ["title", "paragraph", "heading", "code", "item", "item", "item"]
    assert [block.kind for block in found] == kinds
    assert found[1].text == "bold and a b and x, z. More."
    assert [(piece.style, piece.text, piece.runbook) for piece in found[1].pieces if piece.style != "plain"] == [
        ("strong", "bold", ""),
        ("code", "a b", ""),
        ("link", "x", "Y"),
        ("link", "z", ""),
    ]
    assert found[3].lines == ("cmd  # why", "two")
    assert [(block.number, block.text) for block in found[4:]] == [("1", "One goes on."), ("2", "Two"), ("", "item")]


@pytest.mark.parametrize("name", ["..", "../alerts", "GpuHot.md", "/etc/passwd", "", "gpuhot", "GpuHot\0"])
def test_a_name_is_a_name_and_no_path(name: str) -> None:
    assert runbooks.text_of(name) is None


def test_the_nearest_is_found() -> None:
    assert runbooks.find("gpuhot") == "GpuHot"
    assert runbooks.find("GpuHott") is None
    assert runbooks.nearest("GpuHott") == "GpuHot"
    assert runbooks.nearest("kvcache") in ("KvCacheFull", "KvCacheHigh")
    assert runbooks.nearest("zzzzzz") is None
