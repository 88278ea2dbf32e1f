"""What is made from the click tree is what the code says now, and the manual pages are read without complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from monitor.commands.service import _COMPLETIONS
from tests.daemons import PATIENCE
from tests.docs.reference import MANUAL, made
from tests.docs.shell import TOP
from tests.docs.tree import tree

PAGES = sorted(MANUAL.glob("*.1"))


def test_it_is_made_from_the_code_as_it_is() -> None:
    files = made()
    stale = [
        str(path.relative_to(TOP)) for path, text in files.items() if not path.is_file() or path.read_text() != text
    ]
    assert not stale, "run .venv/bin/python -m tests.docs.reference"
    assert set(PAGES) <= files.keys(), "pages of commands that are gone"


def test_it_is_the_same_where_a_command_was_run_by_itself_before() -> None:
    (node,) = (one for one in tree().walk() if one.path == ("snapshot",))
    node.command._help_option = None
    node.command.get_params(click.Context(node.command))  # click keeps the first --help that it made
    assert node.options()[-1].opts == ["-h", "--help"]


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_the_manual_is_read_without_complaint() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *map(str, PAGES)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == 0


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_a_page_shows_what_is_to_be_typed_as_it_is_typed() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "ascii", str(MANUAL / "gpumon-silence.1")], capture_output=True, text=True, timeout=PATIENCE
    )
    text = re.sub(".\b", "", done.stdout)  # bold is written by going back over a letter
    assert 'gpumon silence add GpuTooHot gpu=3 --for 2h --comment "fan is replaced"' in text
    assert "-d, --for DURATION" in text


def test_a_page_for_each_command_and_one_for_all() -> None:
    from monitor.cli import cli

    assert {path.name for path in PAGES} == {"gpumon.1", *(f"gpumon-{name}.1" for name in cli.commands)}
    assert Path(MANUAL / "gpumon.1").read_text().count(".TP") > len(cli.commands)


def test_the_wheel_takes_manual_and_completions_to_where_they_are_looked_for() -> None:
    wheel = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    shared = wheel["shared-data"]
    assert all((TOP / source).exists() for source in shared)
    assert shared["docs/man"] == "share/man/man1"
    assert set(shared.values()) >= {f"share/{part}" for part in _COMPLETIONS}
