"""The options that say how one gets in to a server, and which servers the terminal interface opens."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.client.access import Address
from monitor.client.discover import Found
from monitor.commands import node_options
from monitor.commands.access_options import reaching, reaching_several

SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GPUMON_URL", "GPUMON_TOKEN", "GPUMON_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def run(*arguments: str) -> tuple[list[object], str]:
    """What a command gets for these arguments, and what is said instead."""
    got: list[object] = []

    @click.command()
    @reaching
    @click.option("--more", is_flag=True)
    def command(url: str | None, more: bool) -> None:
        got.extend((url, more))

    told = CliRunner().invoke(command, arguments)
    return got, told.output


def test_without_options_a_command_gets_what_it_was_given() -> None:
    assert run() == ([None, False], "")
    assert run("--url", "http://a:1", "--more") == (["http://a:1", True], "")


def test_options_are_of_the_address_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET)
    (url, _), _ = run("--url", "http://a:1", "--token-file", str(token), "--header", "X-Scope-OrgID: t", "--insecure")
    assert isinstance(url, Address)
    assert (url, url.access.token, url.access.insecure) == ("http://a:1", SECRET, True)
    assert url.access.headers == (("X-Scope-OrgID", "t"),)
    monkeypatch.setenv("GPUMON_URL", "http://b:2")
    (url, _), _ = run("--token-file", str(token))
    assert isinstance(url, Address)
    assert url == "http://b:2"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--insecure",), "name it with --url"),
        (("--url", "unix:/x", "--user", "ann"), "a unix socket asks for none of these"),
        (("--url", "http://a", "--user", "ann"), 'no password for the user "ann"'),
        (("--url", "http://a", "--token-file", "/none"), "/none: cannot be read"),
        (("--url", "http://a", "--header", f"Authorization: {SECRET}"), "Authorization is not given as a header"),
        (("--url", "https://a", "--ca", "/none"), "/none: cannot be used"),
    ],
)
def test_a_mistake_is_told_without_a_secret(arguments: tuple[str, ...], words: str) -> None:
    got, told = run(*arguments)
    assert got == []
    assert words in " ".join(told.split())
    assert SECRET not in told


def test_several_addresses_share_the_options() -> None:
    got: list[list[str]] = []

    @click.command()
    @reaching_several
    def command(urls: list[str]) -> None:
        got.append(urls)

    CliRunner().invoke(command, ["--url", "http://a", "--url", "http://b", "--url", "http://a", "--insecure"])
    CliRunner().invoke(command, [])
    assert got == [["http://a", "http://b"], []]
    assert all(isinstance(one, Address) and one.access.insecure for one in got[0])


def test_what_the_terminal_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Found | None] = [None]
    monkeypatch.setattr("monitor.client.discover.find", lambda: found[0])
    assert node_options._where(["http://a"], None) == "http://a"
    assert node_options._where(["http://a", "http://b"], None) == ("http://a", "http://b")
    assert node_options._where([], None) is None
    file = tmp_path / "gpumon" / "nodes.yaml"
    file.parent.mkdir()
    file.write_text("nodes:\n  - {name: a, url: 'http://a:9519'}\n")
    assert node_options._where([], file) == ("http://a:9519",)
    assert node_options._where([], None) == ("http://a:9519",), "no daemon runs here"
    found[0] = Found("unix:/x", "system")
    assert node_options._where([], None) is None, "this machine's own goes first"
    file.write_text("nodes: 7\n")
    with pytest.raises(click.ClickException, match=r"nodes\.yaml:1:8: expected a list"):
        node_options._where([], file)
    with pytest.raises(click.UsageError, match="not both"):
        node_options._where(["http://a"], file)


@pytest.mark.parametrize("command", ["tui", "snapshot", "dmon", "query", "export", "alerts"])
def test_every_command_that_asks_a_server_has_the_options(command: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"]).output
    assert all(option in shown for option in ("--url", "--token-file", "--ca", "--insecure", "--header"))


def test_probes_reach_a_daemon_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []

    def show_list(daemon: object, *_: object, **__: object) -> int:
        got.append(daemon)
        return 0

    monkeypatch.setattr("monitor.commands.probe_kept.show_list", show_list)
    ca = tmp_path / "ca.pem"
    ca.write_text("none")
    for arguments in (["list", "--url", "https://a", "--ca"], ["latency", "--daemon", "https://a", "--daemon-ca"]):
        told = CliRunner().invoke(cli, ["probe", *arguments, str(ca)])
        assert f"{ca}: cannot be used" in told.output
    told = CliRunner().invoke(cli, ["probe", "list", "--url", "https://a", "--insecure"])
    assert told.exit_code == 0, told.output
    assert isinstance(got[0], Address)
    assert got[0].access.insecure
