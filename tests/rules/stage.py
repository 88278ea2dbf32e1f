"""An engine and its store on a stage: evaluations and samples at times that a test names."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.rules.engine import Engine
from monitor.rules.rule_file import RuleSet, read_rules
from monitor.rules.transition import Transition
from monitor.samples import Labels, is_stale, make_labels
from monitor.selector import Matcher
from monitor.store.head import Head

START = 1_700_000_000_000
X = make_labels("x", a="1")


def rules(body: str, head: str = "") -> RuleSet:
    """One group, named g, with the given rules."""
    indented = "\n".join("      " + line for line in body.strip("\n").splitlines())
    return read_rules(f"groups:\n  - name: g\n{head}    rules:\n{indented}\n")


def alert(expr: str = "x > 0", more: str = "") -> str:
    return f"- alert: A\n  expr: {expr}\n{more}"


class Stage:
    """An engine with its store, moved by hand. Times are seconds after the start."""

    def __init__(
        self,
        body: str | RuleSet,
        head: str = "",
        *,
        external_labels: Mapping[str, str] | None = None,
        external_url: str = "",
    ) -> None:
        self.head = Head("gpumon", "n:9519")
        given = body if isinstance(body, RuleSet) else rules(body, head)
        self.engine = Engine(
            given,
            default_interval_ms=10_000,
            timer=iter(range(10**6)).__next__,
            external_labels=external_labels,
            external_url=external_url,
        )
        self.gone: dict[Labels, str] = {}

    def at(self, seconds: float, *samples: tuple[Labels, float]) -> list[Transition]:
        now_ms = START + int(seconds * 1000)
        for labels, value in samples:
            self.head.append(labels, now_ms, value)
        return self.engine.step(now_ms, self.head, gone=self.gone.get)

    def changes(self, seconds: float, *samples: tuple[Labels, float]) -> list[tuple[str, str]]:
        return [(one.before, one.after) for one in self.at(seconds, *samples)]

    def series(self, name: str) -> dict[Labels, float]:
        """The newest values of the series of a name; those that ended are left out."""
        out = {}
        for series in self.head.select([Matcher("__name__", "=", name)]):
            newest = series.last(0, START + 10**9)
            if newest is not None and not is_stale(newest[1]):
                out[series.labels] = newest[1]
        return out

    def samples(self, name: str) -> list[tuple[Labels, float, float]]:
        """Every sample of the series of a name: labels, seconds after the start, value (staleness markers as NaN)."""
        out = []
        for series in self.head.select([Matcher("__name__", "=", name)]):
            times, values = series.window(0, START + 10**9)
            out += [(series.labels, (at - START) / 1000, value) for at, value in zip(times, values, strict=True)]
        return out

    def status(self, i: int = 0) -> tuple[str, str]:
        """Health and last error of the first group's rule of this number."""
        one = self.engine.groups_status()[0].rules[i]
        return one.health, one.last_error
