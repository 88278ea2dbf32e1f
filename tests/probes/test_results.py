"""The folder of a run: whole or not at all, and the same when it is read again."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitor.probes import report_html, report_markdown, results, statistics
from monitor.probes.json_place import BadFile
from monitor.probes.schema import METRICS, Result
from tests.probes.made_results import fail, made, without_records

VLLM_KEYS = {
    "date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate",
    "burstiness", "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
    "request_throughput", "request_goodput", "output_throughput", "total_token_throughput", "input_lens",
    "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times", "generated_texts", "errors",
    "max_output_tokens_per_s", "max_concurrent_requests", "rtfx",
}  # fmt: skip
VLLM_KEYS |= {f"{name}_{metric}_ms" for name in ("mean", "median", "std", "p99") for metric in METRICS}
"""What 0.32.0 writes with --save-detailed, read off its source."""


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def same(one: Result, other: Result) -> None:
    """Equal, but for times that were rounded to 0.1 µs."""
    assert without_records(one) == without_records(other)
    for left, right in zip(one.steps, other.steps, strict=True):
        assert left.records is not None
        assert right.records is not None
        for a, b in zip(left.records, right.records, strict=True):
            for name in ("start_s", "ttft_s", "e2el_s", "waited_s"):
                assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-7)
            assert a.itl_s == pytest.approx(b.itl_s, abs=1e-7)
            for name in ("outcome", "error", "status", "prompt_tokens", "output_tokens", "cached_tokens", "group"):
                assert getattr(a, name) == getattr(b, name)


# -- write ----------------------------------------------------------------------------------------------------------


def test_all_files_of_a_suite(tmp_path: Path) -> None:
    result = made("suite", few=True)
    names = results.write(tmp_path / "run", result)
    tables = {f"{name}_results.csv" for name in ("latency", "throughput", "prefix", "rate", "priority", "soak")}
    assert {name for name in names if "/" not in name} == {
        "baseline_metrics.json", "report.html", "summary.md", "sequence_length_results.csv", *tables,
    }  # fmt: skip
    assert sum(name.startswith("steps/") for name in names) == len(result.steps)
    assert names == results.names(tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    for workload in ("throughput", "prefix"):
        result = made(workload, few=True)
        results.write(tmp_path / workload, result)
        same(results.read(tmp_path / workload), result)
        same(results.read(tmp_path / workload / "baseline_metrics.json"), result)


def test_the_top_level_is_what_vllm_writes_of_the_headline_step(tmp_path: Path) -> None:
    result = made("throughput", few=True)
    results.write(tmp_path / "run", result)
    value = load(tmp_path / "run" / "baseline_metrics.json")
    assert value.keys() >= VLLM_KEYS
    assert value["max_concurrency"] == 16
    assert value["request_rate"] == "inf"
    best = result.steps[2]
    assert best.records is not None
    assert value["output_throughput"] == best.metrics.output_throughput
    assert value["p99_ttft_ms"] == best.metrics.ttft.p99
    assert value["ttfts"] == pytest.approx([one.ttft_s for one in best.records])
    assert [len(gaps) for gaps in value["itls"]] == [63] * len(best.records)
    own = load(tmp_path / "run" / "steps" / "03-throughput-concurrency-16.json")
    assert own == {name: one for name, one in value.items() if name != "gpumon"}


def test_the_lists_of_a_step_give_its_numbers(tmp_path: Path) -> None:
    """Whoever takes only vLLM's part gets the same figures from it."""
    result = made("throughput", few=True)
    results.write(tmp_path / "run", result)
    value = load(tmp_path / "run" / "baseline_metrics.json")
    assert statistics.latency([1000 * one for one in value["ttfts"]]).p99 == pytest.approx(value["p99_ttft_ms"])
    gaps = [1000 * gap for gaps in value["itls"] for gap in gaps]
    assert statistics.latency(gaps).median == pytest.approx(value["median_itl_ms"])
    assert sum(value["output_lens"]) / value["duration"] == pytest.approx(value["output_throughput"])


def test_a_failed_request_stands_as_vllm_writes_it(tmp_path: Path) -> None:
    result = made("latency", few=True)
    step = result.steps[0]
    assert step.records is not None
    records = (fail(step.records[0], "shed", "HTTP 429: slow down", 429), *step.records[1:])
    step = msgspec.structs.replace(
        step, records=records, metrics=statistics.metrics(records, step.metrics.duration_s, result.spec.slos)
    )
    results.write(tmp_path / "run", msgspec.structs.replace(result, steps=(step,)))
    value = load(tmp_path / "run" / "baseline_metrics.json")
    assert (value["completed"], value["failed"], value["num_prompts"]) == (7, 1, 8)
    assert (value["errors"][0], value["ttfts"][0], value["itls"][0], value["output_lens"][0]) == (
        "HTTP 429: slow down", 0.0, [], 0,
    )  # fmt: skip
    assert value["errors"][1:] == [""] * 7
    assert results.read(tmp_path / "run").steps[0].records[0].outcome == "shed"  # type: ignore[index]


def test_what_was_not_measured_is_null_and_empty(tmp_path: Path) -> None:
    result = made("latency", few=True)
    step = msgspec.structs.replace(result.steps[0], metrics=statistics.metrics((), 1.0), records=())
    results.write(tmp_path / "run", msgspec.structs.replace(result, steps=(step,)))
    assert load(tmp_path / "run" / "baseline_metrics.json")["p99_ttft_ms"] is None
    line = next(csv.DictReader(io.StringIO((tmp_path / "run" / "latency_results.csv").read_text())))
    assert line["ttft_p99_ms"] == ""


def test_a_run_without_steps_is_kept_too(tmp_path: Path) -> None:
    result = msgspec.structs.replace(made("latency", few=True), steps=(), state="failed", error="gone")
    names = results.write(tmp_path / "run", result)
    assert set(names) == {"baseline_metrics.json", "summary.md", "report.html"}
    assert results.read(tmp_path / "run") == result
    assert "gone" in (tmp_path / "run" / "summary.md").read_text()


def test_csv_has_a_line_for_each_step_and_class(tmp_path: Path) -> None:
    result = made("priority", few=True)
    results.write(tmp_path / "run", result)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "run" / "priority_results.csv").read_text())))
    assert [line["group"] for line in lines] == ["", "priority 0", "priority 1", "priority 2"]
    made_of = result.steps[0].groups["priority 1"]
    assert float(lines[2]["ttft_p99_ms"]) == pytest.approx(made_of.ttft.p99)
    assert lines[0]["concurrency"] == "16"


def test_a_spreadsheet_takes_no_error_for_a_formula(tmp_path: Path) -> None:
    result = made("latency", few=True)
    step = msgspec.structs.replace(result.steps[0], invalid=("=HYPERLINK(1)",))
    results.write(tmp_path / "run", msgspec.structs.replace(result, steps=(step,)))
    line = next(csv.DictReader(io.StringIO((tmp_path / "run" / "latency_results.csv").read_text())))
    assert line["invalid"] == "'=HYPERLINK(1)"


def test_names_of_steps_are_names_of_files(tmp_path: Path) -> None:
    result = made("latency", few=True)
    step = msgspec.structs.replace(result.steps[0], name="../../../etc/passwd\n" + "x" * 300)
    names = results.write(tmp_path / "run", msgspec.structs.replace(result, steps=(step,)))
    (own,) = [name for name in names if name.startswith("steps/")]
    assert own == f"steps/01-latency-..-..-..-etc-passwd-{'x' * 300}"[:89] + ".json"
    assert os.listdir(tmp_path) == ["run"]


# -- whole or not at all --------------------------------------------------------------------------------------------


def test_nothing_that_is_there_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "mine").write_text("keep me")
    with pytest.raises(results.CannotWrite, match="is there already"):
        results.write(folder, made("latency", few=True))
    assert (folder / "mine").read_text() == "keep me"
    assert os.listdir(tmp_path) == ["run"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(results.CannotWrite):
        results.write(tmp_path / "run", made("latency", few=True))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_an_end_in_the_middle_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        pass

    def killed(result: Result) -> str:
        assert os.listdir(tmp_path)[0].startswith(".run.partial-")
        raise KilledError

    monkeypatch.setattr(report_html, "report", killed)
    with pytest.raises(KilledError):
        results.write(tmp_path / "run", made("latency", few=True))
    assert os.listdir(tmp_path) == []


def test_killed_in_the_middle_there_is_no_folder_of_that_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from monitor.probes import report_html, results\n"
        "from tests.probes.made_results import made\n"
        "report_html.report = lambda result: os.kill(os.getpid(), signal.SIGKILL)\n"
        "results.write(Path(sys.argv[1]), made('latency', few=True))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], cwd=root, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".run.partial-")
    assert "baseline_metrics.json" in os.listdir(tmp_path / left)
    results.write(tmp_path / "run", made("latency", few=True))
    assert results.read(tmp_path / "run").workload == "latency"


def test_a_report_that_cannot_be_drawn_loses_no_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(result: Result) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(report_markdown, "summary", broken)
    names = results.write(tmp_path / "run", made("latency", few=True))
    assert "summary.md" not in names
    assert "baseline_metrics.json" in names
    assert "summary.md could not be drawn" in caplog.text


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(results.CannotWrite, match=r"file/run: (Not a directory|File exists)"):
        results.write(tmp_path / "file" / "run", made("latency", few=True))


# -- read -----------------------------------------------------------------------------------------------------------


def refused(path: Path, content: str) -> str:
    path.write_text(content)
    with pytest.raises(BadFile) as error:
        results.read(path)
    return str(error.value).removeprefix(f"{path}")


def test_bad_files_are_told_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert refused(path, "") == ":1:1: it is empty; was the disk full when it was written?"
    assert refused(path, '{"a": 1,\n "b"') == ":2:5: the file ends in the middle; copy it again, or repeat the run"
    assert refused(path, '{"a": 1,\n "b" 2}').startswith(":2:6: no JSON: expecting ':' delimiter")
    assert refused(path, "hello").startswith(":1:1: no JSON: ")
    assert refused(path, "[]").startswith(":1:1: it is a list; ")
    assert refused(path, '{"model": 1}').startswith(":1:1: it is no result: ")
    assert refused(path, '{"duration": 1, "completed": 2}').startswith(":1:1: there is no 'output_throughput': ")
    missing = {"completed": 2, "output_throughput": 3, "duration": "a"}
    assert refused(path, json.dumps(missing, indent=1)) == ":4:14: 'duration' is to be a number, and is 'a'"
    assert "take the file of the same name" in refused(tmp_path / "a.pytorch.json", "[]")
    path.write_bytes(b'{\n"a": "\xff"}')
    with pytest.raises(BadFile, match=r":2:7: it is no text in UTF-8"):
        results.read(path)
    with pytest.raises(BadFile, match="there is no such file"):
        results.read(tmp_path / "none.json")
    with pytest.raises(BadFile, match=r"no baseline_metrics\.json in it"):
        results.read(tmp_path)


def test_a_wrong_value_deep_in_ours_is_told_with_the_place(tmp_path: Path) -> None:
    results.write(tmp_path / "run", made("throughput", few=True))
    path = tmp_path / "run" / "baseline_metrics.json"
    whole = load(path)
    own = whole["gpumon"]

    def said(change: Any) -> str:
        value = json.loads(json.dumps(whole))
        change(value["gpumon"])
        text = json.dumps(value, indent=1)
        words = refused(tmp_path / "b.json", text)
        line, column = map(int, words[1:].split(": ")[0].split(":"))
        return f"{text.splitlines()[line - 1][column - 1 :].rstrip(',')} | {words.split(': ', 1)[1]}"

    assert said(lambda one: one["steps"][2]["metrics"].update(completed="x")) == (
        '"x" | expected `int`, got `str` (at gpumon.steps[2].metrics.completed)'
    )
    assert said(lambda one: one.update(workload="dance")).startswith('"dance" | invalid enum value')
    assert said(lambda one: one.update(version=99)).startswith("99 | a newer gpumon wrote it (version 99")
    assert said(lambda one: one["records"].pop()).startswith("[ | 'records' is to be a list of 3")
    assert said(lambda one: one["records"][1]["ttft_s"].pop()).startswith("[ | 'ttft_s' has 7 items")
    assert len(own["steps"]) == 3


def test_a_row_for_a_list() -> None:
    result = made("throughput", few=True, name="fp8", labels={"quantization": "fp8"})
    row = results.row(msgspec.structs.replace(result, invalid=("cached tokens: 512",)))
    assert (row.name, row.server, row.valid, row.labels) == ("fp8", "127.0.0.1:8000", False, {"quantization": "fp8"})
    assert results.row(made("latency", few=True)).name == "latency"
