"""``gpumon export``: every sample once, in files that are whole or not there."""

from __future__ import annotations

import csv
import json
import math
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from monitor.client.raw_samples import RawSeries
from monitor.client.sample_formats import Csv, OpenMetrics, number, timestamp
from monitor.commands import export as command
from monitor.commands.export import Wanted, run
from monitor.samples import Family, make_labels
from tests.commands.serving import T0, head_of, serving

COUNT = 300
STORE = {
    make_labels("util", gpu="0"): [i / 7 for i in range(COUNT)],
    make_labels("util", gpu="1", note='a"b\\c\nd'): [float(i) for i in range(COUNT)],
    make_labels("done_total"): [float(i) for i in range(COUNT)],
    make_labels("free_total"): [1.0] * COUNT,
    make_labels("free"): [2.0] * COUNT,
    make_labels("wait_seconds_bucket", le="0.5"): [float(i) for i in range(COUNT)],
    make_labels("wait_seconds_bucket", le="+Inf"): [float(2 * i) for i in range(COUNT)],
    make_labels("wait_seconds_count"): [float(2 * i) for i in range(COUNT)],
    make_labels("job:util:odd"): [math.inf if i % 2 else -0.0 for i in range(COUNT)],
}
FAMILIES = {
    "util": Family("util", "gauge", 'Of all, in "per cent" \\ of\nit.'),
    "done_total": Family("done_total", "counter", "Done."),
    "free_total": Family("free_total", "counter", "A counter whose family's name a gauge has."),
    "free": Family("free", "gauge", "That gauge."),
    "wait_seconds": Family("wait_seconds", "histogram", "Waits."),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(head_of(STORE, FAMILIES)) as target:
        yield target


def lines_of(url: str, path: Path, *selectors: str, form: str = "openmetrics", since: str = "1h") -> list[str]:
    assert run(Wanted(selectors, since, form=form), url, path) == 0
    return path.read_text().splitlines()


def test_a_strict_reader_of_openmetrics_takes_it_and_finds_every_sample(url: str, tmp_path: Path) -> None:
    path = tmp_path / "all.om"
    lines_of(url, path)
    read = text_string_to_metric_families(path.read_text())  # type: ignore[no-untyped-call]
    families = {family.name: family for family in read}
    assert {name: family.type for name, family in families.items()} == {
        "util": "gauge",
        "done": "counter",
        "free_total": "unknown",
        "free": "gauge",
        "wait_seconds_bucket": "unknown",
        "wait_seconds_count": "unknown",
        "job:util:odd": "unknown",
    }
    assert families["util"].documentation == 'Of all, in "per cent" \\ of it.'
    found: dict[tuple[tuple[str, str], ...], list[tuple[int, float]]] = {}
    for family in families.values():
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("job", "instance")}
            assert sample.labels.keys() >= {"job", "instance"}
            at_ms = round(float(str(sample.timestamp)) * 1000)
            found.setdefault(make_labels(sample.name, **labels), []).append((at_ms, sample.value))
    expected = {
        labels: [(T0 - (COUNT - 1 - i) * 1000, value) for i, value in enumerate(values)]
        for labels, values in STORE.items()
    }
    assert found == expected


def test_the_range_is_open_at_its_start_and_closed_at_its_end(url: str, tmp_path: Path) -> None:
    lines = lines_of(url, tmp_path / "x.om", "done_total", since="3s")
    assert [line.split()[1] for line in lines if line[0] != "#"] == ["297", "298", "299"]


@pytest.mark.parametrize(
    ("selectors", "series"),
    [
        (["util"], 2),
        (['util{gpu="1"}'], 1),
        (['{gpu="1"}'], 1),
        (['{__name__=~"done.*|free"}'], 2),
        (['{ gpu = "1" , }', "util"], 2),
        (["util", 'util{gpu="0"}', "free"], 3),
        (['{__name__="free"}'], 1),
    ],
)
def test_selectors_choose_and_no_series_comes_twice(
    url: str, tmp_path: Path, selectors: list[str], series: int
) -> None:
    lines = [line for line in lines_of(url, tmp_path / "x.om", *selectors) if line[0] != "#"]
    assert len(lines) == len(set(lines)) == series * COUNT


def test_csv_has_time_value_name_and_the_labels_as_json(url: str, tmp_path: Path) -> None:
    lines_of(url, tmp_path / "x.csv", 'util{gpu="1"}', form="csv", since="2s")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["time", "value", "name", "labels"]
    assert [row[:3] for row in rows[1:]] == [
        ["2026-09-21T14:13:19.000Z", "298", "util"],
        ["2026-09-21T14:13:20.000Z", "299", "util"],
    ]
    labels = {"gpu": "1", "note": 'a"b\\c\nd', "job": "gpumon", "instance": "n1:9519"}
    assert [json.loads(row[3]) for row in rows[1:]] == [labels, labels]


def test_standard_output_is_the_default(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Wanted(["free"], "2s"), url, None) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "# EOF"
    assert said.err == ""


def test_what_matches_nothing_leaves_no_file(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Wanted(["nothing"]), url, tmp_path / "x.om") == 1
    assert "no sample matches" in capsys.readouterr().err
    assert run(Wanted(["free"], start="-3h", end="-2h"), url, tmp_path / "x.om") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_ends_in_the_middle_leaves_the_old_file(
    url: str, tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*arguments: object, **more: object) -> AsyncIterator[RawSeries]:
        yield RawSeries((("__name__", "free"),))
        raise error

    monkeypatch.setattr(command, "samples_of", broken)
    path = tmp_path / "x.om"
    path.write_text("old")
    with pytest.raises(error):
        run(Wanted(["free"]), url, path)
    assert [one.name for one in tmp_path.iterdir()] == ["x.om"]
    assert path.read_text() == "old"


def test_a_file_has_the_rights_of_any_other(url: str, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        lines_of(url, tmp_path / "x.om", "free")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.om").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        (Wanted(["free"], since="1h", start="-1h"), 2, "--since or --start"),
        (Wanted(["free"], start="now"), 2, "the start is not before the end"),
        (Wanted(["free"], since="x"), 2, '--since "x" is no length of time'),
        (Wanted(["free{"]), 1, "parse error"),
        (Wanted(["free", "sum(free)"]), 1, '1:4: parse error: unexpected "("'),
    ],
)
def test_what_is_wrong_is_told(
    url: str, tmp_path: Path, wanted: Wanted, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(wanted, url, tmp_path / "x.om") == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_told(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Wanted(["free"]), url, tmp_path) == 1
    assert run(Wanted(["free"]), url, tmp_path / "no" / "x.om") == 1
    assert run(Wanted(["free"]), f"unix:{tmp_path}/none.sock", tmp_path / "x.om") == 1
    err = capsys.readouterr().err
    assert "is a directory" in err
    assert f"{tmp_path / 'no' / 'x.om'}: there is no directory {tmp_path / 'no'}" in err
    assert "there is no such socket" in err
    assert list(tmp_path.iterdir()) == []


# -- the formats -------------------------------------------------------------------------------------------------------


def test_no_millisecond_is_lost_by_a_reader_that_drops_what_is_behind_the_point() -> None:
    for at_ms in (0, 1, -1, 999, 1_795_274_667_438, *range(T0, T0 + 3000), 253_402_300_799_999):
        assert int(float(timestamp(at_ms)) * 1000) == at_ms
        assert round(float(timestamp(at_ms)) * 1000) == at_ms


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (1e20, "1e+20"), (0.1, "0.1"), (5e-324, "5e-324"),
        (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (123456789012345678.0, "1.2345678901234568e+17"),
    ],
)  # fmt: skip
def test_numbers_keep_all_their_digits(value: float, text: str) -> None:
    assert number(value) == text
    assert math.isnan(value) or math.copysign(1, float(text)) == math.copysign(1, value)


def test_names_beyond_ascii_stand_in_quotes() -> None:
    series = RawSeries((("__name__", "a.b"), ("c-d", "ü")))
    series.times.append(1000)
    series.values.append(1.0)
    form = OpenMetrics(["a.b"], {})
    assert form.family("a.b") == '# TYPE "a.b" unknown\n'
    assert list(form.series(series)) == ['{"a.b","c-d"="ü"} 1 1.000\n']
    assert list(Csv().series(series)) == ['1970-01-01T00:00:01.000Z,1,a.b,"{""c-d"":""ü""}"\n']


def test_a_file_that_cannot_be_made_is_named_as_it_was_asked_for(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no such" / "x"
    assert run(Wanted(("util",), "1h"), url, path) == 1
    assert capsys.readouterr().err == f"gpumon export: {path}: there is no directory {path.parent}\n"
    (tmp_path / "file").write_text("")
    assert run(Wanted(("util",), "1h"), url, tmp_path / "file" / "x") == 1
    assert capsys.readouterr().err == f"gpumon export: {tmp_path / 'file' / 'x'}: Not a directory\n"


def test_a_folder_that_takes_no_file_is_told_by_the_file_s_own_name(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*, prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied", str(dir / f"{prefix}x{suffix}"))

    monkeypatch.setattr("tempfile.mkstemp", refuses)
    assert run(Wanted(("util",), "1h"), url, tmp_path / "x.om") == 1
    assert capsys.readouterr().err == f"gpumon export: {tmp_path / 'x.om'}: Permission denied\n"
