"""docs/probes.md against the program: its commands and options are there, its options have the defaults that it says,
its conditions can be read, its files are written, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import click
import pytest

from monitor.cli import cli
from monitor.probes import conditions, results
from monitor.probes.figures import FIGURES
from monitor.probes.schema import WORKLOADS, Outcome
from monitor.probes.workloads import WORKLOADS as KNOWN
from tests.probes.made_results import made

DOCS = Path(__file__).parent.parent / "docs" / "probes.md"
TEXT = DOCS.read_text()
COMMANDS = [line.strip() for line in re.sub(r"\\\n\s+", "", TEXT).splitlines() if line.startswith("    gpumon ")]


def anchors(path: Path) -> set[str]:
    found = set()
    for heading in re.findall(r"^#+ (.*)$", path.read_text(), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


def test_commands_are_there() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_one(line: str) -> None:
    """Each word is a command or an option of it; what stands behind two blanks is a remark."""
    words = shlex.split(
        re.sub(r" > [\w./]+$", "", re.split(r"\s{2,}", line)[0]).replace("[", "").replace("]", "").replace("|", "")
    )
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, rest[0]
        command, rest = found, rest[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in rest if word.startswith("-") and len(word) > 1} <= known


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_workload_has_a_part(name: str) -> None:
    assert re.search(rf"^### `{name}`: ", TEXT, re.M)


@pytest.mark.parametrize("name", WORKLOADS)
def test_options_in_tables_are_options(name: str) -> None:
    part = re.split(rf"^### `{name}`: .*$", TEXT, flags=re.M)[1].split("\n## ")[0].split("\n### ")[0]
    fields = {field.name: field for field in KNOWN[name].fields()}  # type: ignore[index]
    if "| Option |" not in part:
        return
    table = part.split("| Option |")[1].split("\n\n")[0]
    for names, default in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", table, re.M):
        options = re.findall(r"`(\w+)`", names)
        given = [fields[option].default for option in options]
        if default == "–":
            assert all(value in (None, (), []) for value in given)
        elif len(options) > 1:
            assert default == ", ".join(f"{value:g}" for value in given)
        elif isinstance(given[0], (tuple, list)):
            assert default == ", ".join(f"{value:g}" for value in given[0])
        elif isinstance(given[0], bool):
            assert default == str(given[0]).lower()
        else:
            assert default == f"{given[0]:g}"


def test_outcomes_of_a_request() -> None:
    named = {
        word for cell in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", TEXT, re.M) for word in re.findall(r"\w+", cell)
    }
    assert named >= set(get_args(Outcome)) - {"ok"}


def test_conditions_can_be_read() -> None:
    """Those of the table, and those of commands."""
    part = TEXT.split("### In CI")[1].split("\n## ")[0]
    told = re.findall(r"--fail-if '([^']*)'", TEXT)
    told += [one for row in re.findall(r"^\| (`[^|]*`) \|", part, re.M) for one in re.findall(r"`([^`]*)`", row)]
    assert len(told) > 8
    for one in told:
        conditions.parse(one, ("perplexity",))


def test_figures_are_named() -> None:
    part = TEXT.split("### In CI")[1].split("\n## ")[0]
    named = set(re.findall(r"`_?(\w+)`", part))
    for figure in FIGURES:
        metric, _, statistic = figure.partition("_")
        assert figure in named or {metric, statistic} <= named, figure


def test_files_are_written(tmp_path: Path) -> None:
    names = results.write(tmp_path / "run", made("suite", few=True))
    part = TEXT.split("## The files of a run")[1].split("\n## ")[0]
    for name in names:
        assert name in part or name.startswith("steps/")
    for name in re.findall(r"`(\w+\.(?:csv|json|html|md))`", part):
        assert name in names


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = DOCS.parent / file if file else DOCS
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_lines_are_short() -> None:
    assert [line for line in TEXT.splitlines() if len(line) > 120 and not line.startswith(("|", "    "))] == []
