"""What no option and no argument takes: an empty path, an empty name, a number that is none or has no end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from monitor.cli import cli
from monitor.commands.probe_run import Wrong, running
from tests.commands.test_probe import Gpumon, Said, going, story
from tests.docs.tree import Node, kind_of, tree

COMMANDS = [node for node in tree().walk() if not node.children]
NAMES_TOO = {("plan", "model")}
"""What takes a path among other things."""


def gpumon(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def _must_not_begin(**given: object) -> None:
    raise AssertionError(f"a daemon would have begun: {given}")


def refused(node: Node, param: click.Parameter, value: str) -> bool:
    try:
        param.type.convert(value, param, node.context)
    except click.BadParameter:
        return True
    return False


@pytest.mark.parametrize("node", COMMANDS, ids=[node.name for node in COMMANDS])
def test_every_command_refuses_an_empty_path(node: Node) -> None:
    takes = [
        param.name
        for param in node.command.params
        if (isinstance(param.type, click.Path) or kind_of(node, param) in ("file", "folder"))
        and (*node.path, param.name) not in NAMES_TOO
        and not refused(node, param, "")
    ]
    assert not takes


@pytest.mark.parametrize("node", COMMANDS, ids=[node.name for node in COMMANDS])
def test_every_command_refuses_a_number_that_is_none_or_has_no_end(node: Node) -> None:
    takes = [
        (param.name, value)
        for param in node.command.params
        if isinstance(param.type, click.types.FloatParamType)
        for value in ("nan", "inf", "-inf", "NaN", "1e999")
        if not refused(node, param, value)
    ]
    assert not takes


@pytest.mark.parametrize(
    "arguments",
    [
        ("daemon", "--state-dir", ""),
        ("daemon", "--config="),
        ("check", ""),
        ("check", "alerts.yaml", ""),
        ("test", "rules", ""),
        ("backtest", "", "--since", "1h"),
        ("export", "-o", ""),
        ("snapshot", "--token-file", ""),
        ("dashboards", "-o", "x", "--path", ""),
        ("probe", "rate", "--replay", ""),
        ("probe", "list", "--token-file", ""),
    ],
)
def test_an_empty_path_is_not_the_current_directory(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alerts.yaml").write_text("groups: []\n")
    # Whatever is refused or not, no daemon begins in the places of this machine's.
    monkeypatch.setattr("monitor.commands.daemon.start", _must_not_begin)
    done = gpumon(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["alerts.yaml"]
    assert done.exit_code == 2
    assert '"" is no path' in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", "--model", "m", "--gpu", "H100", "--gpu-memory-utilization", "nan"), "--gpu-memory-utilization"),
        (("daemon", "--simulate", "--past", "nan"), "--past"),
        (("daemon", "--simulate", "--speed", "nan"), "--speed"),
        (("query", "up", "--timeout", "nan"), "--timeout"),
        (("dmon", "-d", "nan"), "--delay"),
        (("probe", "latency", "--price", "inf"), "--price"),
    ],
)
def test_a_number_that_is_none_is_said_to_be_none(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.commands.daemon.start", _must_not_begin)
    done = gpumon(*arguments)
    assert done.exit_code == 2
    assert words in done.output
    assert "is no number to count with" in done.output


def test_a_number_in_its_range_is_taken_and_one_beside_it_is_not() -> None:
    assert gpumon("dmon", "-d", "0.1").exit_code == 2
    assert "is not in the range" in gpumon("dmon", "-d", "61").output
    assert "is not a valid float" in gpumon("dmon", "-d", "soon").output


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "show", ""),
        ("probe", "attach", ""),
        ("probe", "cancel", ""),
        ("probe", "cancel", " "),
        ("probe", "baseline", ""),
        ("probe", "baseline", "a-run", ""),
        ("probe", "report", ""),
        ("probe", "report", "", "--png", "x"),
        ("probe", "delete", "a-run", ""),
        ("probe", "compare", "", "b"),
        ("probe", "compare", "a", ""),
        ("notify", "test", ""),
        ("report", "--send", ""),
    ],
)
def test_an_empty_name_means_nothing(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMON_URL", "unix:/nowhere/gpumon.sock")
    done = gpumon(*arguments)
    assert done.exit_code == 2
    assert "the name is empty" in done.output


def test_an_empty_name_ends_no_run_and_no_name_ends_the_only_one(tmp_path: Path) -> None:
    async def work(gpumon: Gpumon, probes: Any) -> None:
        await gpumon("latency", "--label", "play=wait", "--detach")
        await going(probes)
        said: Said = await gpumon("cancel", "")
        assert said.code == 2
        assert "the name is empty" in said.err
        with pytest.raises(Wrong, match="the name is empty"):
            await running(probes, "")
        (row,) = (await probes.listing()).runs
        assert row.state == "running"
        said = await gpumon("cancel")
        assert (said.code, said.err) == (0, "")
        assert f"{row.id} was told to end" in said.out

    story(tmp_path, work)
