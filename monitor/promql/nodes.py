"""What a plan is made of: nodes that give a frame, or a number for each step, when they are asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from monitor.promql.frame import Context, Derived, Frame, fold, nameless


class VectorNode(ABC):
    """An expression whose value is an instant vector."""

    def frame(self, context: Context) -> Frame:
        """The value at each step, its memory counted for as long as it is kept. Raises ``PromQLError``."""
        frame = self.evaluated(context)
        # At one step there is no more of it than there are series.
        return frame if len(context.steps) < 2 or frame.held is not None else context.budget.held(frame)

    @abstractmethod
    def evaluated(self, context: Context) -> Frame:
        """The value at each step. Raises ``PromQLError``."""


class ScalarNode(ABC):
    """An expression whose value is a number."""

    @abstractmethod
    def values(self, context: Context) -> Sequence[float]:
        """The value at each step. Raises ``PromQLError``."""


class Constant(ScalarNode):
    def __init__(self, value: float) -> None:
        self.value = value

    def values(self, context: Context) -> Sequence[float]:
        return [self.value] * len(context.steps)


class InvariantVector(VectorNode):
    """An expression that is the same at every step, as all below it is bound to a time by ``@``: evaluated once."""

    def __init__(self, inner: VectorNode) -> None:
        self._inner = inner

    def evaluated(self, context: Context) -> Frame:
        if len(context.steps) < 2:
            return self._inner.frame(context)
        once = self._inner.frame(context.at(context.steps[:1]))
        return Frame(once.labels, [once.rows[0]] * len(context.steps))


class InvariantScalar(ScalarNode):
    """As ``InvariantVector``, for a number."""

    def __init__(self, inner: ScalarNode) -> None:
        self._inner = inner

    def values(self, context: Context) -> Sequence[float]:
        if len(context.steps) < 2:
            return self._inner.values(context)
        return [self._inner.values(context.at(context.steps[:1]))[0]] * len(context.steps)


class Negated(VectorNode):
    """Unary minus of a vector."""

    def __init__(self, inner: VectorNode) -> None:
        self._inner = inner
        self._names = Derived(nameless)

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        rows = [[None if v is None else -v for v in row] for row in frame.rows]
        return fold(self._names(frame.labels), rows, over_steps=True)


class NegatedScalar(ScalarNode):
    """Unary minus of a number."""

    def __init__(self, inner: ScalarNode) -> None:
        self._inner = inner

    def values(self, context: Context) -> Sequence[float]:
        return [-v for v in self._inner.values(context)]
