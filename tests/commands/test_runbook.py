"""``gpumon runbook``: the list, a page in a terminal, what it says where there is none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from monitor import runbooks
from monitor.cli import cli
from monitor.commands.runbook import render

TOP = Path(__file__).parents[2]


def ran(*words: str, color: bool = False) -> Result:
    return CliRunner().invoke(cli, ["runbook", *words], color=color)


def test_the_list_has_each_with_its_severity_and_what_it_means() -> None:
    result = ran()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == runbooks.names()
    assert all(line.split()[1] in ("critical", "warning", "none") for line in lines)
    assert max(map(len, lines)) <= 100
    assert "GpuLost                   critical  The driver lists the GPU" in result.output


@pytest.mark.parametrize("name", ["KvCacheFull", "kvcachefull", "KVCACHEFULL"])
def test_a_page_in_whatever_case_its_name_is_written(name: str) -> None:
    result = ran(name)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "KvCacheFull"
    assert "    gpumon query --graph '100 * vllm:kv_cache_usage_perc'" in lines, "as it is to be typed"
    assert "**" not in result.output
    assert "](" not in result.output


def test_every_page_says_all_of_it_in_every_width() -> None:
    for name in runbooks.names():
        text = runbooks.text_of(name) or ""
        for width in (40, 80, 100):
            said = click.unstyle(render(text, width))
            for block in runbooks.blocks(text):
                assert " ".join(block.text.split()) in " ".join(said.split()), name
            for line in said.splitlines():
                assert len(line) <= width or line.startswith("    ") or " " not in line.strip("-. 123456789"), line


def test_colours_and_weight_are_of_the_words_that_have_them() -> None:
    shown = render("# T\n\nA `b c` and **critical** d\n", 12)
    assert shown.splitlines()[2:] == ["A \x1b[36mb c\x1b[0m and", "\x1b[31m\x1b[1mcritical\x1b[0m d"]
    assert "\x1b" not in ran("GpuHot").output
    assert "\x1b" in ran("GpuHot", color=True).output


@pytest.mark.parametrize(
    ("name", "hint"), [("GpuHott", "do you mean GpuHot?"), ("zzz", "`gpumon runbook` lists them"), ("../alerts", "")]
)
def test_where_there_is_none_it_names_the_nearest(name: str, hint: str) -> None:
    result = ran(name)
    assert result.exit_code == 1
    assert f"no shipped alert has the name {name}" in result.output
    assert hint in result.output


def test_json_of_one_and_of_all() -> None:
    one = json.loads(ran("GpuHot", "--json").output)
    assert one["schema"] == 1
    assert (one["name"], one["severity"]) == ("GpuHot", "warning")
    assert one["markdown"] == Path(one["path"]).read_text(encoding="utf-8")
    every = json.loads(ran("--json").output)
    assert [row["name"] for row in every["runbooks"]] == runbooks.names()
    assert {key for row in every["runbooks"] for key in row} == {"name", "severity", "what", "path"}


def test_a_wheel_has_them_where_the_package_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^"docs/runbooks" = "monitor/data/runbooks"$', text, re.MULTILINE)
    inside = tmp_path / "data" / "runbooks"
    inside.mkdir(parents=True)
    (inside / "Only.md").write_text("# Only\n\n**warning** at once.\n\nOne sentence. Another.\n")
    monkeypatch.setattr("monitor.runbooks.importlib.resources.files", lambda package: tmp_path)
    assert runbooks.names() == ["Only"]
    assert ran().output == "Only  warning   One sentence\n"


def test_a_package_without_them_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.runbooks.folder", lambda: None)
    result = ran("GpuHot")
    assert result.exit_code == 1
    assert "install gpumon again" in result.output
