"""Rule files that are broken, one way each, through a real promtool and through `gpumon check`: the same verdict, the
same words, the same place."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from monitor.commands.check import run as check
from monitor.rules.rule_file import load_rules
from monitor.yaml_reader import ConfigError, Problem
from tests.live.broken_expressions import ODD_QUERIES, QUERIES, TEMPLATES
from tests.live.broken_rule_files import FILES, HEAD, RULES
from tests.live.install_prometheus import prometheus_bin
from tests.live.servers import prometheus, wait_for

pytestmark = pytest.mark.live

ONLY_WE_REFUSE = {
    r"gives an instant vector or a number": "promtool lets pass what fails at every evaluation: up[5m], a text",
    r"invalid regular expression in label_replace": "the same",
    r"native histograms, which gpumon does not keep": "no source of ours gives any",
    r"longer than \d+ bytes|more than \d+ operators": "our limits",
    r"but found another document": "what stands behind --- would silently never be evaluated",
    r"^expected a (group|rule): a mapping": "a dash with nothing behind it is a slip, and no group or rule",
    r"^is empty": "a file that was cut off must not end all alerts",
    r"YAML aliases are not supported": "a few of them can grow to gigabytes",
}
"""Each message that promtool has no word for, and why we refuse all the same."""
ONLY_PROMTOOL_REFUSES = {"tag: inttag": "a tag that lies of a text that is one"}
OTHER_WORDS = {
    r"experimental|not enabled": "it is experimental there, and not supported here: no flag helps",
    r"unknown function with name \"holt_winters\"": "that Prometheus 3 removed it is the news",
    r"unexpected end of input in duration expression": "an unclosed bracket is what it is",
    r"bad number or duration syntax": "how far the digits were read",
    r"illegal number syntax": "Go's template language says what it took the sign for",
    r"unexpected \"/\" in command|unexpected \"}\" in operand": "the same: what it took the bracket for",
    r"experimental duration expression": "arithmetic with lengths of time",
    r"anchor '\w+' referenced": "an alias is refused before it is looked up",
}
"""What promtool says, and why we say it in other words."""


NEARER = "right parenthesis|unclosed|regexp"
"""Where we tell a nearer place: the bracket instead of what is behind it, or of the end; the regular expression instead
of the label's name."""


def cases() -> dict[str, str | bytes]:
    """All files, by what they are."""
    found: dict[str, str | bytes] = {}
    for query in [*QUERIES, *ODD_QUERIES]:
        found[f"query: {query}"] = f"{HEAD}  - alert: a\n    expr: {_yaml(query)}\n"
    for template in TEMPLATES:
        text = f"  - alert: a\n    expr: up\n    annotations:\n      x: {_yaml(template)}\n"
        found[f"template: {template}"] = HEAD + text
    for name, rule in RULES.items():
        found[f"rule: {name}"] = f"{HEAD}  - {rule}\n"
    for name, file in FILES.items():
        found[f"{'tag' if name.endswith('tag') else 'file'}: {name}"] = file
    return found


def _yaml(text: str) -> str:
    """In quotes: single ones where the text's places stay what they are."""
    if text.isprintable() and text.strip() == text and text:
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 and not c.isalnum() else c for c in text) + '"'


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str | None, tuple[Problem, ...]]]:
    """What promtool says of each file, or None where it takes it, and our problems."""
    promtool = prometheus_bin() / "promtool"
    folder = tmp_path_factory.mktemp("check")
    files = {}
    for number, (name, text) in enumerate(cases().items()):
        files[name] = folder / f"{number}.yaml"
        files[name].write_bytes(text if isinstance(text, bytes) else text.encode())

    def theirs(path: Path) -> str | None:
        command: list[str | Path] = [promtool, "check", "rules", "--lint=none", path]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        said = (ran.stderr + ran.stdout).replace(f"{path}: ", "").replace(f"Checking {path}", "")
        return said.replace("  FAILED:\n", "").strip() if ran.returncode else None

    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(theirs, files.values()))
    return {name: (one, _ours(path)) for (name, path), one in zip(files.items(), said, strict=True)}


def _ours(path: Path) -> tuple[Problem, ...]:
    try:
        load_rules([path])
    except ConfigError as error:
        return error.problems
    return ()


Judged = dict[str, tuple[str | None, tuple[Problem, ...]]]


def test_there_are_enough_of_them(judged: Judged) -> None:
    refused = [name for name, (theirs, _) in judged.items() if theirs is not None]
    assert len(refused) > 250
    assert len(judged) - len(refused) > 100


def test_the_verdict_is_the_same(judged: Judged) -> None:
    different = []
    used = set()
    for name, (theirs, ours) in judged.items():
        if (theirs is None) == (not ours):
            continue
        known = [text for text in ONLY_WE_REFUSE if any(re.search(text, one.message) for one in ours)]
        used.update(known)
        if theirs is not None and name in ONLY_PROMTOOL_REFUSES:
            used.add(name)
        elif theirs is not None or not known:
            different.append((name, theirs, [one.message for one in ours]))
    assert not different
    assert used >= set(ONLY_PROMTOOL_REFUSES)


def test_the_words_are_the_same(judged: Judged) -> None:
    different = []
    for name, (theirs, ours) in judged.items():
        if theirs is None or not ours:
            continue
        said = "\n".join(one.message for one in ours)
        missing = [words for words in _key_words(theirs) if words not in said]
        if not missing or any(re.search(text, said) for text in ONLY_WE_REFUSE):
            continue
        if not any(re.search(text, theirs) for text in OTHER_WORDS):
            different.append((name, missing, said))
    assert not different


_WORDS: list[tuple[str, Callable[[re.Match[str]], list[str]]]] = [
    (r"field (\S+) not found in type", lambda m: ["unknown field", f'"{m[1]}"']),
    (r'mapping key "(\S+)" already defined', lambda m: ["second time", f'"{m[1]}"']),
    (r"cannot unmarshal !!seq into", lambda m: ["a list"]),
    (r"cannot unmarshal !!map into", lambda m: ["a mapping"]),
    (r"cannot unmarshal !!\w+ `([^`.]+)[^`]*` into", lambda m: [m[1]]),
    (r"parse error: (.*)", lambda m: [m[1]]),
    (r"template: \w+:\d+: (.*)", lambda m: [m[1]]),
    (r"UTF-8", lambda m: ["UTF-8"]),
    (r"yaml: (?:line \d+: )?((?!unmarshal).*)", lambda m: [m[1]]),
    (r'(?:group "\w+", rule \d+, "(?:[^"\\]|\\.)*": |^)((?:field|only|one of|invalid|braces).*)', lambda m: [m[1]]),
    (r"^(?:0:0: )?([Gg]roupname.*|not a valid.*|unknown unit.*|empty duration.*|duration out.*)", lambda m: [m[1]]),
]


def _key_words(said: str) -> list[str]:
    found: list[str] = []
    for line in said.splitlines():
        for pattern, words in _WORDS:
            match = re.search(pattern, line)
            if match is not None:
                found += words(match)
                break
    # It says no more of a file that is no YAML.
    assert found, f"promtool's words are not understood: {said}"
    return [words.strip() for words in found]


def test_the_place_inside_of_an_expression_is_the_same(judged: Judged) -> None:
    compared = 0
    for name, (theirs, ours) in judged.items():
        query = name.removeprefix("query: ")
        found = re.search(r"could not parse expression: 1:(\d+): parse error: (.*)", theirs or "")
        if query == name or found is None or not query.isascii() or "'" in query or not query.isprintable():
            continue
        words = [one for one in ours if found[2] in one.message]
        if re.search(NEARER, found[2]):
            continue
        if words and query.strip() == query:
            compared += 1
            assert [(one.line, one.column) for one in words] == [(5, 11 + int(found[1]))], name
    assert compared > 120


def test_a_place_in_a_block_is_the_files(judged: Judged, tmp_path: Path) -> None:
    """promtool tells the block's line and the place inside of it; we tell the file's."""
    text = HEAD + "  - alert: a\n    expr: |\n      sum by (x) (\n\n          rate(up)\n      )\n"
    (tmp_path / "r.yaml").write_text(text)
    command: list[str | Path] = [prometheus_bin() / "promtool", "check", "rules", tmp_path / "r.yaml"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    inside = re.search(r"expression: (\d+):(\d+): parse error", ran.stderr)
    assert inside is not None
    (ours,) = _ours(tmp_path / "r.yaml")
    assert (ours.line, ours.column) == (5 + int(inside[1]), 6 + int(inside[2])) == (8, 16)


DUPLICATES = ("duprules", "duprulesame", "dupalerts", "duplabels", "duprecalert", "dupgroups", "dupgl")


@pytest.mark.parametrize("name", DUPLICATES)
def test_its_lint_is_a_warning(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = FILES[name]
    assert isinstance(file, str)
    (tmp_path / "r.yaml").write_text(file)
    command: list[str | Path] = [
        prometheus_bin() / "promtool",
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        tmp_path / "r.yaml",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode in (0, 3)
    assert check([tmp_path / "r.yaml"]) == 0
    assert check([tmp_path / "r.yaml"], strict=True) == (1 if ran.returncode else 0)
    assert ("warning: duplicate rule" in capsys.readouterr().err) == (ran.returncode == 3)


def test_a_real_prometheus_is_asked_for_the_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = tmp_path / "recorded.yaml"
    recorded.write_text(HEAD + "  - {record: 'job:there', expr: vector(1), labels: {site: a}}\n")
    path = tmp_path / "rules.yaml"
    path.write_text(
        HEAD + "  - alert: A\n    expr: |\n      job:there{site='a'}\n        + job:there{site='b'}\n"
        "        + {site='a'} + job:their\n        unless job:none offset 1h\n"
    )
    with prometheus(tmp_path, {}, rule_files=[recorded]) as server:
        wait_for("the recorded series", lambda: server.query("job:there"), 60)
        assert check([path], against=server.url) == 0
        said = [line.removeprefix(f"{path}:") for line in capsys.readouterr().err.splitlines()]
        assert [line.partition(" (group")[0] for line in said] == [
            '7:11: warning: nothing matches job:there{site=\'b\'}: "job:there" is there, but its "site" is "a"',
            '8:24: warning: nothing matches job:their: there is no metric "job:their", did you mean "job:there"?',
            '9:16: note: nothing matches job:none: there is no metric "job:none"; it stands behind `unless`',
        ]
