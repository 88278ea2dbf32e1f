"""The same ``alerts.yaml`` in gpumon and in real Prometheus 3, through one story of a real vLLM: the same alerts in the
same states at the same times.

gpumon reads its sources and evaluates every 5 s. One Prometheus scrapes it and evaluates every 5 s too: each change is
seen by both within one interval, and the scrape's that lies between. Another does so every 15 s, as fleets do: it sees
other moments, and the same alerts in the end.

The story: rest, a preemption storm, rest, an engine that freezes while it has requests and goes on, a GPU too hot,
another that is lost, and at last a server that is gone. The GPUs are the stub's: what is compared is what becomes of
their readings.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import yaml

from tests.live.alert_history import History, Key, active, compare, fired, history, longest_pending, name_of, told
from tests.live.freezing import frozen
from tests.live.servers import (
    PROJECT,
    STORM_ARGUMENTS,
    Daemon,
    Prometheus,
    QueryApi,
    Vllm,
    daemon,
    prometheus,
    real_vllm,
    storm,
    wait_for,
)
from tests.nvml_stub.control import Stub, compile_library

pytestmark = pytest.mark.story

SHIPPED = PROJECT / "alerts.yaml"
INTERVAL = 5
SLOW = 15
KEPT = 330
"""Seconds for which the longest ``keep_firing_for`` of the shipped rules and an evaluation last."""
STORM = 180


@dataclass(frozen=True)
class Told:
    """What each side said of the whole story, and when it began, seconds since the epoch."""

    since: float
    ours: History
    same_pace: History
    slow: History


def firing(where: QueryApi, name: str) -> bool:
    """Whether an alert of this name fires."""
    return any(each["state"] == "firing" for each in where.alerts(name))


@contextmanager
def frozen_busy(vllm: Vllm) -> Iterator[None]:
    """The engine hangs with requests in it for the time of the block. Its gauges freeze with it: a moment between two
    requests would show none."""
    while True:
        with frozen(vllm):
            time.sleep(1)  # what it had said before reaches the API server
            if re.search(r"^vllm:num_requests_running\{.*\} [1-9]", vllm.metrics(), re.MULTILINE):
                yield
                return
        time.sleep(0.3)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Plays it, in about twelve minutes, and reads what each side has recorded."""
    folder = tmp_path_factory.mktemp("same-alerts")
    with ExitStack() as stack:
        stub = Stub(folder, compile_library(tmp_path_factory.mktemp("nvml")))
        stack.callback(stub.close)
        server = ExitStack()
        vllm = server.enter_context(real_vllm(folder, *STORM_ARGUMENTS))
        stack.enter_context(server)
        every = f"{INTERVAL}s"
        node = stack.enter_context(
            daemon(
                folder,
                {
                    "sources": {
                        "vllm": {"interval": every, "discover": False, "servers": [{"url": vllm.url}]},
                        "nvml": {"interval": every},
                        "host": {"interval": every},
                    },
                    "alerting": {"evaluation_interval": every},
                },
                environment={name: stub.env()[name] for name in ("LD_LIBRARY_PATH", "NVML_STUB_CONTROL")},
            )
        )
        targets = {"gpumon": [node.instance]}
        same = stack.enter_context(prometheus(folder / "same", targets, rule_files=[SHIPPED], interval=every))
        slow = stack.enter_context(prometheus(folder / "slow", targets, rule_files=[SHIPPED], interval=f"{SLOW}s"))
        for side in (node, same, slow):
            wait_for("vLLM and the GPUs are seen", partial(seen, side), 120)
        time.sleep(2 * SLOW)
        since = time.time()
        play(vllm, server, stub, (node, same, slow))
        until = time.time()
        yield Told(
            since,
            history(node, since - 2 * SLOW, until, INTERVAL),
            history(same, since - 2 * SLOW, until, INTERVAL),
            history(slow, since - 2 * SLOW, until, SLOW),
        )


def seen(side: QueryApi) -> bool:
    return bool(side.query("vllm:kv_cache_usage_perc")) and bool(side.query("DCGM_FI_DEV_GPU_TEMP"))


def play(vllm: Vllm, server: ExitStack, stub: Stub, sides: tuple[Daemon, Prometheus, Prometheus]) -> None:
    """The story. Each cause lasts until all sides saw what it makes."""

    def all_see(name: str) -> None:
        for side in sides:
            wait_for(f"{name} fires at {side.url}", partial(firing, side, name), 300)

    # So many that nothing is near its threshold, and for so long that what has to last does.
    with storm(vllm, at_once=32):
        all_see("KvCacheFull")
        all_see("RequestQueueLong")
        time.sleep(STORM)
    time.sleep(60)
    with storm(vllm, at_once=2, tokens_out=900):
        with frozen_busy(vllm):
            stub.set(0, "temperature", 97)
            all_see("EngineStuck")
            all_see("GpuTooHot")
            stub.set(0, "temperature", 40)
            stub.fault(1, "lost")
            all_see("GpuLost")
            stub.clear(1)
        time.sleep(2 * SLOW)
    time.sleep(30)
    server.close()
    all_see("VllmServerDown")
    time.sleep(KEPT)


def test_the_story_made_alerts(story: Told) -> None:
    names = {dict(key)["alertname"] for key in fired(story.ours)}
    assert names >= {"KvCacheFull", "EngineStuck", "GpuTooHot", "GpuLost", "VllmServerDown", "Watchdog"}
    ended = {dict(key)["alertname"] for key in fired(story.ours) - active(story.ours).keys()}
    assert ended >= {"KvCacheFull", "GpuTooHot"}


def test_at_the_same_interval_the_same_alerts_are_in_the_same_states_within_one_interval(story: Told) -> None:
    """Each side's evaluations are an interval apart, and Prometheus' are of what it scraped up to an interval ago."""
    seen = compare(story.ours, story.same_pace, story.since, within=2 * INTERVAL)
    print(f"\n{seen.alerts} alerts, changes at most {seen.largest:.1f} s apart, {len(seen.flickers)} flickers")
    print("\n".join(seen.flickers))
    assert not seen.differences, "\n".join(seen.differences)
    assert seen.alerts >= 8


def test_at_15_s_scrapes_the_same_alerts_in_the_end(story: Told) -> None:
    """Where a cause lasted about as long as a rule's ``for``, within two of the slow intervals, one side may have fired
    and the other not: it has to have been pending for nearly as long."""
    differing = []
    for key in sorted(fired(story.ours) ^ fired(story.slow)):
        sides = story.ours.get(key, []), story.slow.get(key, [])
        text = f"{name_of(key)}\n  ours:   {told(sides[0], story.since)}\n  theirs: {told(sides[1], story.since)}"
        silent = sides[1] if key in fired(story.ours) else sides[0]
        if 0 < shortest_for(key) - 2 * SLOW <= longest_pending(silent):
            print(f"\nby a hair: {text}")
        else:
            differing.append(text)
    assert not differing, "\n".join(differing)
    assert active(story.ours) == active(story.slow)
    print(f"\n{len(fired(story.ours))} alerts fired here, {len(fired(story.slow))} at 15 s")


def shortest_for(key: Key) -> float:
    """``for`` of the shipped rule with this alert's name, in seconds; the shortest of several."""
    rules = [rule for group in yaml.safe_load(SHIPPED.read_text())["groups"] for rule in group["rules"]]
    name = dict(key)["alertname"]
    return min(duration(rule.get("for", "0s")) for rule in rules if rule.get("alert") == name)


def duration(text: str) -> float:
    """``1m30s`` in seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smh])", text))
