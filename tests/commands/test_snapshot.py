"""``gpumon snapshot``: the text and the JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from monitor.cli import cli
from monitor.client.snapshot import Snapshot
from monitor.client.wire import ProcessRow
from monitor.commands.snapshot import render_text, run, to_json
from monitor.records import replace
from monitor.samples import make_labels
from tests.client.fake_daemon import FakeDaemon
from tests.client.story import FACTS, SERVER, START_MS, Story, alert, snapshot
from tests.commands.serving import head_of, serving


def test_the_text_has_everything_and_no_escape_codes() -> None:
    text = render_text(snapshot(seconds=5), 100)
    for part in (
        "h200-07",
        "8 × NVIDIA H200",
        "power cap",
        f"vLLM  {SERVER}  up",
        "first token mean 151 ms, p95 546 ms",
        "KV cache 71 %",
        "alerts  1 firing, 1 pending",
        "critical  firing   2 min",
        "sources  nvml ok",
    ):
        assert part in text, part
    assert text.endswith("\n")
    assert "\x1b" not in text


def test_what_is_silenced_is_not_counted_as_firing() -> None:
    quiet = structs.replace(alert("Quiet"), silenced_by=("x",))
    text = render_text(snapshot(Story(alerts=(quiet, alert("Loud"))), seconds=5), 100)
    assert "alerts  1 firing, 1 silenced, 0 pending" in text
    assert re.search(r"warning +silenced .*Quiet", text)


def test_processes_are_listed_with_their_engine_and_rank() -> None:
    rows = (
        ProcessRow("0", "GPU-0", 4711, 9 << 30, name="VLLM::Worker_TP0", server=SERVER, engine="0", rank="0"),
        ProcessRow("", "", 4712, None, kind="host", name="VLLM::EngineCore\x1b[31m", server=SERVER, engine="0"),
    )
    lines = render_text(snapshot(), 160, rows).splitlines()
    worker = next(line for line in lines if "4711" in line)
    assert worker.split() == ["0", "4711", SERVER, "0", "0", "9.0", "GiB", "–", "–", "–", "–", "VLLM::Worker_TP0"]
    assert "\x1b" not in next(line for line in lines if "4712" in line)
    assert json.loads(to_json(snapshot(), rows))["processes"][0]["rank"] == "0"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_lines_keep_to_the_width(width: int) -> None:
    story = Story(alerts=(alert("A", summary="much to say " * 30),))
    assert all(len(line) <= width for line in render_text(snapshot(story, seconds=1), width).splitlines())


def test_what_is_down_or_gone_says_so() -> None:
    picture = snapshot(Story(nvml_down="no answer in 2 s", vllm_down="connection refused"))
    text = render_text(picture)
    assert "no GPU readings" in text
    assert f"vLLM  {SERVER}  DOWN: connection refused" in text
    assert "nvml DOWN: no answer in 2 s" in text
    lost = replace(snapshot(seconds=1), gpus=(replace(snapshot().gpus[0], stale=True, at_ms=START_MS - 60_000),))
    assert "no readings for 61 s" in render_text(lost)


def test_an_empty_picture_is_text_too() -> None:
    assert "no GPU readings" in render_text(Snapshot(1, START_MS, FACTS))


def test_nothing_in_the_text_commands_a_terminal() -> None:
    evil = "\x1b[31m\x07"
    story = Story(model=evil, servers=(evil,), alerts=(alert(evil, summary=evil),))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", render_text(snapshot(story, seconds=1)))


def test_the_json_has_null_for_what_is_absent() -> None:
    told = json.loads(to_json(snapshot(seconds=1)))
    assert told["schema"] == 1
    parts = {"node", "gpus", "engines", "host", "alerts", "sources", "problems", "processes"}
    assert set(told) == {"schema", "now_ms"} | parts
    assert told["gpus"][0]["fan"] is None
    assert told["gpus"][3]["throttles"] == ["sw thermal"]
    assert told["engines"][0]["server"] == SERVER
    assert told["host"]["filesystems"][0]["mountpoint"] == "/"
    assert told["alerts"][0]["labels"]["alertname"] == "GpuTemperatureHigh"


def test_the_command_prints_what_a_daemon_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        assert run(target, as_json=False) == 0
        assert "8 × NVIDIA H200" in capsys.readouterr().out
        assert run(target, as_json=True) == 0
        assert len(json.loads(capsys.readouterr().out)["gpus"]) == 8


def test_no_daemon_is_an_error_with_its_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"unix:{tmp_path}/none.sock", as_json=False) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there is no such socket" in captured.err
    assert "gpumon daemon" in captured.err


def test_prom_prints_what_prometheus_scrapes() -> None:
    with serving(head_of({make_labels("util", gpu="0"): [1.0, 42.0]})) as target:
        done = CliRunner().invoke(cli, ["snapshot", "--prom", "--url", target])
    assert done.exit_code == 0, done.output
    assert 'util{gpu="0"} 42' in done.output
    done = CliRunner().invoke(cli, ["snapshot", "--prom", "--url", "unix:/nonexistent/s"])
    assert done.exit_code == 1
    assert "no such socket" in done.output
    assert CliRunner().invoke(cli, ["snapshot", "--prom", "--json"]).exit_code == 2
