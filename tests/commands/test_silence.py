"""``gpumon silence``: a daemon's and an Alertmanager's, and everything that a person may get wrong."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.commands.silence import Times, Where, Wrong, add, expire, matchers_of, moment, show
from monitor.notify.silences import Silence
from tests.api.notifying import CONFIG, HOUR, T0, TOKEN, Notifying, served
from tests.client.fake_daemon import FakeDaemon

MINUTE = 60_000


@pytest.fixture
def utc() -> Iterator[None]:
    """A person whose clock shows UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMON_TOKEN", raising=False)
    monkeypatch.delenv("GPUMON_URL", raising=False)


def here(node: Notifying) -> Where:
    return Where(f"unix:{node.socket}")


def only(node: Notifying) -> Silence:
    (silence,) = node.notifier.silences.all()
    return silence


def test_add_silences_says_what_it_meant_and_how_to_end_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], utc: None
) -> None:
    with served(tmp_path) as node:
        assert add(here(node), ["Hot", "gpu=~0|3"], comment="fan", by="kim", lasting="2h") == 0
        one = only(node)
    assert (one.starts_at_ms, one.ends_at_ms) == (T0, T0 + 2 * HOUR)
    assert (one.created_by, one.comment) == ("kim", "fan")
    assert capsys.readouterr().out.splitlines() == [
        'silenced until 2027-01-15 10:00:00 (2 h): alertname="Hot", gpu=~"0|3"',
        "it keeps back 1 alert that fires now: Hot",
        f"id {one.id}; end it early with: gpumon silence expire {one.id[:8]}",
    ]


def test_an_hour_and_the_user_are_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "sam")
    with served(tmp_path) as node:
        assert add(here(node), ['alertname="Nothing"'], comment="c", by=None, as_json=True) == 0
        one = only(node)
        said = json.loads(capsys.readouterr().out)
    assert said == {"id": one.id, "warning": ""}
    assert (one.ends_at_ms - one.starts_at_ms, one.created_by) == (HOUR, "sam")


def test_a_silence_for_later_and_one_that_means_nothing_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], utc: None
) -> None:
    with served(tmp_path) as node:
        where = here(node)
        assert add(where, ["Nope"], comment="c", by="k", start="2027-01-16T08:00", until="2027-01-16T09:30Z") == 0
        assert (only(node).starts_at_ms, only(node).ends_at_ms) == (T0 + 24 * HOUR, T0 + 25 * HOUR + 30 * MINUTE)
        out = capsys.readouterr().out
        assert out.startswith("silenced from 2027-01-16 08:00:00 until 2027-01-16 09:30:00 (90 min): ")
        assert "no alert that fires now is meant; it holds for those to come" in out
        assert show(where, expired=False, as_json=False) == 0
        assert "pending  2027-01-16 08:00:00 to 2027-01-16 09:30:00  k" in capsys.readouterr().out


def test_list_shows_and_expire_ends_by_the_beginning_of_an_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], utc: None
) -> None:
    with served(tmp_path) as node:
        where = here(node)
        add(where, ["Hot"], comment="two\nlines\x1b[0m", by="kim", lasting="90m")
        one = only(node)
        capsys.readouterr()
        assert show(where, expired=False, as_json=False) == 0
        assert capsys.readouterr().out.splitlines() == [
            "ID        STATE   ENDS                            BY   MATCHERS         COMMENT",
            f'{one.id[:8]}  active  2027-01-15 09:30:00, in 90 min  kim  alertname="Hot"  two·lines·[0m',
        ]
        assert show(where, expired=False, as_json=True) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["id"], found["status"], found["comment"]) == (one.id, {"state": "active"}, "two\nlines\x1b[0m")
        node.clock.at_ms += MINUTE
        assert expire(where, [one.id[:6].upper()]) == 0
        assert capsys.readouterr().out == f'{one.id[:8]} ended: alertname="Hot"\n'
        assert only(node).ends_at_ms == T0 + MINUTE
        assert expire(where, [one.id], as_json=True) == 0
        assert json.loads(capsys.readouterr().out) == {"schema": 1, "silences": [{"id": one.id, "ended": False}]}
        assert expire(where, [one.id]) == 0
        assert "was over already" in capsys.readouterr().out
        assert show(where, expired=False, as_json=False) == 0
        assert capsys.readouterr().out == "no silences now; --expired lists 1 that ended\n"
        node.clock.at_ms += MINUTE
        assert show(where, expired=True, as_json=False) == 0
        assert "expired  2027-01-15 08:01:00, 60 s ago" in capsys.readouterr().out


def test_expire_goes_on_after_an_id_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path) as node:
        where = here(node)
        for _ in range(2):
            add(where, ["Hot"], comment="c", by="k")
        first, second = node.notifier.silences.all()
        assert expire(where, ["nope", "abc", first.id, second.id]) == 1
        states = [one.state(T0 + 1) for one in node.notifier.silences.all()]
    assert states == ["expired", "expired"]
    said = capsys.readouterr().err
    assert 'there is no silence "nope"' in said
    assert '"abc" is too short: give 4 characters of the id, or more' in said


def test_an_alertmanager_is_silenced_instead_with_its_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path) as node:
        where = Where("unix:/nowhere", f"http://127.0.0.1:{node.port}")
        assert add(where, ["Hot"], comment="c", by="k") == 1
        assert "A token comes from --token-file or $GPUMON_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("GPUMON_TOKEN", "wrong")
        assert add(where, ["Hot"], comment="c", by="k") == 1
        assert "the token is another one" in capsys.readouterr().err
        assert node.notifier.silences.all() == []
        monkeypatch.setenv("GPUMON_TOKEN", TOKEN)
        assert add(where, ["Hot"], comment="c", by="k") == 0
        assert expire(where, [only(node).id]) == 0


def test_a_token_is_never_sent_to_a_socket_that_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMON_TOKEN", "wrong")
    with served(tmp_path, config=CONFIG) as node:
        assert add(here(node), ["Hot"], comment="c", by="k") == 0


def test_a_warning_is_passed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def save(notifier: object, silence: Silence) -> str:
        return "not recorded: the silence holds"

    monkeypatch.setattr("monitor.notify.notifier.Notifier.save_silence", save)
    with served(tmp_path) as node:
        assert add(here(node), ["Hot"], comment="c", by="k") == 0
        assert expire(here(node), [only(node).id]) == 0
    assert capsys.readouterr().err == 2 * "warning: not recorded: the silence holds\n"


@pytest.mark.parametrize("command", ["add", "list", "expire"])
def test_a_prometheus_names_the_place_for_silences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with FakeDaemon(tmp_path / "p.sock").serving() as target:
        where = Where(target)
        code = {
            "add": lambda: add(where, ["Hot"], comment="c", by="k"),
            "list": lambda: show(where, expired=False, as_json=False),
            "expire": lambda: expire(where, ["abcdef"]),
        }[command]()
    assert code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"gpumon silence {command}: {target}: this server keeps no silences.")
    assert "--alertmanager http://HOST:9093" in said


def test_a_dead_socket_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Where(f"unix:{tmp_path}/none"), expired=False, as_json=False) == 1
    assert "there is no such socket" in capsys.readouterr().err


# -- what the command line says ----------------------------------------------------------------------------------------


def test_matchers_are_read_as_amtool_reads_them() -> None:
    assert [str(one) for one in matchers_of(["GpuTooHot", "gpu=3", 'server=~"a|b"', "x!=y"])] == [
        'alertname="GpuTooHot"', 'gpu="3"', 'server=~"a|b"', 'x!="y"'
    ]  # fmt: skip
    assert [str(one) for one in matchers_of(['{a="b",c!~"d"}'])] == ['a="b"', 'c!~"d"']


@pytest.mark.parametrize(
    ("texts", "words", "mark"),
    [
        (["Hot", "gpu"], "is no matcher: write LABEL=", "  gpu\n  ^"),
        (["gpu=~("], "missing closing )", "  gpu=~(\n       ^"),
        (['a="b'], "no closing double quote", '  a="b\n    ^'),
        (["Hot", "gpu\x1b[31m"], '"gpu·[31m" is no matcher', "  gpu·[31m\n  ^"),
        ([""], "a matcher is missing", ""),
        ([], "which alerts?", ""),
        (["{}"], "which alerts?", ""),
        (['gpu=~".*"'], "that would silence everything", ""),
        (["gpu!=3", "server="], "that would silence everything", ""),
    ],
)
def test_a_matcher_that_is_none_is_told_with_its_place(texts: list[str], words: str, mark: str) -> None:
    with pytest.raises(Wrong) as wrong:
        matchers_of(texts)
    assert words in str(wrong.value)
    assert mark in str(wrong.value)
    assert "\x1b" not in str(wrong.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18:00", "2027-01-15T18:00:00"),
        ("8:05", "2027-01-15T08:05:00"),
        ("07:59", "2027-01-16T07:59:00"),
        ("08:00", "2027-01-16T08:00:00"),
        ("2027-02-01", "2027-02-01T00:00:00"),
        ("2027-02-01T18:30", "2027-02-01T18:30:00"),
        ("2027-02-01 18:30:15", "2027-02-01T18:30:15"),
        ("2027-02-01t18:00:00z", "2027-02-01T18:00:00"),
        ("2027-02-01T18:00:00+02:00", "2027-02-01T16:00:00"),
    ],
)
def test_times_are_those_of_the_persons_clock(text: str, expected: str, utc: None) -> None:
    found = moment(text, T0, "--until")
    assert found == datetime.fromisoformat(expected + "+00:00").timestamp() * 1000


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (Times("2"), '--for "2" is no length of time: write 30m, 2h, 1d12h'),
        (Times("0s"), "is no length of time"),
        (Times("-1h"), "is no length of time"),
        (Times(until="25:00"), '--until "25:00" is no time: write 18:00'),
        (Times(until="tomorrow\x1b"), '--until "tomorrow·" is no time'),
        (Times(until="2020-01-01"), "it would be over already: 2020-01-01 00:00:00 is past"),
        (Times(start="2027-02-02", until="2027-02-01"), "it would end before it starts"),
        (Times("1h", start="2020-01-01"), "it would be over already"),
        (Times("9000y"), "after the year 9999"),
        (Times("999999999999y"), "after the year 9999"),
    ],
)
def test_times_that_are_none_are_told(times: Times, words: str, utc: None) -> None:
    with pytest.raises(Wrong, match=re.escape(words)):
        times.at(T0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Hot"], "a comment is needed, so that others know why: --comment"),
        (["Hot", "--comment", "  "], "a comment is needed"),
        (["Hot", "-c", "c", "--for", "1h", "--until", "18:00"], "give --for or --until, not both"),
        (["Hot", "-c", "c", "-d", "soon"], "is no length of time"),
        (["{}", "-c", "c"], "which alerts?"),
        ([], "Missing argument"),
    ],
)
def test_a_command_line_that_cannot_be_meant_exits_with_2_and_asks_nobody(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(cli, ["silence", "add", *arguments, "--url", "unix:/nowhere"])
    assert result.exit_code == 2
    assert words in result.output


def test_the_command_line_reaches_the_daemon(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        url = ["--url", f"unix:{node.socket}"]
        made = CliRunner().invoke(cli, ["silence", "add", "Hot", "-d", "30m", "-c", "fan", "-a", "kim", "--json", *url])
        assert made.exit_code == 0, made.output
        ident = json.loads(made.output)["id"]
        assert only(node).ends_at_ms == T0 + 30 * MINUTE
        assert ident[:8] in CliRunner().invoke(cli, ["silence", "list", *url]).output
        assert CliRunner().invoke(cli, ["silence", "expire", ident, *url]).exit_code == 0
        alerts = CliRunner().invoke(cli, ["alerts", "--all", *url])
        assert (alerts.exit_code, "inhibited by Hot" in alerts.output) == (0, True)
