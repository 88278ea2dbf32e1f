"""Evaluation of plans over a store, with the semantics of Prometheus 3.

``instant`` at one time, ``range_query`` at many, ``latest`` as instant with the samples' own times. Nothing here reads
a clock.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from monitor.promql.errors import DEFAULT_LIMITS, Limits, PromQLError
from monitor.promql.frame import POINT_BYTES, SAMPLE_BYTES, Budget, Context, Shared
from monitor.promql.nodes import ScalarNode, VectorNode
from monitor.promql.plan import Plan
from monitor.promql.selectors import Instant, RangeNode
from monitor.promql.tree import DOCUMENTED, ValueType
from monitor.samples import Labels
from monitor.selector import Storage


class Result(msgspec.Struct, frozen=True):
    """The value of an instant query: ``type`` says which of the fields holds it."""

    type: ValueType
    vector: list[tuple[Labels, float]] = msgspec.field(default_factory=list)
    """In the order that the expression gives (``sort``, ``topk``), else in that of the store's labels."""
    scalar: float = 0.0
    matrix: list[tuple[Labels, list[tuple[int, float]]]] = msgspec.field(default_factory=list)
    """Sorted by labels; epoch milliseconds and values."""
    string: str = ""


def instant(
    plan: Plan, storage: Storage, at_ms: int, limits: Limits = DEFAULT_LIMITS, shared: Shared | None = None
) -> Result:
    """Evaluate a plan at one time. With ``shared``, what it has in common with others is taken from there. Raises
    ``PromQLError``."""
    context = Context(storage, (at_ms,), at_ms, at_ms, Budget(limits), shared)
    root = plan.root
    if isinstance(root, VectorNode):
        frame = root.frame(context)
        row = frame.rows[0]
        pairs = [(labels, v) for labels, v in zip(frame.labels, row, strict=True) if v is not None]
        return Result("vector", vector=pairs)
    if isinstance(root, ScalarNode):
        return Result("scalar", scalar=root.values(context)[0])
    if isinstance(root, RangeNode):
        return Result("matrix", matrix=_matrix(root, context))
    return Result("string", string=root)


def _matrix(root: RangeNode, context: Context) -> list[tuple[Labels, list[tuple[int, float]]]]:
    labels, columns = root.columns(context)
    start, end = root.windows(context)[0]
    out = []
    for one, column in zip(labels, columns, strict=True):
        times, values = column.times, column.values
        low, high = bisect_right(times, start), bisect_right(times, end)
        if low < high:
            context.budget.hold((high - low) * SAMPLE_BYTES)
            out.append((one, list(zip(times[low:high], values[low:high], strict=True))))
    out.sort(key=lambda pair: pair[0])
    return out


def vector(
    plan: Plan, storage: Storage, at_ms: int, limits: Limits = DEFAULT_LIMITS, shared: Shared | None = None
) -> list[tuple[Labels, float]]:
    """Evaluate a plan as a rule does: a number is a vector of one sample without labels, and a range or a string is an
    error. Raises ``PromQLError``."""
    result = instant(plan, storage, at_ms, limits, shared)
    if result.type == "vector":
        return result.vector
    if result.type == "scalar":
        return [((), result.scalar)]
    raise PromQLError("rule result is not a vector or scalar", kind="execution")


def range_query(
    plan: Plan, storage: Storage, start_ms: int, end_ms: int, step_ms: int, limits: Limits = DEFAULT_LIMITS
) -> list[tuple[Labels, list[tuple[int, float]]]]:
    """Evaluate a plan at ``start_ms``, and every ``step_ms`` from there to ``end_ms``; both ends belong to it.

    Gives the series that have a value at any step, sorted by labels, with the steps at which they have one. Raises
    ``PromQLError``, also for a plan whose value is a range or a string.
    """
    if plan.type not in ("vector", "scalar"):
        raise PromQLError(
            f'invalid expression type "{DOCUMENTED[plan.type]}" for range query, must be Scalar or instant Vector'
        )
    if step_ms <= 0:
        raise PromQLError("the step of a range query must be greater than 0")
    steps = range(start_ms, end_ms + 1, step_ms)
    if len(steps) - 1 > limits.max_points:  # as Prometheus counts: what lies between them
        raise PromQLError(
            f"exceeded maximum resolution of {limits.max_points:,} points per timeseries: ask for a longer step"
        )
    if not steps:
        return []
    context = Context(storage, steps, start_ms, end_ms, Budget(limits))
    root = plan.root
    if isinstance(root, ScalarNode):
        return [((), list(zip(steps, root.values(context), strict=True)))]
    assert isinstance(root, VectorNode)  # noqa: S101 # the type was checked above
    frame = root.frame(context)
    times = list(steps)
    out = []
    for i, labels in enumerate(frame.labels):
        present = [(t, v) for t, row in zip(times, frame.rows, strict=True) if (v := row[i]) is not None]
        if present:
            context.budget.hold(len(present) * POINT_BYTES)
            out.append((labels, present))
    out.sort(key=lambda pair: pair[0])
    return out


def latest(
    plan: Plan, storage: Storage, at_ms: int, limits: Limits = DEFAULT_LIMITS
) -> list[tuple[Labels, float, int]]:
    """As ``instant``, for a vector or a number, with a time for each sample: of a bare selector the sample's own, of
    all else ``at_ms``. Raises ``PromQLError``."""
    root = plan.root
    if isinstance(root, Instant):
        context = Context(storage, (at_ms,), at_ms, at_ms, Budget(limits))
        labels, _ = root.selection.resolve(storage)
        return [(labels[i], value, sample_ms) for i, sample_ms, value in root.latest(context)]
    return [(labels, value, at_ms) for labels, value in vector(plan, storage, at_ms, limits)]
