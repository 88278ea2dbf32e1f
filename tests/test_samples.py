"""Labels, staleness, and the builder that keeps a scrape's shape."""

import math
from array import array

import pytest

from monitor.samples import STALE, ScrapeBuilder, format_labels, is_stale, label, labels_of, make_labels


def test_labels_are_sorted_and_empty_values_are_absent() -> None:
    labels = make_labels("up", {"job": "gpumon", "empty": ""}, instance="n1")
    assert labels == (("__name__", "up"), ("instance", "n1"), ("job", "gpumon"))
    assert label(labels, "job") == "gpumon"
    assert label(labels, "absent") == ""


def test_labels_are_written_as_prometheus_does() -> None:
    assert format_labels(make_labels("up", {"a": 'q"\\\n'})) == 'up{a="q\\"\\\\\\n"}'
    assert format_labels(make_labels("up")) == "up"
    assert format_labels(labels_of({"a": "b"})) == '{a="b"}'


def test_the_staleness_marker_survives_an_array_and_is_no_ordinary_nan() -> None:
    kept = array("d", [STALE, math.nan, 1.0])
    assert [is_stale(value) for value in kept] == [True, False, False]


def test_the_shape_stays_the_same_object_while_the_series_do() -> None:
    builder = ScrapeBuilder()
    builder.family("a", "gauge", "A.")
    builder.family("b", "gauge", "B.")
    shapes = []
    for with_b in (True, True, False, True):
        builder.add("a", 1, (("gpu", "0"),))
        builder.add("b", 2 if with_b else None)
        shapes.append(builder.build(1000))
    assert shapes[0].shape is shapes[1].shape
    assert [len(s.shape) for s in shapes] == [2, 2, 1, 2]
    assert list(shapes[2].values) == [1.0]


def test_a_family_must_be_declared() -> None:
    with pytest.raises(KeyError, match="not declared"):
        ScrapeBuilder().add("a", 1.0)
