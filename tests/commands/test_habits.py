"""What is said to who types another tool's words."""

from __future__ import annotations

import re
import shlex
import sys

import click
import pytest

from monitor import cli as command_line
from monitor.commands import habits
from monitor.commands.habits import hint


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("-L", "gpumon snapshot"),
        ("-q", "gpumon query"),
        ("--query-gpu=temperature.gpu --format=csv", "gpumon query"),
        ("-pm 1", "nvidia-smi's"),
        ("pmon", "gpumon processes"),
        ("topo -m", "gpumon tui"),
        ("--config.file=x.yaml", "gpumon daemon --config FILE"),
        ("dmon -s puc", "the columns are fixed"),
        ("silence query", "gpumon silence list"),
        ("probe serve", "gpumon probe throughput"),
        ("probe throughput --num-prompts 10", "--requests"),
        ("probe latency --base-url=http://x", "--url"),
        ("bench serve", "gpumon probe throughput"),
        ("help", "gpumon --help"),
    ],
)
def test_a_word_of_another_tool_is_answered(
    typed: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpumon", *shlex.split(typed)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert "No such" in lines[-2]
    assert said in lines[-1]


def test_nothing_is_said_of_what_nobody_means() -> None:
    context = click.Context(command_line.cli, info_name="gpumon")
    assert hint(click.NoSuchOption("--frobnicate", ctx=context)) == ""
    assert hint(click.UsageError("something else", ctx=context)) == ""
    assert hint(click.UsageError("No such command 'pmon'.")) != ""


def test_no_word_is_one_of_ours_and_every_advice_is() -> None:
    """A word that has become a command or an option of ours needs no hint; a hint names what there is."""
    for path, words in habits._OF.items():
        command: click.Command = command_line.cli
        if path:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), path)
            assert found is not None, path
            command = found
        ours = {name for option in command.params for name in option.opts}
        if isinstance(command, click.Group):
            ours |= set(command.list_commands(click.Context(command)))
        assert not ours & set(words), path
        for advice in words.values():
            for name in re.findall(r"`gpumon ([a-z]+)", advice):
                assert command_line.cli.get_command(click.Context(command_line.cli), name) is not None, advice


def test_options_of_probes_that_are_named_are_there() -> None:
    probe = command_line.cli.get_command(click.Context(command_line.cli), "probe")
    assert isinstance(probe, click.Group)
    known = {"--help"}
    for name in ("latency", "throughput", "rate", "lengths"):
        workload = probe.get_command(click.Context(probe), name)
        assert workload is not None
        known |= {one for option in workload.params for one in option.opts}
    for typed, advice in habits._PROBES.items():
        assert set(re.findall(r"--[a-z-]+", advice)) <= known, typed
