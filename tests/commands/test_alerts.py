"""``gpumon alerts``: against a daemon, a Prometheus, and an Alertmanager beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.client.alertmanager import AlertStatus, ManagedAlert, Named, SilenceMatcher, SilenceRow
from monitor.client.wire import AlertRow
from monitor.commands.alerts import Picture, _merged, render, run
from tests.api.notifying import T0, served
from tests.client.fake_daemon import FakeDaemon

SINCE = "2027-01-15T07:58:00.000Z"
SILENCE = SilenceRow(
    "24abaf38-87d4-4a73-b6df-74cf650b279d",
    (SilenceMatcher("gpu", "3"),),
    ends_at="2027-01-15T09:00:00.000Z",
    created_by="kim",
    comment="fan\x1b[31m",
)


def row(name: str, state: str = "firing", severity: str = "critical", **labels: str) -> AlertRow:
    return AlertRow({"alertname": name, "severity": severity, **labels}, {"summary": f"{name}!"}, state, SINCE, "1e+00")


def managed(name: str, severity: str = "critical", status: AlertStatus | None = None, **labels: str) -> ManagedAlert:
    all_labels = {"alertname": name, "severity": severity, **labels}
    return ManagedAlert(all_labels, {}, SINCE, f"print-{name}", (Named("ops"),), status or AlertStatus("active"))


def picture() -> Picture:
    """One of each."""
    return _merged(
        [
            row("Slow", "pending", "warning"), row("Hot", gpu="3"), row("Warm", "firing", "warning", gpu="3"),
            row("Full", severity="warning"), row("Dead"), row("Watchdog", severity="none"),
        ],
        [
            managed("Hot", status=AlertStatus("suppressed", silenced_by=(SILENCE.id, "unknown-id")), gpu="3", site="x"),
            managed("Warm", "warning", AlertStatus("suppressed", inhibited_by=("print-Dead", "gone")), gpu="3"),
            managed("Dead"), managed("Full", "warning"), managed("Watchdog", "none"),
        ],
        [SILENCE],
        T0,
    )  # fmt: skip


def test_what_is_to_be_told_is_listed_worst_first_and_the_rest_counted() -> None:
    assert render(picture()).splitlines() == [
        "2 firing, 1 pending, 1 silenced, 1 inhibited, 1 of severity none (--all lists them)",
        "",
        "SEVERITY  STATE    FOR    ALERT  SUMMARY",
        "\x1b[31mcritical\x1b[0m  firing   2 min  Dead   Dead!",
        "\x1b[33mwarning \x1b[0m  firing   2 min  Full   Full!",
        "warning   pending  2 min  Slow   Slow!",
    ]


def test_everything_says_who_keeps_what_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.client.format.clock", lambda at_ms, date: f"[{at_ms - T0}]")
    lines = render(picture(), everything=True).splitlines()
    assert lines[0] == "2 firing, 1 pending, 1 silenced, 1 inhibited, 1 of severity none"
    at = lines.index("critical  silenced   2 min  Hot       Hot!")
    assert lines[at + 1 :] == [
        "    silenced by kim until [3600000]: fan·[31m (24abaf38)",
        "    silenced: no comment (unknown-)",
        "warning   inhibited  2 min  Warm      Warm!",
        "    inhibited by Dead",
        "    inhibited by gone",
    ]


@pytest.mark.parametrize("width", [60, 80])
def test_lines_keep_to_the_width(width: int) -> None:
    found = Picture(T0, _merged([row("A" * 20, node="n" * 200)], (), (), T0).alerts)
    assert all(len(line) <= width + len("\x1b[31m\x1b[0m") for line in render(found, width).splitlines())


def test_an_alert_without_a_summary_shows_its_labels() -> None:
    alert = AlertRow({"alertname": "A", "gpu": "3", "job": "gpumon"}, {}, "firing", "", "1")
    assert render(_merged([alert], (), (), T0)).splitlines()[-1].split() == ["firing", "–", "A", "gpu=3"]


def test_nothing_is_said_too() -> None:
    assert render(Picture(T0, ())) == "no alerts\n"
    quiet = _merged([row("Watchdog", severity="none")], (), (), T0)
    assert render(quiet) == "0 firing, 1 of severity none (--all lists them)\n"


def test_a_pending_alert_is_never_taken_for_a_firing_one_of_the_alertmanager() -> None:
    silenced = managed("A", status=AlertStatus("suppressed", silenced_by=("x",)))
    (alert,) = _merged([row("A", "pending")], [silenced], (), T0).alerts
    assert alert.shown_state == "pending"


def test_a_daemons_alerts_in_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path) as node:
        target = f"unix:{node.socket}"
        assert run(target, None, everything=False, as_json=False) == 0
        text = capsys.readouterr().out
        assert text.startswith("3 firing, 1 pending, 1 inhibited, 1 of severity none (--all lists them)\n")
        assert "\x1b" not in text  # which is no terminal
        assert run(target, None, everything=False, as_json=True) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["now_ms"]) == (1, T0)
    by_name = {one["name"]: one for one in found["alerts"]}
    assert by_name["Warm"]["inhibited_by"] == [by_name["Hot"]["fingerprint"]]
    assert (by_name["Hot"]["receivers"], by_name["Slow"]["state"]) == (["pager"], "pending")


def test_an_alertmanager_alone_shows_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path) as node:
        assert run(None, f"http://127.0.0.1:{node.port}", everything=True, as_json=False) == 0
    text = capsys.readouterr().out
    assert "Hot" in text
    assert "Slow" not in text  # it knows nothing of what is pending


def test_a_prometheus_alone_says_where_silences_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(tmp_path / "p.sock").serving() as target:
        assert run(target, None, everything=False, as_json=False) == 0
    text = capsys.readouterr().out
    assert "silences are not known" in text
    assert "--alertmanager http://HOST:9093" in text


def test_what_does_not_answer_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"unix:{tmp_path}/none", None, everything=False, as_json=False) == 1
    assert "there is no such socket" in capsys.readouterr().err
    assert run(None, "nonsense", everything=False, as_json=True) == 1
    said = capsys.readouterr()
    assert "this is no address" in said.err
    assert said.out == ""
