"""What holds for any exposition: what is written is what is read, by us as by prometheus_client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from monitor.samples import Labels, escape, make_labels
from monitor.sources.exposition import ExpositionReader
from tests.properties import settings_for

_FIRST = "abcXYZ_"
_NAMES = st.builds("{}{}".format, st.sampled_from([*_FIRST, ":"]), st.text(f"{_FIRST}:019", max_size=6))
_LABELS = st.builds("x{}".format, st.text(f"{_FIRST}019", max_size=4))
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
_SERIES = st.builds(make_labels, _NAMES, st.dictionaries(_LABELS, _TEXTS.filter(bool), max_size=4))


def _line(labels: Labels, value: float, stamp: str) -> str:
    pairs = ",".join(f'{name}="{escape(text)}"' for name, text in labels if name != "__name__")
    return f"{dict(labels)['__name__']}{{{pairs}}} {value!r}{stamp}\n"


@settings_for(examples=40)
@given(st.dictionaries(_SERIES, st.floats(), max_size=6), st.sampled_from(["", " 1700000000000", " ", "\t"]))
def test_what_is_written_is_read(series: dict[Labels, float], stamp: str) -> None:
    body = "".join(_line(labels, value, stamp) for labels, value in series.items()).encode()
    reader = ExpositionReader({})
    for _ in range(2):  # a line that is known takes another way
        values = reader.read(body)
        assert list(reader.shape.series) == list(series)
        assert [repr(value) for value in values] == [repr(value) for value in series.values()]


@settings_for(examples=40)
@given(st.dictionaries(_SERIES, st.floats(allow_nan=False), min_size=1, max_size=6))
def test_prometheus_client_reads_the_same(series: dict[Labels, float]) -> None:
    body = "".join(_line(labels, value, "") for labels, value in series.items())
    theirs = {
        make_labels(one.name, one.labels): one.value
        for family in text_string_to_metric_families(body)
        for one in family.samples
    }
    reader = ExpositionReader({})
    values = reader.read(body.encode())
    assert dict(zip(reader.shape.series, values, strict=True)) == theirs
