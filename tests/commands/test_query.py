"""``gpumon query``: what it prints of an instant, of a range, of what is wrong."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from monitor.commands.query import Asked, run
from monitor.commands.times import BadTime, moment, span, step_for
from monitor.samples import make_labels
from tests.commands.serving import T0, head_of, serving
from tests.http_server import never, serve

GPU0, GPU1 = make_labels("temp_celsius", gpu="0"), make_labels("temp_celsius", gpu="1", note='a"b')
ODD = make_labels("odd")
STORE = {
    GPU0: [float(i % 50 + 40) for i in range(600)],
    GPU1: [55.5] * 600,
    ODD: [*[1.0] * 599, float("nan")],
}
INSTANCE = 'instance="n1:9519", job="gpumon"'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A daemon's API over ``STORE``."""
    with serving(head_of(STORE)) as target:
        yield target


@pytest.fixture(autouse=True)
def server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found without being named."""
    monkeypatch.setenv("GPUMON_URL", url)


def query(
    capsys: pytest.CaptureFixture[str], expr: str, output: str = "table", code: int = 0, **asked: str
) -> tuple[str, str]:
    assert run(expr, None, Asked(**asked), output) == code
    said = capsys.readouterr()
    return said.out, said.err


def test_an_instant_is_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = query(capsys, "temp_celsius")
    assert out.splitlines() == [
        f'temp_celsius{{gpu="0", {INSTANCE}}}' + " " * len(', note="a\\"b"') + "  89",
        f'temp_celsius{{gpu="1", {INSTANCE}, note="a\\"b"}}  55.5',
    ]
    assert err == ""


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("1 / 0", "+Inf"),
        ("-1/0", "-Inf"),
        ("0 / 0", "NaN"),
        ("vector(0.1 + 0.2)", "  0.30000000000000004"),
        ("'a'", "a"),
    ],
)
def test_numbers_are_as_prometheus_writes_them(expr: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = query(capsys, expr)
    assert out.strip() == expected.strip()


def test_samples_of_a_range_selector_stand_below_their_series(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = query(capsys, 'temp_celsius{gpu="0"}[3s]')
    first, *samples = out.splitlines()
    assert first == f'temp_celsius{{gpu="0", {INSTANCE}}}'
    assert [line.split()[-1] for line in samples] == ["87", "88", "89"]
    assert all(re.fullmatch(r"  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \d+", line) for line in samples)


def test_json_is_what_the_api_has_under_data(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = query(capsys, "odd", "json")
    labels = {"__name__": "odd", "instance": "n1:9519", "job": "gpumon"}
    row = {"metric": labels, "value": [T0 / 1000, "NaN"]}
    assert json.loads(out) == {"resultType": "vector", "result": [row]}


def test_csv_has_a_column_for_each_label(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = query(capsys, "temp_celsius", "csv", since="2s", step="1s")
    rows = list(csv.reader(out.splitlines()))
    assert rows[0] == ["time", "value", "__name__", "gpu", "instance", "job", "note"]
    assert len(rows) == 1 + 2 * 3
    assert rows[-1] == ["2026-09-21T14:13:20.000Z", "55.5", "temp_celsius", "1", "n1:9519", "gpumon", 'a"b']


def test_a_range_without_a_step_has_one_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = query(capsys, "odd", "json", since="10m")
    values = json.loads(out)["result"][0]["values"]
    assert 100 < len(values) <= 251
    assert all(at % 5 == 0 for at, _ in values)


def test_too_small_a_step_is_widened_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = query(capsys, "odd", "json", since="10h", step="1s")
    assert "36001 points a series are too many: a step of 5s is taken" in err
    assert json.loads(out)["resultType"] == "matrix"


def test_what_is_past_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    at = 'temp_celsius{gpu="0"}'
    for text in ("-9s", "now-9s", str(T0 // 1000 - 9), str(T0 - 9000), "2026-09-21T14:13:11Z"):
        assert query(capsys, at, at=text)[0].split()[-1] == "80", text


@pytest.mark.parametrize(
    ("expr", "below", "mark"),
    [
        ("sum(temp))", "  sum(temp))", "  " + " " * 9 + "^"),
        ("a +\n  rate(b)", "    rate(b)", "  " + " " * 7 + "^"),
        ("ä{x='ü'} + ]", "  ä{x='ü'} + ]", "  ^"),
    ],
)
def test_the_place_of_a_mistake_is_marked(expr: str, below: str, mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = query(capsys, expr, code=1)
    assert out == ""
    assert "parse error" in err
    assert err.splitlines()[-2:] == [below, mark]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"at": "soon"}, '--at "soon" is no time'),
        ({"since": "long"}, '--since "long" is no length of time'),
        ({"since": "1h", "start": "-2h"}, "--since or --start"),
        ({"at": "-1h", "since": "1h"}, "either"),
        ({"start": "now", "end": "-1h"}, "the start is after the end"),
        ({"since": "1h", "step": "0"}, '--step "0" is no length of time'),
    ],
)
def test_what_cannot_be_meant_is_told(asked: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = query(capsys, "odd", code=2, **asked)
    assert said in err


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("9:00", "9:20", (0, 9, 0, 9, 20)),
        ("9:00", "10:00", (1, 9, 0, 10, 0)),  # the last 10:00 is yesterday's
        ("23:00", "1:00", (1, 23, 0, 25, 0)),
        ("9:00", None, (0, 9, 0, 9, 25)),
        ("-2h", "9:00", (0, 7, 25, 9, 0)),
        ("8:00", "2026-09-22T10:00", (0, 8, 0, 34, 0)),
    ],
)
def test_a_range_by_the_clock_is_the_last_one(
    start: str, end: str | None, hours: tuple[int, int, int, int, int]
) -> None:
    ago, from_hour, from_minute, to_hour, to_minute = hours
    day = datetime(2026, 9, 21) - timedelta(days=ago)
    now_ms = round(datetime(2026, 9, 21, 9, 25).timestamp() * 1000)
    found = Asked(start=start, end=end, step="1m").range(now_ms, 100)[:2]
    wanted = (
        day + timedelta(hours=from_hour, minutes=from_minute),
        day + timedelta(hours=to_hour, minutes=to_minute),
    )
    assert found == tuple(round(each.timestamp() * 1000) for each in wanted)


def test_a_server_that_says_nothing_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    async def ask() -> int:
        async with serve(never) as server:
            return await asyncio.to_thread(run, "up", server.url, Asked(), "table", 0.2)

    assert asyncio.run(ask()) == 1
    assert "no answer within 0.2 s" in capsys.readouterr().err


def test_no_series_are_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert query(capsys, "nothing") == ("", "no series\n")
    assert query(capsys, "nothing", "graph") == ("", "no series\n")


def test_a_graph_is_as_wide_as_the_terminal_and_has_axes_and_a_legend(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    out, _ = query(capsys, "temp_celsius", "graph", since="10m")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 23
    assert "\x1b" not in out
    assert any(line.startswith("  75 °C ┤") for line in lines)
    assert re.search(r"\d\d:\d\d", lines[-3])
    assert lines[-2].startswith('a ━ {gpu="0"} ')
    assert lines[-2].endswith("max 89 °C")
    assert lines[-1].endswith("last 55.5 °C  min 55.5 °C  max 55.5 °C")


# -- times -------------------------------------------------------------------------------------------------------------


def test_a_clocks_time_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = moment("00:00", T0, "--at"), moment("23:59:59", T0, "--at")
    assert T0 - 86_400_000 < early <= T0
    assert T0 - 86_400_000 < late <= T0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", T0),
        ("+5m", T0 + 300_000),
        ("now - 1h30m", T0 - 5_400_000),
        ("1790000000.5", T0 + 500),
        ("2026-09-21T14:13:20.123456789Z", T0 + 123),
        ("2026-09-21 16:13:20+02:00", T0),
    ],
)
def test_times_are_read(text: str, expected: int) -> None:
    assert moment(text, T0, "--at") == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-1x", "25:00", "2026-13-01", "1e400", "99999999999999999999"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match="--at"):
        moment(text, T0, "--at")


def test_spans_and_steps() -> None:
    assert span("1h30m", "--since") == 5_400_000
    assert span("0.5", "--step") == 500
    with pytest.raises(BadTime):
        span("-5m", "--since")
    assert step_for(3_600_000, 160) == 30_000
    assert step_for(0, 100) == 1000
    assert step_for(400 * 31_536_000_000, 100) == 4 * 31_536_000_000
