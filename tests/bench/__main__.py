"""Prints what gpumon weighs, beside its peers in the same run, and whether the aims of the design are met.

    python -m tests.bench [--quick] [--keep] [--seconds 60] [NAME…]

Without a NAME it is the table of what it must weigh, in under twelve minutes (five with --quick): scrape, reading,
ready, daemon, delivery, tui, probe_client, probe_medians. --keep writes what changed into docs/weight.json and
docs/weight.md.

By name only, since they take long or are held against no aim: rules, rule_sets, store, history, tui_screens, tui_slow,
tui_hours, probes, probe_vllm (a real vLLM for a quarter of an hour), fleet, load, growth, soak; --minutes is for
tui_hours and soak. With --keep, load, growth and soak write their tables into docs/weight.md.

Numbers are of this machine, as it is now: let nothing else run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from monitor.rules.engine import Engine
from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.samples import Scrape
from monitor.sources.exposition import ExpositionReader
from monitor.sources.simulated import past, simulated_sources
from monitor.sources.story import Story
from monitor.store.head import Head
from tests.bench import keep, marks
from tests.bench.delivery import delivery
from tests.bench.fleet import fleet
from tests.bench.growth import growth
from tests.bench.history import history
from tests.bench.load import load
from tests.bench.node import daemon, reading, ready
from tests.bench.probes import probe_client, probe_medians, probe_vllm, probes
from tests.bench.rules import rule_sets
from tests.bench.soak import soak
from tests.bench.store import store
from tests.bench.table import NOT_JUDGED, Row, Table
from tests.bench.tui import tui, tui_hours, tui_screens, tui_slow
from tests.bench.weigh import cpu_ms, cpu_rounds, line
from tests.live.cache import InstallError

DATA = Path(__file__).parent.parent / "data"


def scrape(table: Table, seconds: float) -> None:
    """A vLLM scrape into the store."""
    bodies = [(DATA / f"preemption-storm-{i}.prom").read_bytes() for i in (2, 3)]
    reader = ExpositionReader({"server": "node:8000"})
    head = Head("gpumon", "node:9519")
    at_ms = 0

    def ours() -> None:
        nonlocal at_ms
        at_ms += 1000
        values = reader.read(bodies[at_ms // 1000 % 2])
        head.ingest("vllm", Scrape(at_ms, reader.shape, values))

    text = bodies[0].decode()
    peers = {"prometheus_client.parser": cpu_rounds(lambda: list(text_string_to_metric_families(text)), 10)}
    what = "a vLLM scrape of 460 samples into the store, CPU"
    table.add(Row("scrape", what, "ms", cpu_rounds(ours, 200), "0.5 ms", 0.5, peers=peers))


def rules(seconds: float) -> None:
    """The shipped rules over an hour of a simulated node."""
    now_ms = 1_700_000_000_000
    story = Story(now_ms)
    head = Head("gpumon", "node:9519")
    for source, one in past(story, simulated_sources(story, "node"), step_seconds=5):
        head.ingest(f"{source.name}:{source.server}", one)
    ruleset = load_rules((default_rules_path(),))
    engine = Engine(ruleset, default_interval_ms=1000)

    def ours() -> None:
        nonlocal now_ms
        now_ms += 1000
        engine.step(now_ms, head)

    ours()
    line(
        f"evaluating the {len(ruleset)} shipped rules, {len(head)} series, CPU",
        f"{cpu_ms(ours, 20):.2f} ms",
        "see below",
        "2.3 ms (32 rules)",
    )


TABLE: dict[str, Callable[[Table, float], None]] = {
    one.__name__: one for one in (scrape, reading, ready, daemon, delivery, tui, probe_client, probe_medians)
}
OTHERS: dict[str, Callable[[float], None]] = {
    one.__name__: one for one in (rules, rule_sets, store, history, tui_screens, tui_slow, probes, probe_vllm, fleet)
}
HARD = {"load": load, "growth": growth}
LONG = ("tui_hours", "soak")
_QUICK_SECONDS = 20.0


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m tests.bench"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each thing is weighed")
    parser.add_argument("--quick", action="store_true", help="20 s each, and no `vllm bench serve`: more noise")
    parser.add_argument("--keep", action="store_true", help="keep what was found, in docs/")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long tui_hours and soak take")
    parser.add_argument("--speed", type=float, default=10.0, help="of the clock in a soak")
    parser.add_argument("names", nargs="*", choices=[*TABLE, *OTHERS, *HARD, *LONG, []], metavar="NAME")
    options = parser.parse_args()
    # As an installation has it: bytecode is written, and a start reads it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds = _QUICK_SECONDS if options.quick else options.seconds
    began = time.monotonic()
    table, failed = Table(), []
    line("", "gpumon", "beside", "aim")
    for name in options.names or [one for one in TABLE if not (options.quick and one == "probe_medians")]:
        try:
            if name == "tui_hours":
                tui_hours(options.minutes * 60)
            elif name == "soak":
                soak(options.minutes, options.speed, keep=options.keep)
            elif name in HARD:
                HARD[name](seconds, keep=options.keep)
            elif name in TABLE:
                TABLE[name](table, seconds)
            else:
                OTHERS[name](seconds)
        except InstallError as error:
            failed.append(f"{name}: {str(error).splitlines()[0]}")
        except Exception as error:  # what others found is printed and kept all the same
            traceback.print_exc()
            failed.append(f"{name}: {type(error).__name__}")
    if table.rows:
        by = {
            verdict: [row.name for row in table.rows if row.verdict == verdict]
            for verdict in ("met", "missed", NOT_JUDGED)
        }
        told = [f"{len(by['met'])} aims met"]
        told += [f"{len(by[each])} {each}: {', '.join(by[each])}" for each in ("missed", NOT_JUDGED) if by[each]]
        print("; ".join(told), end="; ")
        print(f"{time.monotonic() - began:.0f} s in all, on {marks.machine()}, {marks.commit()}")
    if options.keep and table.rows:
        print(keep.keep(table.rows, quick=options.quick))
    for each in failed:
        print(f"not measured: {each}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
