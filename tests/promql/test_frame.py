"""Frames: what falls together under new labels, and the memory that they are counted with."""

from __future__ import annotations

import gc

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import vector
from monitor.promql.frame import CELL_BYTES, Budget, Frame, Row, fold, relabel
from monitor.promql.plan import plan
from monitor.samples import make_labels
from monitor.store.head import Head

A, B = make_labels("x", a="1"), make_labels("x", a="2")


def test_two_that_fall_together_may_take_turns_but_for_what_is_strict() -> None:
    new = relabel([A, B, A])
    turns: list[Row] = [[1.0, 5.0, None], [None, 6.0, 2.0], [None, None, None]]
    assert fold(new, turns) == Frame((A, B), [[1.0, 5.0], [2.0, 6.0], [None, None]])
    with pytest.raises(PromQLError, match="same labelset"):
        fold(new, turns, over_steps=True)
    for over_steps in (False, True):
        with pytest.raises(PromQLError, match="same labelset"):
            fold(new, [[1.0, None, 2.0]], over_steps=over_steps)
        assert fold(new, [[1.0, None, None], [3.0, None, None]], over_steps=over_steps).rows == [
            [1.0, None],
            [3.0, None],
        ]


def test_a_frame_that_is_the_same_at_every_step_is_counted_once() -> None:
    row: Row = [1.0, 2.0]
    other: Row = [1.0, 2.0]
    for rows, cells in (([row] * 3, 2), ([row, other, other], 6), ([row, row, other], 6), ([], 0)):
        budget = Budget(Limits(max_bytes=1000 * CELL_BYTES))
        frame = budget.held(Frame((A, B), rows))
        budget.room((1000 - cells) * CELL_BYTES)
        with pytest.raises(PromQLError, match="MiB of memory"):
            budget.room((1000 - cells) * CELL_BYTES + 1)
        del frame
        gc.collect()
        budget.room(1000 * CELL_BYTES)


def test_a_frame_needs_room_for_another_like_it() -> None:
    rows: list[Row] = [[1.0], [2.0]]
    Budget(Limits(max_bytes=4 * CELL_BYTES)).held(Frame((A,), rows))
    with pytest.raises(PromQLError, match="MiB of memory"):
        Budget(Limits(max_bytes=4 * CELL_BYTES - 1)).held(Frame((A,), rows))


@pytest.mark.parametrize(
    ("expr", "value"),
    [("ln(0)", "-inf"), ("log2(0)", "-inf"), ("log10(0)", "-inf"), ("ln(1)", "0.0"), ("ln(-1)", "nan")],
)
def test_logarithms_at_their_ends(expr: str, value: str) -> None:
    name, _, rest = expr.partition("(")
    ((_, found),) = vector(plan(f"{name}(vector({rest})"), Head("j", "i"), 0)
    assert repr(found) == value
