"""The text format: recordings of a real server, odd lines, and that a line seen before is not parsed again."""

import math
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.samples import NAME, format_labels, label, make_labels
from monitor.sources.exposition import ExpositionError, ExpositionReader

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize("name", ["idle", "preemption-storm-2", "preemption-storm-3"])
def test_a_recording_gives_what_the_reference_parser_gives(name: str) -> None:
    body = (DATA / f"{name}.prom").read_bytes()
    reader = ExpositionReader({"server": "n1:8000"})
    values = reader.read(body)
    ours = dict(zip(reader.shape.series, values, strict=True))
    theirs = {
        make_labels(s.name, s.labels | {"server": "n1:8000"}): s.value
        for family in text_string_to_metric_families(body.decode())
        for s in family.samples
        if not s.name.endswith("_created") and not s.name.startswith("python_gc_")
    }
    assert ours == theirs
    kinds = {family.name: family.kind for family in reader.shape.families.values()}
    assert kinds["vllm:num_preemptions_total"] == "counter"
    assert kinds["vllm:time_to_first_token_seconds"] == "histogram"
    assert kinds["vllm:kv_cache_usage_perc"] == "gauge"
    assert not [name for name in kinds if name.endswith("_created")]


def test_the_shape_is_kept_and_a_line_is_learnt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ExpositionReader({})
    reader.read((DATA / "preemption-storm-2.prom").read_bytes())
    shape = reader.shape
    monkeypatch.setattr(ExpositionReader, "_learn", None)
    reader.read((DATA / "preemption-storm-3.prom").read_bytes())
    assert reader.shape is shape


def test_labels_of_the_server_that_clash_are_kept_under_another_name() -> None:
    reader = ExpositionReader({"server": "n1:8000"})
    reader.read(b'x{server="theirs",a="b c"} 1\n')
    assert format_labels(reader.shape.series[0]) == 'x{a="b c",exported_server="theirs",server="n1:8000"}'


def test_odd_but_good_text() -> None:
    reader = ExpositionReader({})
    body = b'# EOF\n\na{q="\\"}\\\\ \\n"} +Inf\nb NaN\nc 1e3 1700000000000\nd_total 5 # {trace="x"} 0.3\n'
    for _ in range(2):
        values = reader.read(body)
        assert [values[0], values[2], values[3]] == [math.inf, 1000.0, 5.0]
        assert math.isnan(values[1])
    assert label(reader.shape.series[0], "q") == '"}\\ \n'
    assert [label(s, NAME) for s in reader.shape.series] == ["a", "b", "c", "d_total"]


def test_series_that_come_and_go_do_not_pile_up() -> None:
    reader = ExpositionReader({})
    for i in range(5000):
        assert reader.read(f'x{{request="{i}"}} {i}\n'.encode()) == [float(i)]
    assert len(reader._known) < 2000


def test_pages_that_are_refused_at_their_end_do_not_pile_up() -> None:
    reader = ExpositionReader({})
    for turn in range(20):
        with pytest.raises(ExpositionError):
            reader.read(b"".join(b'x{request="%d-%d"} 1\n' % (turn, i) for i in range(500)) + b"garbage\n")
    assert len(reader._known) < 2000


def test_series_with_times_are_learnt_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ExpositionReader({})
    assert reader.read(b'a{b="\\n"} 1 1700000000000\n') == [1.0]
    monkeypatch.setattr("prometheus_client.parser.text_string_to_metric_families", None)
    assert reader.read(b'a{b="\\n"} 2 1700000001000\n') == [2.0]
    assert reader.read(b'a{b="\\n"} 3\n') == [3.0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\n" * 300_000, "300000 lines are too many: 200000 at most"),
        (b"# \n" * 299_999 + b"a 1\n", "300000 lines are too many"),
        (b'a 1\nb{c="%s"} 1\n' % (b"x" * 70_000), "line 2 is too long: 70009 bytes, and 64 KiB at most are taken"),
        (b"x" * 100_000, "line 1 is too long"),
        (b"a{%s} 1\n" % b",".join(b'l%d="v"' % i for i in range(10_000)), "line 1 is too long"),
    ],
)
def test_what_would_take_long_to_read_is_refused_before(
    body: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is even looked at by a pattern or a parser."""
    reader = ExpositionReader({})
    assert reader.read(b"a 1\n") == [1.0]
    monkeypatch.setattr("monitor.sources.exposition._LINE", None)
    monkeypatch.setattr("monitor.sources.exposition._PLAIN", None)
    with pytest.raises(ExpositionError, match=words):
        reader.read(body)


def test_of_a_help_text_only_the_beginning_is_kept() -> None:
    reader = ExpositionReader({})
    reader.read(b"# HELP a " + b"x" * 1_000_000 + b"\n# TYPE a gauge\na 1\n")
    assert len(reader.shape.families["a"].help) < 600


@pytest.mark.parametrize(
    "line",
    [
        b"a 1",
        b"a{} 1",
        b'a{b="c"} 1',
        b'a{b="c",} 1',
        b'a{b="c",d=""} 1',
        b"vllm:a{_b=\"c, d='e'{}\"} 1",
        b'a{b="c d"} 1 1700000000000',
        b'a{b="c=\\"d\\""} 1',
        'a{b="ü"} 1'.encode(),
        b'a{ b = "c" } 1',
        b"a\t1",
        b'a{b="c"}1',
        b'a{b="c"d="e"} 1',
        b"a{b='c'} 1",
        b'a{b="c",,} 1',
        b'a{b="c"} } 1',
        b"1a 1",
    ],
)
def test_what_the_pattern_takes_is_what_the_parser_takes(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> tuple[object, ...]:
        reader = ExpositionReader({"server": "n1:8000"})
        try:
            values = reader.read(line + b"\n")
        except ExpositionError as error:
            return ("refused", str(error))
        return (values, reader.shape.series)

    ours = read()
    monkeypatch.setattr("monitor.sources.exposition._PLAIN", re.compile(rb"(?!)"))
    assert ours == read()


def test_plain_lines_are_not_left_to_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prometheus_client.parser.text_string_to_metric_families", None)
    reader = ExpositionReader({})
    assert len(reader.read((DATA / "preemption-storm-2.prom").read_bytes())) > 300


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>502 Bad Gateway</html>\n", 'line 1: "<html>502 Bad'),
        (b"a 1\nb one\n", 'line 2: "b one"'),
        (b'a{b="c} 1\n', "line 1"),
        (b"\x1b[31m 1\n", 'line 1: "?[31m 1"'),
        (b"\xff\xfe 1\n", "line 1"),
        (b"a 1\na\n", "line 2"),
        (b"a_b 1\nb 1_000\n", 'line 2: "b 1_000"'),
        (b"a 1_0 5\n", "line 1"),
        (b"a 1_0\t5\n", "line 1"),
    ],
)
def test_garbage_is_refused_whole_and_told_with_its_line(body: bytes, words: str) -> None:
    reader = ExpositionReader({})
    with pytest.raises(ExpositionError) as caught:
        reader.read(body)
    assert words in str(caught.value)
    assert "\x1b" not in str(caught.value)
