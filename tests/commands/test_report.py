"""``gpumon report`` from a daemon's API: forms, files, exit codes, sending."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.samples import labels_of
from monitor.store.head import Head
from tests.commands.serving import head_of, serving

UTIL = labels_of({"__name__": "DCGM_FI_DEV_GPU_UTIL", "gpu": "0", "modelName": "H200"})
TOKENS = labels_of({"__name__": "vllm:generation_tokens_total", "server": "n1:8000", "model_name": "m"})


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    count = 600
    store: Head = head_of({UTIL: [40.0] * count, TOKENS: [10.0 * n for n in range(count)]})
    with serving(store) as found:
        yield found


def gpumon(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["report", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_markdown_html_and_json_are_the_same_report(target: str, tmp_path: Path) -> None:
    code, text, _ = gpumon("--url", target, "--since", "5m")
    assert code == 0
    assert "| GPU utilization " in text
    assert "3,000" in text  # ten tokens a second for five minutes
    code, text, _ = gpumon("--url", target, "--since", "5m", "--json")
    report = json.loads(text)
    assert report["figures"]["generation_tokens"] == pytest.approx(3000)
    assert report["figures"]["utilization"] == pytest.approx(0.4)
    page = tmp_path / "day.html"
    code, text, _ = gpumon("--url", target, "--since", "5m", "-o", str(page))
    assert (code, text) == (0, "")
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [one.name for one in tmp_path.iterdir()] == ["day.html"]


def test_a_time_without_readings_is_written_and_is_no_success(target: str) -> None:
    code, text, said = gpumon("--url", target, "--since", "5m", "--until", "2020-01-01T00:00:00Z")
    assert code == 1
    assert "There are no readings in this period" in text
    assert "no readings in this period" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "yesterday"), "--since"),
        (("--since", "0"), "366 days at most"),
        (("-o", "day.pdf"), "day.pdf: .pdf is none of .md, .html and .json"),
        (("--price", "3"), "is no price: write 0.30/kWh"),
        (("--price", "1/kWh", "--price", "2/kWh"), "two prices per kWh"),
        (("--until", "noon"), "--until"),
        (("--location", "Mars"), 'there is no time zone "Mars"'),
        (("--json", "--format", "html"), "not both"),
        (("--send", "chat", "-o", "x"), "--send"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(target: str, arguments: tuple[str, ...], words: str) -> None:
    code, _, said = gpumon("--url", target, *arguments)
    assert code == 2
    assert words in said


def test_a_file_that_cannot_be_written_ends_with_1(target: str, tmp_path: Path) -> None:
    code, _, said = gpumon("--url", target, "--since", "5m", "-o", str(tmp_path))
    assert code == 1
    assert "is a directory" in said.lower()
    code, _, said = gpumon("--url", target, "--since", "5m", "-o", str(tmp_path / "none" / "day.html"))
    assert code == 1
    assert said == f"gpumon report: {tmp_path / 'none'}: there is no such directory\n"


def test_a_folder_that_takes_no_file_is_told_by_the_file_s_own_name(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*, prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied", str(dir / f"{prefix}x{suffix}"))

    monkeypatch.setattr("tempfile.mkstemp", refuses)
    code, _, said = gpumon("--url", target, "--since", "5m", "-o", str(tmp_path / "day.md"))
    assert code == 1
    assert said == f"gpumon report: {tmp_path / 'day.md'}: Permission denied\n"


def test_sending_needs_a_receiver_that_there_is(target: str) -> None:
    code, _, said = gpumon("--url", target, "--send", "chat")
    assert code == 1
    assert "there is no receiver 'chat'" in said


def test_no_schedule_is_said_to_be_none(target: str) -> None:
    code, text, _ = gpumon("--url", target, "--list")
    assert code == 0
    assert "no report is scheduled" in text
    code, text, _ = gpumon("--url", target, "--list", "--json")
    assert json.loads(text) == []
