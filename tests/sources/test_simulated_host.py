"""The simulated host has the real one's series, and its counters go forward."""

from monitor.samples import NAME, label
from monitor.sources.host import MODES, declare_families
from monitor.sources.simulated_host import CPUS, SimulatedHost

T0 = 1_700_000_000_000


def test_counters_go_forward_at_any_pace_and_the_modes_fill_the_time() -> None:
    host = SimulatedHost(T0)
    before = host.scrape(T0)
    at_ms = T0
    for step in (1, 100, 1000, 10_000, 7, 60_000, 333_333):
        at_ms += step
        now = host.scrape(at_ms)
        assert now.shape is before.shape
        for series, old, new in zip(now.shape.series, before.values, now.values, strict=True):
            if label(series, NAME).endswith("_total"):
                assert new >= old, series
        spent = sum(
            new - old
            for series, old, new in zip(now.shape.series, before.values, now.values, strict=True)
            if label(series, NAME) == "node_cpu_seconds_total"
        )
        assert abs(spent - CPUS * step / 1000) < 1e-3
        before = now


def test_its_series_are_the_real_hosts() -> None:
    class Declared:
        def __init__(self) -> None:
            self.names: set[str] = set()

        def family(self, name: str, kind: str, help_text: str) -> None:
            self.names.add(name)

    declared = Declared()
    declare_families(declared)  # type: ignore[arg-type]
    shape = SimulatedHost(T0).scrape(T0).shape
    assert {label(s, NAME) for s in shape.series} <= declared.names
    assert {label(s, "mode") for s in shape.series if label(s, "mode")} == set(MODES)
