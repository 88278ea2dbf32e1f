"""Fleets: who the nodes of a Prometheus are, which is worst, and daemons that answer or do not."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from monitor.client import fleet as fleets
from monitor.client import fleet_queries
from monitor.client.access import Address, Part
from monitor.client.alert_series import LONGEST_MS, STEP_MS, changes, happened
from monitor.client.api import Client
from monitor.client.events import Event
from monitor.client.feed import live
from monitor.client.fleet import Several, fleet_of
from monitor.client.fleet_parts import exporters, host_of, parts
from monitor.client.fleet_rows import State, state, worst_first
from monitor.client.past import Pictures
from monitor.client.results import Lens
from monitor.client.snapshot import FleetNode, Happening, Snapshot
from monitor.client.wire import Query, Series
from monitor.promql.plan import plan
from monitor.records import replace
from monitor.tui.panels.header import header
from monitor.tui.rows import View
from tests.client.fake_daemon import FakeDaemon
from tests.client.fake_prometheus import FakePrometheus, Rows
from tests.client.story import START_MS

HERE = Address("http://prometheus:9090")


# -- who the nodes are -----------------------------------------------------------------------------------------------


def member(instance: str, name: str, hostname: str = "", job: str = "gpumon") -> tuple[dict[str, str], float]:
    return {"instance": instance, "job": job, "__name__": name, "Hostname": hostname}, 1.0


def known(rows: Rows, up: Rows) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    found = exporters([(labels, 0.0, value) for labels, value in rows], [(one, 0.0, value) for one, value in up])
    return {part.name: (part.instances, part.exporters) for part in parts(found)}


def test_exporters_of_one_machine_are_one_node_by_host_or_by_hostname() -> None:
    rows = [
        member("gpu1:9400", "DCGM_FI_DEV_GPU_UTIL", "gpu1", "dcgm"),
        member("gpu1.example.com:9100", "node_load1", job="node"),
        member("gpu1:8000", "vllm:num_requests_running", job="vllm"),
        member("gpu1:8001", "vllm:num_requests_running", job="vllm"),
        member("10.0.0.2:9400", "DCGM_FI_DEV_GPU_UTIL", "gpu2", "dcgm"),
        member("10.0.0.2:9100", "node_load1", job="node"),
        member("10.0.0.9:9100", "node_load1", job="node"),
    ]
    found = known(rows, [])
    assert set(found) == {"gpu1", "gpu2"}, "a machine without GPUs is no node"
    assert found["gpu1"][0] == ("gpu1.example.com:9100", "gpu1:8000", "gpu1:8001", "gpu1:9400")
    assert set(found["gpu1"][1]) == {"dcgm-exporter", "node_exporter", "vLLM"}
    assert found["gpu2"][0] == ("10.0.0.2:9100", "10.0.0.2:9400")


def gpumon(instance: str, hostname: str) -> Rows:
    names = ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED")
    alone = [member(instance, name) for name in ("node_load1", "vllm:num_requests_running", "gpumon_build_info")]
    return [*(member(instance, name, hostname) for name in names), *alone]


def test_gpumon_is_one_node_and_what_tells_the_same_beside_it_is_left_out() -> None:
    rows = [*gpumon("a:9519", "a"), member("a:9400", "DCGM_FI_DEV_GPU_UTIL", "a", "dcgm"), *gpumon("b:9519", "b")]
    assert known(rows, []) == {"a": (("a:9519",), ("gpumon", "dcgm-exporter")), "b": (("b:9519",), ("gpumon",))}
    down = [({"instance": "a:9519", "job": "gpumon"}, 0.0), ({"instance": "a:9400", "job": "dcgm"}, 1.0)]
    assert known(rows, down)["a"][0] == ("a:9400", "a:9519"), "what answers tells of the GPUs"
    alike = [*gpumon("127.0.0.1:1", "x"), *gpumon("127.0.0.1:2", "x"), *gpumon("127.0.0.1:3", "y")]
    assert set(known(alike, [])) == {"127.0.0.1:1", "127.0.0.1:2", "y"}


def test_a_target_that_has_never_answered_is_taken_for_what_its_job_is() -> None:
    rows = gpumon("a:9519", "a")
    up = [({"instance": "z:9519", "job": "gpumon"}, 0.0), ({"instance": "p:9090", "job": "prometheus"}, 0.0)]
    assert set(known(rows, up)) == {"a", "z"}


@pytest.mark.parametrize(
    ("instance", "host"),
    [("a:1", "a"), ("a.b", "a.b"), ("[::1]:9", "::1"), ("http://a:8000/metrics", "a"), ("fe80::1", "fe80::1")],
)
def test_a_host_is_an_instance_without_its_port(instance: str, host: str) -> None:
    assert host_of(instance) == host


# -- which is worst --------------------------------------------------------------------------------------------------


def test_the_worst_comes_first_and_says_why() -> None:
    well = FleetNode("well", HERE, True, utilization=(0.5, 0.6), margin=30.0, running=3, cpu=0.1)
    ordered = [
        replace(well, name="down", up=False, reason="connection refused", age_seconds=720.0),
        replace(well, name="critical", severity="critical", alert="GpuLost", firing=1),
        replace(well, name="old", age_seconds=40.0),
        replace(well, name="server", servers_up=1, servers_down=1),
        replace(well, name="two warnings", severity="warning", alert="X", firing=2),
        replace(well, name="warning", severity="warning", alert="X", firing=1, utilization=(0.0,)),
        replace(well, name="hot", margin=4.0, hottest=83.0),
        replace(well, name="throttled", throttled=2),
        replace(well, name="errors", failed_rate=0.5),
        replace(well, name="full", kv_cache=0.99, waiting=4.0),
        replace(well, name="busy2", utilization=(0.99,)),
        replace(well, name="busy10", utilization=(0.99,)),
        replace(well, name="idle", utilization=(0.0,)),
        replace(well, name="asking", up=None),
    ]
    assert [one.name for one in worst_first(reversed(ordered))] == [one.name for one in ordered]
    words = {one.name: state(one) for one in ordered}
    assert words["down"] == State(0, "down", "12 min, connection refused")
    assert words["old"] == State(2, "old", "nothing read for 40 s")
    assert words["server"].detail == "1 server of 2"
    assert (words["hot"].word, words["hot"].detail) == ("hot", "83 °C, slows in 4 °C")
    assert [words[one].word for one in ("busy2", "idle", "asking")] == ["busy", "idle", "asking"]


# -- a Prometheus ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", [True, False])
def test_a_fleets_queries_are_promql_and_few(daemon: bool) -> None:
    asked = fleet_queries.fleet(window="2m", range_seconds=600, step_seconds=15, daemon=daemon)
    for query in asked:
        plan(query.expr)
    plan(fleet_queries.MEMBERS)
    plan(fleet_queries.last_seen('instance="a"'))
    assert len({one.id for one in asked}) == len(asked) < 20


def prometheus(path: Path) -> FakePrometheus:
    """Node a is well, b fires, c is down; d tells nothing any more."""
    of = [{"instance": f"{name}:9519"} for name in "ab"]
    names = [f"{name}:9519" for name in "abcd"]
    return FakePrometheus(
        path,
        {
            "members": [row for name in "abcd" for row in gpumon(f"{name}:9519", name)],
            "up": [({"instance": one, "job": "gpumon"}, float(one[0] in "ab")) for one in names[:3]],
            "scraped": [({"instance": one}, START_MS / 1000 - 4) for one in names[:3]],
            "util": [({**one, "gpu": str(gpu)}, 10.0 * gpu) for one in of for gpu in (10, 2, 0)],
            "sum": [
                ({**one, "__name__": f"DCGM_FI_DEV_{name}"}, value)
                for one in of
                for name, value in (("FB_USED", 30.0), ("FB_FREE", 10.0), ("POWER_USAGE", 900.0))
            ],
            "most": [({**one, "__name__": "DCGM_FI_DEV_GPU_TEMP"}, 71.0) for one in of],
            "servers": [({**of[0], "server": "a:8000"}, 1.0), ({**of[0], "server": "a:8001"}, 1.0)],
            "alerts": [
                ({**of[1], "alertname": "W", "severity": "warning"}, 2.0),
                ({**of[1], "alertname": "C", "severity": "critical"}, 1.0),
                ({"alertname": "Far", "severity": "warning"}, 1.0),
            ],
            "cpu": [({"instance": one}, 0.2) for one in names],  # a rate outlives what it is of
            "util_h": [(one, 50.0) for one in of],
            fleet_queries.last_seen('instance=~"c:9519"'): [({"instance": "c:9519"}, START_MS / 1000 - 600)],
        },
    )


def test_a_prometheus_is_a_fleet_with_the_worst_node_first(tmp_path: Path) -> None:
    async def look(target: str) -> tuple[Snapshot, Snapshot]:
        async with Client(target) as client:
            fleet = await fleet_of(client)
            assert fleet is not None
            return await fleet.look(START_MS), await fleet.look(START_MS + 5000)

    server = prometheus(tmp_path / "p.sock")
    with server.serving() as target:
        first, second = asyncio.run(look(target))
    c, d, b, a = first.fleet
    assert (c.name, c.up, c.reason, c.age_seconds) == ("c", False, "no exporter answers", 600.0)
    assert (d.name, d.up, d.reason) == ("d", False, "no longer scraped")
    assert (b.name, b.severity, b.alert, b.firing) == ("b", "critical", "C", 3)
    assert (a.name, a.firing, a.servers_up, a.servers_down, a.age_seconds) == ("a", 0, 2, 0, 4.0)
    assert a.utilization == (0.0, 0.2, 1.0), "GPU 2 is before GPU 10"
    assert (a.memory, a.hottest, a.power) == (0.75, 71.0, 900.0)
    assert a.kv_cache is None, "absent is not 0"
    assert a.history is not None
    assert a.history.newest == 50.0
    assert first.elsewhere == 1
    assert (first.node.mode, first.node.hostname) == ("fleet", "4 nodes")
    assert [one.name for one in second.fleet] == ["c", "d", "b", "a"]
    assert server.asked["members"] == 1, "who the nodes are is asked before the first picture, and not with each"
    assert server.asked[fleet_queries.last_seen('instance=~"c:9519"')] == 1


def test_a_node_of_a_prometheus_is_asked_for_alone(tmp_path: Path) -> None:
    server = prometheus(tmp_path / "p.sock")
    server.alert_rows = [
        {"labels": {"alertname": "B", "instance": "b:9519"}, "state": "firing"},
        {"labels": {"alertname": "A", "instance": "a:9519"}, "state": "firing"},
    ]

    async def look(target: str) -> tuple[Snapshot, str]:
        fleet = await first_of(target)
        node = next(one for one in fleet.fleet if one.name == "b")
        server.asked.clear()
        picture = await first_of(node.address)
        pictures, lenses = Pictures(node.address), []

        def asked(lens: Lens) -> list[Query]:
            lenses.append(lens)
            return [Query("x", "up")]

        async with aclosing(pictures.watch(asked, START_MS, 600)) as answers:
            await anext(answers)
        await pictures.at(START_MS, 600)
        await pictures.close()
        return picture, lenses[0].node

    with server.serving() as target:
        picture, node = asyncio.run(look(target))
    assert (picture.node.hostname, picture.node.fleet) == ("b", f"4 nodes of unix:{tmp_path}/p.sock")
    assert [one.name for one in picture.alerts] == ["B"]
    assert node == ',instance="b:9519"'
    rest = [one for one in server.asked if "b:9519" not in one and one not in ("vector(1)", "up")]
    assert rest == [], "no query is of other nodes"


async def first_of(address: str) -> Snapshot:
    """The first picture of an address."""
    async with aclosing(live(address, fleet=True)) as events:
        async for event in events:
            if isinstance(event, Snapshot):
                return event
    raise AssertionError


def test_a_prometheus_of_one_node_is_that_node_without_the_machines_beside(tmp_path: Path) -> None:
    rows = [*gpumon("a:9519", "a"), member("monitor:9100", "node_load1", job="node")]

    async def look(target: str) -> tuple[str, str, str]:
        picture = await first_of(target)
        pictures = Pictures(target)
        then = await pictures.at(START_MS, 600)
        await pictures.close()
        return picture.node.mode, picture.node.hostname, then.node.hostname

    server = FakePrometheus(tmp_path / "p.sock", {"members": rows})
    with server.serving() as target:
        assert asyncio.run(look(target)) == ("prometheus", "a", "a")
    assert any("node_load(1|5|15)" in one and 'instance="a:9519"' in one for one in server.asked)


def test_the_past_of_a_fleet_is_asked_at_its_moment(tmp_path: Path) -> None:
    async def look(target: str) -> Snapshot:
        pictures = Pictures(target)
        picture = await pictures.at(START_MS - 3_600_000, 3600)
        server.times.clear()
        await pictures.at(START_MS - 3_600_000, 3600)
        await pictures.close()
        return picture

    server = prometheus(tmp_path / "p.sock")
    with server.serving() as target:
        picture = asyncio.run(look(target))
    assert (picture.now_ms, len(picture.fleet)) == (START_MS - 3_600_000, 4)
    assert server.times == {"", f"{START_MS // 1000 - 3600}.000"}


@pytest.mark.parametrize("rules", [[], [{"name": "Hot", "type": "alerting"}]])
def test_that_there_are_no_rules_is_known(tmp_path: Path, rules: list[dict[str, str]]) -> None:
    server = prometheus(tmp_path / "p.sock")
    server.rules = list(rules)

    async def look(target: str) -> tuple[bool | None, bool | None]:
        picture = await first_of(target)
        node = await first_of(picture.fleet[0].address)
        return picture.node.rules, node.node.rules

    with server.serving() as target:
        assert asyncio.run(look(target)) == (bool(rules), bool(rules))


def test_alerts_began_and_ended_where_their_series_did() -> None:
    minute = STEP_MS // 1000
    evaluated = [at * STEP_MS for at in (1, 2, 3, 4, 7, 8)]  # the server itself was away at 5 and 6
    labels = {"alertname": "Hot", "severity": "critical", "instance": "a:9519", "gpu": "3", "alertstate": "firing"}
    series = Series(labels, None, tuple((at * minute, "1") for at in (2, 3, 7)))
    found = list(changes(series, evaluated, {"summary": "it is hot"}))
    assert [(one.at_ms // STEP_MS, one.kind) for one in found] == [
        (2, "firing"),
        (4, "resolved"),
        (7, "firing"),
        (8, "resolved"),
    ]
    assert (found[0].title, found[0].severity) == ("Hot: instance=a:9519, gpu=3", "critical")
    whole = Series(labels, None, tuple((at // 1000, "1") for at in evaluated))
    assert list(changes(whole, evaluated, {})) == [], "what fired all the time neither began nor ended"


def test_what_happened_on_a_prometheus_is_read_once_and_of_the_node_alone(tmp_path: Path) -> None:
    firing = 'ALERTS{alertstate="firing",severity!="none",instance="b:9519"}'
    now = START_MS // 1000 // 60 * 60
    server = prometheus(tmp_path / "p.sock")
    hot = {"alertname": "Hot", "severity": "critical", "instance": "b:9519"}
    server.past = {
        firing: [(hot, lambda at: now - 1800 <= at < now - 900)],
        "count(up)": [({}, lambda at: True)],
    }

    def counted(seconds: int) -> None:
        server.rows[f"count(count_over_time({firing}[{seconds}s]))"] = [({}, 1.0)]

    async def ask(target: str) -> list[tuple[Happening, ...]]:
        async with Client(Address(target, part=Part("b", ("b:9519",)))) as client:
            counted(LONGEST_MS // 1000)
            counted(1500 + 120)
            whole = await happened(client, 0, START_MS)
            since = await happened(client, (now - 1500) * 1000, START_MS)
            return [whole, since]

    with server.serving() as target:
        whole, since = asyncio.run(ask(target))
    assert [(one.kind, one.at_ms) for one in whole] == [
        ("resolved", (now - 900) * 1000),
        ("firing", (now - 1800) * 1000),
    ]
    assert since == whole[:1], "what began before is not told again"


# -- several daemons -------------------------------------------------------------------------------------------------


def test_each_daemon_is_a_row_and_one_that_is_gone_delays_nobody(tmp_path: Path) -> None:
    async def look(targets: list[str]) -> Snapshot:
        several = Several([Address(one, name=f"n{number}") for number, one in enumerate(targets)])
        async with aclosing(several.pictures(interval=0.02)) as pictures:
            async for one in pictures:
                if isinstance(one, Snapshot) and all(node.up is not None for node in one.fleet):
                    return one
        raise AssertionError

    with ExitStack() as stack:
        targets = [stack.enter_context(FakeDaemon(tmp_path / f"{name}.sock").serving()) for name in "ab"]
        picture = asyncio.run(look([*targets, f"unix:{tmp_path}/none.sock"]))
    gone, *there = picture.fleet
    assert (gone.name, gone.up) == ("n2", False)
    assert gone.reason.startswith("there is no such socket. ")
    assert [one.name for one in there] == ["n0", "n1"]
    assert all(one.up and one.severity == "critical" for one in there), "alerts come with the stream"
    assert picture.node.hostname == "3 nodes"


def test_a_daemon_that_was_given_a_name_is_shown_by_it(tmp_path: Path) -> None:
    with FakeDaemon(tmp_path / "a.sock").serving() as target:
        picture = asyncio.run(first_of(Address(target, name="rack 7", fleet="2 nodes")))
    assert (picture.node.name, picture.node.hostname, picture.node.fleet) == ("rack 7", "h200-07", "2 nodes")
    assert "".join(text for text, _ in header(View(picture), 100)[0]).startswith("gpumon  rack 7 (h200-07)  9 fleet: 2")


def test_a_prometheus_among_several_addresses_gives_its_nodes(tmp_path: Path) -> None:
    async def look(targets: list[str]) -> Snapshot:
        async with aclosing(Several([Address(one) for one in targets]).pictures(interval=0.02)) as pictures:
            async for one in pictures:
                if isinstance(one, Snapshot) and all(node.up is not None for node in one.fleet):
                    return one
        raise AssertionError

    with prometheus(tmp_path / "p.sock").serving() as one, FakeDaemon(tmp_path / "d.sock").serving() as other:
        picture = asyncio.run(look([one, other]))
    assert sorted(node.name for node in picture.fleet) == ["a", "b", "c", "d", "h200-07"]
    assert {node.name: node.address.part is None for node in picture.fleet}["h200-07"]


def test_a_daemon_that_ends_keeps_its_name_and_loses_its_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "PAUSES", (0.01,))
    daemon = FakeDaemon(tmp_path / "a.sock")

    async def look() -> list[Event]:
        events: list[Event] = []
        serving = daemon.serving()
        target = serving.__enter__()
        async with aclosing(Several([Address(target)]).pictures(interval=0.02)) as pictures:
            async for one in pictures:
                if not isinstance(one, Snapshot):
                    continue
                if not events and one.fleet[0].up:
                    await asyncio.to_thread(serving.__exit__, None, None, None)
                    events.append(one)
                elif events and one.fleet[0].up is False:
                    return [*events, one]
        raise AssertionError

    before, after = asyncio.run(look())
    assert isinstance(before, Snapshot)
    assert isinstance(after, Snapshot)
    assert before.fleet[0].name == after.fleet[0].name == "h200-07"
    assert after.fleet[0].severity == ""
    assert after.fleet[0].reason


def test_the_past_of_daemons_says_who_does_not_answer(tmp_path: Path) -> None:
    async def look(target: str) -> Snapshot:
        several = Several([Address(target), Address(f"unix:{tmp_path}/none.sock")])
        picture = await several.at(START_MS - 60_000, 600)
        await several.close()
        return picture

    with FakeDaemon(tmp_path / "a.sock").serving() as target:
        picture = asyncio.run(look(target))
    assert [one.up for one in picture.fleet] == [False, True]
    assert picture.now_ms == START_MS - 60_000


def test_the_feed_of_a_fleet_asks_once_who_its_nodes_are(tmp_path: Path) -> None:
    server = prometheus(tmp_path / "p.sock")
    with server.serving() as target:
        assert len(asyncio.run(first_of(target)).fleet) == 4
    assert server.asked["members"] == 1, "it is the dearest of all queries"


def test_a_victoriametrics_which_refuses_unknown_paths_its_own_way_is_a_prometheus(tmp_path: Path) -> None:
    async def unknown(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f'unsupported path requested: "{request.url.path}"', 400)

    server = prometheus(tmp_path / "p.sock")
    server.app.add_exception_handler(404, unknown)
    with server.serving() as target:
        assert len(asyncio.run(first_of(target)).fleet) == 4
