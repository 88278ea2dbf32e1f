"""The functions and aggregations of stable Prometheus 3: their names, arguments and results, and what is refused."""

from __future__ import annotations

import msgspec

from monitor.promql.tree import ValueType


class Signature(msgspec.Struct, frozen=True):
    """What a function takes and gives. ``variadic``: how many of the last argument may be added to or left out of the
    call (0: none; 1: the last may be left out; -1: the last may come any number of times)."""

    arguments: tuple[ValueType, ...]
    returns: ValueType = "vector"
    variadic: int = 0


def _all(names: str, signature: Signature) -> dict[str, Signature]:
    return dict.fromkeys(names.split(), signature)


FUNCTIONS: dict[str, Signature] = {
    **_all(
        "abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor ln log10 log2 rad sgn sin sinh sort "
        "sort_desc sqrt tan tanh timestamp",
        Signature(("vector",)),
    ),
    **_all(
        "absent_over_time avg_over_time changes count_over_time delta deriv idelta increase irate last_over_time "
        "max_over_time min_over_time present_over_time rate resets stddev_over_time stdvar_over_time sum_over_time",
        Signature(("matrix",)),
    ),
    **_all(
        "day_of_month day_of_week day_of_year days_in_month hour minute month year",
        Signature(("vector",), variadic=1),
    ),
    "clamp": Signature(("vector", "scalar", "scalar")),
    "clamp_max": Signature(("vector", "scalar")),
    "clamp_min": Signature(("vector", "scalar")),
    "histogram_fraction": Signature(("scalar", "scalar", "vector")),
    "histogram_quantile": Signature(("scalar", "vector")),
    "label_join": Signature(("vector", "string", "string", "string"), variadic=-1),
    "label_replace": Signature(("vector", "string", "string", "string", "string")),
    "pi": Signature((), "scalar"),
    "predict_linear": Signature(("matrix", "scalar")),
    "quantile_over_time": Signature(("scalar", "matrix")),
    "round": Signature(("vector", "scalar"), variadic=1),
    "scalar": Signature(("vector",), "scalar"),
    "time": Signature((), "scalar"),
    "vector": Signature(("scalar",)),
}

AGGREGATIONS: dict[str, ValueType | None] = {
    **dict.fromkeys(("avg", "count", "group", "max", "min", "stddev", "stdvar", "sum")),
    "bottomk": "scalar",
    "count_values": "string",
    "quantile": "scalar",
    "topk": "scalar",
}
"""Each aggregation, with the type of its parameter or None."""


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


EXPERIMENTAL = _names(
    "double_exponential_smoothing first_over_time histogram_quantiles info limitk limit_ratio mad_over_time "
    "sort_by_label sort_by_label_desc start end range step max_of min_of ts_of_first_over_time ts_of_last_over_time "
    "ts_of_max_over_time ts_of_min_over_time"
)
"""Known to Prometheus behind a flag, or to a later version."""

NATIVE_HISTOGRAMS = _names("histogram_avg histogram_count histogram_stddev histogram_stdvar histogram_sum")
"""Of use for native histograms only, which no source of ours gives."""

TIME_DEPENDENT = _names(
    "day_of_month day_of_week day_of_year days_in_month hour minute month year predict_linear time timestamp"
)
"""Functions whose result can change from step to step though their arguments do not."""
