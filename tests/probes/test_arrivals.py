"""Arrivals: drawn as ``vllm bench serve`` draws them, on a ramp, and read from recordings."""

from __future__ import annotations

import itertools
import math
import os
import random
import statistics
from pathlib import Path

import pytest

from monitor.probes import arrivals
from monitor.probes.arrivals import Arrival, BadFile
from monitor.probes.errors import BadOptions


def _gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise([0.0, *times])]


def _spread(times: list[float]) -> float:
    """The gaps' coefficient of variation: 1/sqrt(burstiness) for a gamma distribution."""
    gaps = _gaps(times)
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_are_gamma_distributed_and_end_at_n_by_rate(burstiness: float) -> None:
    times = arrivals.spaced(20_000, 8.0, burstiness, random.Random(1))
    assert len(times) == 20_000
    assert times == sorted(times)
    assert times[-1] == pytest.approx(20_000 / 8.0, rel=1e-12)
    assert _spread(times) == pytest.approx(1 / math.sqrt(burstiness), rel=0.05)


def test_without_end_of_burstiness_the_gaps_are_even() -> None:
    assert arrivals.spaced(4, 2.0, math.inf, random.Random(1)) == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_without_a_rate_all_come_at_once() -> None:
    assert arrivals.spaced(3, math.inf, 1.0, random.Random(1)) == [0.0, 0.0, 0.0]


def test_the_same_seed_gives_the_same_arrivals() -> None:
    first = arrivals.spaced(50, 3.0, 1.0, random.Random(7))
    assert first == arrivals.spaced(50, 3.0, 1.0, random.Random(7))
    assert first != arrivals.spaced(50, 3.0, 1.0, random.Random(8))


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan])
def test_a_rate_is_more_than_nothing(rate: float) -> None:
    with pytest.raises(BadOptions, match="more than 0 requests"):
        arrivals.spaced(3, rate, 1.0, random.Random(1))


def test_a_burstiness_is_more_than_nothing() -> None:
    with pytest.raises(BadOptions, match="burstiness"):
        arrivals.spaced(3, 1.0, 0.0, random.Random(1))


def test_a_linear_ramp_steps_its_rate_with_each_request() -> None:
    # Rates 1, 2, 3 with even gaps: nothing is rescaled.
    times = arrivals.ramped(3, 1.0, 3.0, "linear", math.inf, random.Random(1))
    assert _gaps(times) == pytest.approx([1, 1 / 2, 1 / 3])


def test_an_exponential_ramp_multiplies_its_rate() -> None:
    times = arrivals.ramped(3, 1.0, 4.0, "exponential", math.inf, random.Random(1))
    assert _gaps(times) == pytest.approx([1, 1 / 2, 1 / 4])


@pytest.mark.parametrize("strategy", ["linear", "exponential"])
@pytest.mark.parametrize(("begin", "end"), [(1.0, 9.0), (9.0, 1.0), (3.0, 3.0)])
def test_a_ramp_lasts_as_long_as_it_is_meant_to(strategy: arrivals.Strategy, begin: float, end: float) -> None:
    count = arrivals.ramp_count(200.0, begin, end, strategy)
    times = arrivals.ramped(count, begin, end, strategy, math.inf, random.Random(1))
    assert times[-1] == pytest.approx(200.0, rel=0.01)


def test_a_ramp_has_one_request_at_least() -> None:
    assert arrivals.ramp_count(0.001, 1.0, 2.0, "linear") == 1


def test_a_ramp_needs_an_end() -> None:
    with pytest.raises(BadOptions, match="two finite rates"):
        arrivals.ramped(3, 1.0, math.inf, "linear", 1.0, random.Random(1))


# -- recordings ------------------------------------------------------------------------------------------------------


def test_csv_counts_from_its_first_arrival_and_is_put_in_order() -> None:
    text = "time,input_len,output_len\n10.5,100,20\n10,50,\n\n12,7,8\n"
    assert arrivals.parse(text) == [Arrival(0.0, 50, None), Arrival(0.5, 100, 20), Arrival(2.0, 7, 8)]


def test_csv_needs_the_time_alone_and_passes_over_the_rest() -> None:
    assert arrivals.parse('user,time\r\n"a, b",0\r\n"c ""d""",0.25\r\n') == [Arrival(0.0), Arrival(0.25)]


def test_a_quote_in_the_middle_of_a_field_is_a_letter() -> None:
    assert arrivals.parse('user,time\na"b,0\n6"" pipe,2\n') == [Arrival(0.0), Arrival(2.0)]
    with pytest.raises(BadFile, match=r"a.csv:2:5: a time is a number or a date"):
        arrivals.parse('user,time\na"b,soon\n', "a.csv")


def test_dates_are_times() -> None:
    # As in the traces that Azure published: seven digits of a second, no zone.
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
    )
    first, second = arrivals.parse(text)
    assert first == Arrival(0.0, 374, 44)
    assert second.time_s == pytest.approx(4.314579, abs=1e-5)
    assert (second.input_len, second.output_len) == (396, 109)


def test_jsonl_in_milliseconds() -> None:
    # As in the traces that Mooncake published.
    text = (
        '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [1]}\n'
        '{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": []}\n'
    )
    assert arrivals.parse(text, unit="ms") == [Arrival(0.0, 6955, 52), Arrival(30.535 - 27.482, 6472, 26)]


def test_a_column_may_name_its_own_unit() -> None:
    assert arrivals.parse("time_ms\n0\n1500\n") == [Arrival(0.0), Arrival(1.5)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a.csv:1:1: no arrival in it"),
        ("time,input_len\n", "a.csv:1:1: no arrival in it"),
        ("when,input_len\n1,2\n", "a.csv:1:1: no column or key is named time (or timestamp, "),
        ("time,arrival\n1,2\n", "a.csv:1:1: time and arrival are the same: leave one"),
        ("time,input_len\n1,2\n1.5,x\n", "a.csv:3:5: a length is a whole number of tokens from 1"),
        ("time,input_len\n1,0\n", "a.csv:2:3: a length is a whole number of tokens from 1"),
        ("time,input_len\n1,2.5\n", "a.csv:2:3: a length is a whole number of tokens from 1"),
        ("time,input_len\nsoon,2\n", "a.csv:2:1: a time is a number or a date"),
        ("input_len,time\n2,inf\n", "a.csv:2:3: a time is finite"),
        ("time,input_len\n1\n", "a.csv:2:1: 1 fields, where the first line names 2"),
        ("time,input_len\n1,2,3\n", "a.csv:2:5: 3 fields, where the first line names 2"),
        ('time,user\n1,"a\n', 'a.csv:2:4: unexpected end of data'),
        ('{"time": 1}\n{"time": }\n', "a.csv:2:10: no JSON: Expecting value"),
        ('{"time": 1, "input_len": -3}\n', "a.csv:1:26: a length is a whole number of tokens from 1"),
        ('{"time": [1]}\n', "a.csv:1:10: a time is a number or a date"),
        ('{"time": true}\n', "a.csv:1:10: a time is a number or a date"),
        ('{"input_len": 1}\n', "a.csv:1:1: no column or key is named time (or"),
        ('{"time": 1}\n[1]\n', "a.csv:2:1: not an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_line_and_column(text: str, says: str) -> None:
    with pytest.raises(BadFile) as raised:
        arrivals.parse(text, "a.csv")
    assert str(raised.value).startswith(says)


def test_a_file_is_read_with_its_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(b"\xef\xbb\xbftime\n1\n3\n")
    assert arrivals.read(file) == [Arrival(0.0), Arrival(2.0)]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=r"none\.csv: No such file or directory"):
        arrivals.read(tmp_path / "none.csv")


def test_a_file_that_is_no_text_is_named_by_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(b"time\n1\n1\xff\n")
    with pytest.raises(BadFile, match=r"trace\.csv:3:2: not UTF-8"):
        arrivals.read(file)


def test_what_stands_in_a_file_is_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for text in (
        "s3cret:x\n1\n", "time\ns3cret\n", "time,input_len\n1,s3cret\n", '{"s3cret": 1}\n', '["s3cret"]\n',
        '{"time": s3cret}\n', '{"time": "s3cret"}\n', '{"time": 1, "input_len": "s3cret"}\n',
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(BadFile) as raised:
            arrivals.read(file)
        assert "s3cret" not in str(raised.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(BadOptions, match="not a file"):
            arrivals.read(path)


def test_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time\n1\n2\n3\n")
    with pytest.raises(BadFile, match=r"trace\.csv:4:1: more than 2 arrivals"):
        arrivals.read(file, limit=2)
    monkeypatch.setattr(arrivals, "MAX_BYTES", 4)
    with pytest.raises(BadFile, match=r"trace\.csv:1:1: larger than"):
        arrivals.read(file)
