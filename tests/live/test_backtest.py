"""``gpumon backtest`` over a real Prometheus, against the ``ALERTS`` that this Prometheus recorded at the time."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.live.alert_history import compare, fired, history, told
from tests.live.servers import PROJECT, Prometheus, QueryApi, prometheus, wait_for

pytestmark = pytest.mark.live

INTERVAL = 1
SECONDS = 75
RULES = """
groups:
- name: flapping
  interval: 1s
  rules:
  - record: room:temp:max
    expr: max by (room) (temp)
  - alert: Hot
    expr: temp > 80
    labels: {severity: critical}
    annotations: {summary: "{{ $labels.gpu }} has {{ $value }}"}
  - alert: HotForLong
    expr: temp > 80
    for: 6s
  - alert: HotAndKept
    expr: temp > 80
    for: 2s
    keep_firing_for: 6s
  - alert: RoomHot
    expr: room:temp:max > 80 unless on () (count(temp) < 4)
  - alert: Gone
    expr: absent(fan{gpu="0"})
    for: 2s
  - alert: FanStill
    expr: fan == 0
  - alert: Rising
    expr: rate(work_total[10s]) > 0.5
  - alert: Never
    expr: nothing_has_this_name > 0
"""


class Flapping:
    """Temperatures that go up and down, a fan whose reading comes and goes, a counter that stands still at times.

    A state lasts two seconds less or two more than any rule waits for, and all change in the same moments, two
    seconds apart: Prometheus looks up to a second before or after a backtest does, at what a scrape that was late has
    not brought yet, and is to come to the same end all the same."""

    STEP = 2
    _LASTS: ClassVar = {
        "0": (4, 8),
        "1": (4, 8),
        "2": (4, 8, 10),
        "3": (8, 10, 14),
        "fan": (12, 14, 16),
        "work": (8, 10, 12),
    }
    """Seconds that a state may last."""

    def __init__(self, seed: int) -> None:
        self.started = time.time()
        self._settled_at: float | None = None
        rng = random.Random(seed)
        self._turns = {name: self._schedule(rng, lasts) for name, lasts in self._LASTS.items()}

    @classmethod
    def _schedule(cls, rng: random.Random, lasts: Sequence[int]) -> list[float]:
        moments, at = [], 4.0
        while at < 10 * SECONDS:
            assert at % cls.STEP == 0
            moments.append(at)
            at += rng.choice(lasts)
        return moments

    def settle(self) -> None:
        """Stay as it is."""
        self._settled_at = time.time()

    def _is_on(self, name: str, at: float) -> bool:
        return sum(moment <= at for moment in self._turns[name]) % 2 == 1

    def metrics(self) -> str:
        """A scrape."""
        now = time.time()
        at = (self._settled_at or now) - self.started
        rooms = {"0": "a", "1": "a", "2": "b", "3": "b"}
        lines = [
            f'temp{{gpu="{gpu}",room="{room}"}} {85 + int(gpu) if self._is_on(gpu, at) else 40}'
            for gpu, room in rooms.items()
        ]
        if not self._is_on("fan", at):
            lines.append(f'fan{{gpu="0"}} {int(self._is_on("0", at))}')
        done = sum(self._is_on("work", second / 10) for second in range(int(10 * at)))
        lines.append(f"work_total {done / 10}")
        return "\n".join(lines) + "\n"


@contextmanager
def exporter(seed: int) -> Iterator[tuple[Flapping, str]]:
    """It, and its address."""
    flapping = Flapping(seed)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = flapping.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield flapping, f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Path, float, float]]:
    """A Prometheus with a bit more than a minute of flapping in it: it, its rules, and the seconds between which all
    was well."""
    folder = tmp_path_factory.mktemp("backtest")
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    with (
        exporter(11) as (flapping, address),
        prometheus(folder, {"rack": [address]}, rule_files=[rules], interval=f"{INTERVAL}s") as server,
    ):
        wait_for("a first scrape", lambda: server.query('up{job="rack"} == 1'), 30)
        # Before the first scrape nobody can look: what was pending then has to be over.
        since = time.time() + 8
        time.sleep(SECONDS)
        flapping.settle()
        # All that has to last has lasted by then, and Prometheus' own last evaluation is in.
        time.sleep(15)
        yield server, rules, since, time.time() - 2


def backtest(
    server: Prometheus, since: float, until: float, *arguments: Path | str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", "backtest", *map(str, arguments), "--url", server.url]
    command += ["--since", f"{since:.3f}", "--until", f"{until:.3f}", "--interval", f"{INTERVAL}s"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=PROJECT)


@dataclass(frozen=True)
class Answered(QueryApi):
    """The answer of a backtest, as ``ALERTS`` would have been recorded by it."""

    answer: Mapping[str, Any] = field(default_factory=dict)

    def api(self, path: str, **parameters: str) -> Any:
        until = float(parameters["time"])
        since = until - float(parameters["query"].removeprefix("ALERTS[").removesuffix("s]"))
        result = []
        for rule in self.answer["results"]:
            for one in rule.get("firings", []) + rule.get("pending_only", []):
                ended = (one["ended_ms"] or 1000 * until + 1) / 1000
                fired = ended if one["fired_ms"] is None else one["fired_ms"] / 1000
                for state, first, last in (("pending", one["pending_ms"] / 1000, fired), ("firing", fired, ended)):
                    labels = {"__name__": "ALERTS", "alertstate": state, **one["labels"]}
                    count = math.ceil((last - first) / INTERVAL - 0.01)
                    moments = [first + number * INTERVAL for number in range(count)]
                    values = [[at, "1"] for at in moments if at > since]
                    if values:
                        result.append({"metric": labels, "values": values})
        return {"resultType": "matrix", "result": merged(result)}


def merged(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One series for each set of labels."""
    found: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
    for one in series:
        found.setdefault(tuple(sorted(one["metric"].items())), []).extend(one["values"])
    return [{"metric": dict(labels), "values": sorted(values)} for labels, values in found.items()]


def test_it_finds_the_alerts_that_prometheus_had(played: tuple[Prometheus, Path, float, float]) -> None:
    server, rules, since, until = played
    done = backtest(server, since, until, rules, "--json")
    assert done.returncode == 0, done.stderr
    mine = history(Answered("", json.loads(done.stdout)), since, until, INTERVAL)
    theirs = history(server, since, until, INTERVAL)
    seen = compare(mine, theirs, since + 5, within=1.8 * INTERVAL)
    print(f"\n{seen.alerts} alerts, changes at most {seen.largest:.2f} s apart")
    print("\n".join(f"{dict(key)['alertname']}: {told(theirs[key], since)}" for key in sorted(theirs)))
    assert not seen.differences + seen.flickers, "\n".join(seen.differences + seen.flickers)
    names = {dict(key)["alertname"] for key in fired(mine)}
    assert names == {"Hot", "HotForLong", "HotAndKept", "RoomHot", "Gone", "FanStill", "Rising"}
    assert sum(episode.state == "firing" for episodes in mine.values() for episode in episodes) > 25


def test_it_says_what_could_not_have_fired(played: tuple[Prometheus, Path, float, float]) -> None:
    server, rules, since, until = played
    done = backtest(server, since, until, rules)
    assert done.returncode == 0, done.stderr
    assert "  Never: no series nothing_has_this_name" in done.stdout.splitlines()
    print(f"\n{done.stdout}")


def test_the_difference_of_another_threshold(played: tuple[Prometheus, Path, float, float], tmp_path: Path) -> None:
    """GPU n has 85 + n degrees: over 86 only two of the four are hot."""
    server, rules, since, until = played
    other = tmp_path / "rules.yaml"
    other.write_text(RULES.replace("temp > 80", "temp > 86"))
    done = backtest(server, since, until, rules, "--rules", other, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["difference"]
    assert found["only_new"]
    assert {one["labels"]["gpu"] for one in found["only_new"]} == {"0", "1"}
    assert {one["name"] for one in found["only_new"]} == {"Hot", "HotForLong", "HotAndKept"}
    assert found["only_old"] == found["moved"] == []
    assert found["same"] > 5
