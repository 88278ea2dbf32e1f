"""Pasts to test backtests over: a simulated node, stepped live as a daemon does it, and small ones written by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from monitor.commands.backtest_feeds import SharedFeed, StoredFeed
from monitor.commands.backtest_replay import Outcome, Past, Replay, replay_all
from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant
from monitor.promql.plan import plan
from monitor.rules.engine import Engine
from monitor.rules.rule_file import RuleSet
from monitor.rules.transition import Transition
from monitor.samples import Labels, is_stale
from monitor.selector import Matcher, Series
from monitor.sources.simulated import simulated_sources
from monitor.sources.story import Story
from monitor.store.head import Head, Journal
from monitor.store.sliding import Feed, Piece, Wanted

START = 1_700_000_400_000 // 3_600_000 * 3_600_000
TICK = 15_000

Episode: TypeAlias = tuple[str, Labels, int, int | None, int | None]
"""Rule, labels, and when it was pending, fired and ended."""


class Reader:
    """A head as a history file's reader."""

    damage = ""

    def __init__(self, head: Head) -> None:
        self._head = head

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """Nothing to let go."""

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[Series]:
        return [one for one in self._head.select(matchers) if one.last(start_ms, end_ms) is not None]


class Unmarked:
    """A feed without its staleness markers, as the API gives it."""

    marks_ends = False

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def read(self, wanted: Sequence[Wanted], end_ms: int) -> Iterator[Iterable[Piece]]:
        for pieces in self._feed.read(wanted, end_ms):
            yield [self._bare(*piece) for piece in pieces]

    @staticmethod
    def _bare(labels: Labels, times: Sequence[int], values: Sequence[float]) -> Piece:
        kept = [(at, value) for at, value in zip(times, values, strict=True) if not is_stale(value)]
        return labels, [at for at, _ in kept], [value for _, value in kept]


@dataclass
class Lived:
    """What was stored, and what the engine did at the time."""

    head: Head
    end_ms: int
    transitions: list[Transition]

    def feed(self) -> StoredFeed:
        return StoredFeed(Reader(self.head), "memory")

    @property
    def episodes(self) -> set[Episode]:
        return lived(self.transitions)


def live(
    rules: RuleSet,
    seconds: int,
    away: Mapping[str, tuple[float, float]] | None = None,
    *,
    tick_ms: int = TICK,
    journal: Journal | None = None,
) -> Lived:
    """A simulated node: scraped and evaluated every ``tick_ms``. The source of a name in ``away`` does not answer
    between two seconds. ``journal`` is told of all that is stored."""
    story = Story(START)
    sources = simulated_sources(story, "node")
    head = Head("gpumon", "node:9519", retention_ms=10**9)
    head.journal = journal
    engine = Engine(rules, default_interval_ms=TICK, resolved_retention_ms=0)
    transitions: list[Transition] = []
    end_ms = START + seconds * 1000
    for at_ms in range(START, end_ms + 1, tick_ms):
        for source in sources:
            key = f"{source.name}:{source.server}"
            first, last = (away or {}).get(key, (0.0, 0.0))
            if first <= (at_ms - START) / 1000 < last:
                head.end(key, at_ms)
            else:
                head.ingest(key, source.scrape(at_ms))
        transitions += engine.step(at_ms, head)
    return Lived(head, end_ms, transitions)


def stored(series: Mapping[Labels, Callable[[int], float | None]], seconds: int, tick_ms: int = TICK) -> Lived:
    """A past by hand: each series' value by seconds after the start, None for no sample."""
    head = Head("gpumon", "node:9519", retention_ms=10**9)
    end_ms = START + seconds * 1000
    for at_ms in range(START, end_ms + 1, tick_ms):
        for labels, value_at in series.items():
            value = value_at((at_ms - START) // 1000)
            if value is not None:
                head.append(labels, at_ms, value)
    return Lived(head, end_ms, [])


@contextmanager
def query_api(
    past: Lived,
    *,
    most: int = 5_000_000,
    fails: Callable[[int], int] = lambda number: 0,
    garbles: bool = False,
    oldest_ms: int | None = None,
) -> Iterator[Api]:
    """``/api/v1/query`` over what was stored, with a clock that stands at its end. It refuses what reads more than
    ``most`` samples as Prometheus does. ``fails`` gives the status of a request by its number, 0 for a good one. With
    ``garbles`` its numbers are none. With ``oldest_ms`` it is a daemon, and says since when it has samples."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            fields = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            api.queries.append(fields["query"][0])
            status, body = fails(len(api.queries)), b"{}"
            if not status:
                status, body = _answer(past, fields, most)
            if garbles:
                body = body.replace(b'"40.0"', b'"forty"')
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            known = oldest_ms is not None and self.path == "/api/gpumon/v1/capabilities"
            node = {"job": "gpumon", "instance": "node:9519", "hostname": "node"}
            told = {"version": "1", "api": 1, "node": node, "mode": "system", "simulated": False, "speed": 1.0}
            body = json.dumps({**told, "now_ms": past.end_ms, "features": ["stream"], "oldest_ms": oldest_ms}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        api.url = f"http://127.0.0.1:{server.server_port}"
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Api:
    """A server that was asked."""

    url: str = ""
    queries: list[str] = field(default_factory=list)


def _answer(past: Lived, fields: Mapping[str, list[str]], most: int) -> tuple[int, bytes]:
    at_ms = round(float(fields["time"][0]) * 1000) if "time" in fields else past.end_ms
    try:
        found = instant(plan(fields["query"][0]), past.head, at_ms, Limits(max_samples=most))
    except PromQLError as error:
        return 422, json.dumps({"status": "error", "errorType": error.kind, "error": str(error)}).encode()
    result: list[Any] = [at_ms / 1000, repr(found.scalar)]
    if found.type == "matrix":
        result = [
            {"metric": dict(labels), "values": [[at / 1000, repr(value)] for at, value in points]}
            for labels, points in found.matrix
        ]
    return 200, json.dumps({"status": "success", "data": {"resultType": found.type, "result": result}}).encode()


def lived(transitions: Iterable[Transition]) -> set[Episode]:
    """The episodes that these changes are."""
    found: dict[str, list[int | None]] = {}
    done: set[Episode] = set()
    names: dict[str, tuple[str, Labels]] = {}
    for one in transitions:
        names[one.alert.key] = one.alert.rule, one.alert.labels
        episode = found.setdefault(one.alert.key, [one.alert.active_at_ms, None])
        if one.after == "firing":
            episode[1] = one.at_ms
        elif one.after == "inactive":
            pending_ms, fired_ms = found.pop(one.alert.key)
            done.add((*names[one.alert.key], pending_ms or 0, fired_ms, one.at_ms))
    return done | {(*names[key], pending_ms or 0, fired_ms, None) for key, (pending_ms, fired_ms) in found.items()}


def replay(
    rules: Sequence[RuleSet], feed: Feed, start_ms: int, end_ms: int, interval_ms: int = TICK
) -> tuple[list[Outcome], Past]:
    """Backtest each of the sets of rules, side by side."""
    shared = SharedFeed(feed)
    replays = [Replay(one, shared, start_ms, end_ms, interval_ms) for one in rules]
    past = replay_all(replays, shared, start_ms, end_ms, interval_ms)
    return [one.outcome() for one in replays], past


def told(outcome: Outcome) -> set[Episode]:
    """An outcome's episodes."""
    every = chain.from_iterable(one.episodes for one in outcome.alerting)
    return {(one.rule, one.labels, one.pending_ms, one.fired_ms, one.ended_ms) for one in every}
