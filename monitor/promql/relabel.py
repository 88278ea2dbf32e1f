"""``label_replace`` and ``label_join``."""

from __future__ import annotations

from collections.abc import Callable

from monitor.go_regex import RegexError, expand, to_python
from monitor.linear_regex import TooMuch, compiled
from monitor.promql.errors import PromQLError
from monitor.promql.frame import Context, Derived, Frame, Relabelled, SeriesLabels, fold, relabel
from monitor.promql.literals import is_utf8
from monitor.promql.nodes import VectorNode
from monitor.samples import Labels, label, labels_of


class WithLabels(VectorNode):
    """A vector whose label sets are changed one by one, whatever its values."""

    def __init__(self, change: Callable[[Labels], Labels], inner: VectorNode) -> None:
        self._inner = inner

        def build(labels: SeriesLabels) -> Relabelled:
            return relabel([change(one) for one in labels])

        self._labels = Derived(build)

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        return fold(self._labels(frame.labels), frame.rows, over_steps=True)


def label_replace(inner: VectorNode, to: str, template: str, source: str, pattern: str) -> VectorNode:
    """Set a label from another where a regular expression matches all of it."""
    wrong = PromQLError(f"invalid regular expression in label_replace(): {pattern}", kind="execution")
    # Matchers take what is no UTF-8, this function does not.
    if not is_utf8(pattern):
        raise wrong
    try:
        regex = compiled(to_python(pattern))
    except RegexError as error:
        raise wrong from error
    _check_name(to, "destination label name in label_replace()")

    def change(labels: Labels) -> Labels:
        try:
            found = regex.groups(label(labels, source))
        except TooMuch as error:
            raise PromQLError(f"label_replace(): {pattern} {error}", kind="execution") from None
        if found is None:
            return labels
        return labels_of({**dict(labels), to: expand(template, found, regex.names)})

    return WithLabels(change, inner)


def label_join(inner: VectorNode, to: str, separator: str, sources: list[str]) -> VectorNode:
    """Set a label to the values of others, joined."""
    for source in sources:
        _check_name(source, "source label name in label_join()")
    _check_name(to, "destination label name in label_join()")

    def change(labels: Labels) -> Labels:
        joined = separator.join(label(labels, source) for source in sources)
        return labels_of({**dict(labels), to: joined})

    return WithLabels(change, inner)


def _check_name(name: str, what: str) -> None:
    if not name or not is_utf8(name):
        raise PromQLError(f"invalid {what}: {name}", kind="execution")
