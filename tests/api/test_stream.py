"""The stream: whole first, then what changed; slow clients; bad requests."""

import asyncio
import contextlib
import json
from typing import Any

import httpx
import pytest

from monitor.api.gpumon import StreamRequest, Ticker, _Stream
from monitor.api.live import LiveQueries, LiveQuery, LiveQuerySpec
from monitor.api.node import Node
from monitor.api.queries import Queries
from monitor.promql.errors import PromQLError
from monitor.samples import Event, Scrape, Shape, make_labels
from monitor.store.head import Head
from tests.api.running import Running, running

T0 = 1_700_000_000_000
BOTH = Shape([make_labels("util", gpu="0"), make_labels("util", gpu="1")], {})
ONE = Shape([make_labels("util", gpu="0")], {})


def part(raw: Any) -> Any:
    return None if raw is None else json.loads(bytes(raw))


def live_queries(head: Head) -> LiveQueries:
    return LiveQueries(Queries(head, None, lambda: T0), head)


def test_an_instant_query_sends_its_labels_only_when_they_change() -> None:
    head = Head("j", "i")
    live = live_queries(head)
    head.ingest("s", Scrape(T0, BOTH, [1.0, 2.0]))
    query = asyncio.run(live.acquire(LiveQuerySpec("u", "util"), T0))
    whole = part(query.full)
    assert [one["gpu"] for one in whole["labels"]] == ["0", "1"]
    assert (whole["times"], whole["values"]) == ([T0, T0], [1.0, 2.0])

    head.ingest("s", Scrape(T0 + 1000, BOTH, [3.0, 2.0]))
    live.tick(T0 + 1100)
    assert part(query.delta) == {"times": [T0 + 1000, T0 + 1000], "values": [3.0, 2.0]}
    live.tick(T0 + 1200)
    assert query.delta is None
    head.ingest("s", Scrape(T0 + 2000, ONE, [4.0]))
    live.tick(T0 + 2100)
    assert [one["gpu"] for one in part(query.delta)["labels"]] == ["0"]


def test_a_range_sends_the_whole_and_then_its_new_points() -> None:
    head = Head("j", "i")
    live = live_queries(head)
    for i in range(6):
        head.ingest("s", Scrape(T0 + i * 1000, ONE, [float(i)]))
    spec = LiveQuerySpec("u", "util", range_seconds=4, step_seconds=2)
    query = asyncio.run(live.acquire(spec, T0 + 5000))
    whole = part(query.full)
    assert whole["reset"] is True
    assert (whole["times"], whole["values"]) == ([T0, T0 + 2000, T0 + 4000], [[0.0, 2.0, 4.0]])
    live.tick(T0 + 5900)
    assert query.delta is None
    head.ingest("s", Scrape(T0 + 6000, ONE, [6.0]))
    live.tick(T0 + 6100)
    assert part(query.delta) == {"times": [T0 + 6000], "values": [[6.0]]}
    # A client that comes now gets the window as it is now.
    assert part(query.full)["times"] == [T0 + 2000, T0 + 4000, T0 + 6000]
    head.ingest("s", Scrape(T0 + 8000, BOTH, [8.0, 9.0]))
    live.tick(T0 + 8100)
    again = part(query.delta)
    assert again["reset"] is True
    assert again["values"] == [[4.0, 6.0, 8.0], [None, None, 9.0]]


def test_equal_queries_are_one_and_are_forgotten_with_their_last_watcher() -> None:
    live = live_queries(Head("j", "i"))
    first, second = LiveQuerySpec("a", "util"), LiveQuerySpec("b", "util")
    assert asyncio.run(live.acquire(first, T0)) is asyncio.run(live.acquire(second, T0))
    live.release(first)
    assert len(live._queries) == 1
    live.release(second)
    assert not live._queries


def test_queries_that_ask_too_much_wait_their_turn_and_take_none_of_the_sockets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = iter(range(1_000_000))
    monkeypatch.setattr(
        "monitor.api.live.time.perf_counter", lambda: next(seconds) / 100
    )  # each look at it takes 10 ms
    head = Head("j", "i")
    live = live_queries(head)
    head.ingest("s", Scrape(T0, ONE, [0.0]))
    far = [asyncio.run(live.acquire(LiveQuerySpec("u", f"util + {n}"), T0, unix=False)) for n in range(50)]
    near = [asyncio.run(live.acquire(LiveQuerySpec("u", f"util - {n}"), T0)) for n in range(10)]
    said: list[list[LiveQuery]] = []
    for second in range(1, 5):
        head.ingest("s", Scrape(T0 + second * 1000, ONE, [float(second)]))
        live.tick(T0 + second * 1000)
        assert all(one.delta is not None for one in near)
        said.append([one for one in far if one.delta is not None])
    assert 0 < len(said[0]) < 50
    assert not set(said[0]) & set(said[1]), "the others come first"
    assert {one for some in said for one in some} == set(far)
    assert len([one for one in caplog.records if "ask too much" in one.message]) == 1
    for one in far:
        live.release(LiveQuerySpec("u", one._plan.text), unix=False)
    assert not live._waiting
    assert part(near[3].full)["values"] == [1.0]


def test_all_that_streams_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head("j", "i")
    live = live_queries(head)
    for i in range(6):
        head.ingest("s", Scrape(T0 - 5000 + i * 1000, BOTH, [float(i), 1.0]))
    spec = LiveQuerySpec("u", "util", range_seconds=4, step_seconds=1)
    asyncio.run(live.acquire(spec, T0))
    monkeypatch.setattr("monitor.api.live.MAX_HELD", 9)
    with pytest.raises(PromQLError, match="the streams that are open hold 9 values: end some of them"):
        asyncio.run(live.acquire(LiveQuerySpec("v", "util + 1"), T0))
    assert asyncio.run(live.acquire(spec, T0)).watchers == 2, "which takes nothing more"
    assert len(live._queries) == 1
    asyncio.run(live.acquire(LiveQuerySpec("v", "util + 1"), T0, unix=False))
    assert len(live._queries) == 2, "who fills the socket's does not fill the port's"


def test_an_instant_query_holds_a_value_for_each_series() -> None:
    head = Head("j", "i")
    live = live_queries(head)
    head.ingest("s", Scrape(T0, BOTH, [1.0, 2.0]))
    assert asyncio.run(live.acquire(LiveQuerySpec("u", "util"), T0)).held == 2


def test_a_client_that_missed_ticks_gets_the_whole_and_the_count() -> None:
    async def main() -> list[dict[str, Any]]:
        head = Head("j", "i")
        head.ingest("s", Scrape(T0, ONE, [0.0]))
        async with running(head) as api:
            ticker = Ticker(api.node)
            stream = _Stream(ticker, StreamRequest([LiveQuerySpec("u", "last_over_time(util[100y])")]), unix=True)
            await stream.open()
            frames = [stream.frame()]
            ticker.live.tick(T0 + 1)
            head.ingest("s", Scrape(T0 + 1000, ONE, [1.0]))
            ticker.live.tick(T0 + 1001)
            head.ingest("s", Scrape(T0 + 2000, ONE, [2.0]))
            ticker.live.tick(T0 + 2001)
            frames.append(stream.frame())
            head.ingest("s", Scrape(T0 + 3000, ONE, [3.0]))
            ticker.live.tick(T0 + 3001)
            frames.append(stream.frame())
            stream.release()
            return [json.loads(frame.split(b"data: ")[1]) for frame in frames]

    whole, late, next_one = asyncio.run(main())
    assert "labels" in whole["results"]["u"]
    assert late["dropped"] == 2
    assert "labels" in late["results"]["u"]
    assert late["results"]["u"]["values"] == [2.0]
    assert "dropped" not in next_one
    assert "labels" not in next_one["results"]["u"]
    assert next_one["results"]["u"]["values"] == [3.0]


async def frames_of(api: Running, body: dict[str, Any], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with api.client.stream("POST", "/api/gpumon/v1/stream", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if len(found) == count:
                    return found
    raise AssertionError("the stream ended")


def test_a_stream_over_the_socket() -> None:
    async def main() -> tuple[list[dict[str, Any]], int]:
        head = Head("j", "i")
        async with running(head) as api:
            head.ingest("s", Scrape(api.node.clock.now_ms(), ONE, [7.0]))
            body = {"queries": [{"id": "u", "expr": "util"}], "alerts": True, "sources": True}
            found = await frames_of(api, body, 2)
            await asyncio.sleep(0.1)
            return found, api.node.clients

    (first, second), clients = asyncio.run(main())
    assert first["results"]["u"]["values"] == [7.0]
    assert first["alerts"] == []
    assert first["sources"] == []
    assert second["seq"] == 2
    assert second["results"] == {}
    assert clients == 0


def test_what_all_streams_show_is_encoded_once_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def alerts(node: Node) -> list[dict[str, Any]]:
        made.append(len(made))
        return [{"number": len(made)}]

    async def main() -> list[list[dict[str, Any]]]:
        async with running(Head("j", "i")) as api:
            body = {"queries": [], "alerts": True, "sources": True}
            return await asyncio.gather(*(frames_of(api, body, 3) for _ in range(4)))

    monkeypatch.setattr("monitor.api.gpumon.alerts_json", alerts)
    streams = asyncio.run(main())
    # Each begins with a picture of its own; two ticks came after that, or three where one began later.
    assert len(made) <= 4 + 3
    assert all(len({frame["alerts"][0]["number"] for frame in frames}) == 3 for frames in streams)


def test_streams_that_lost_a_tick_share_what_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def alerts(node: Node) -> list[dict[str, Any]]:
        made.append(len(made))
        return [{"number": len(made)}]

    async def main() -> list[dict[str, Any]]:
        async with running(Head("j", "i")) as api:
            ticker = Ticker(api.node)
            streams = [_Stream(ticker, StreamRequest([], alerts=True), unix=True) for _ in range(4)]
            for one in streams:
                one.frame()
            for tick in range(3):
                ticker.live.tick(T0 + tick)
            return [json.loads(one.frame().split(b"data: ")[1]) for one in streams]

    monkeypatch.setattr("monitor.api.gpumon.alerts_json", alerts)
    frames = asyncio.run(main())
    assert [frame["dropped"] for frame in frames] == [2] * 4
    # Four when they began, and one for all of them since.
    assert [frame["alerts"] for frame in frames] == [[{"number": 5}]] * 4


def test_bad_streams_are_refused_and_leave_nothing() -> None:
    async def main() -> list[tuple[int, str]]:
        async with running(Head("j", "i")) as api:
            said = []
            for body in (
                {"queries": [{"id": "ok", "expr": "util"}, {"id": "bad", "expr": "util{"}]},
                {"queries": [{"id": "x", "expr": "util", "range_seconds": 86400, "step_seconds": 1}]},
                {"queries": [{"id": "x", "expr": "a"}, {"id": "x", "expr": "b"}]},
                {"queries": [], "interval": 0},
                {"nothing": 1},
            ):
                response = await api.client.post("/api/gpumon/v1/stream", json=body)
                said.append((response.status_code, response.json()["error"]))
            said.append((api.node.clients, ""))
            return said

    bad, points, twice, interval, unknown, left = asyncio.run(main())
    assert bad[0] == 400
    assert 'query "bad"' in bad[1]
    assert "points for each series" in points[1]
    assert "the same id" in twice[1]
    assert "interval" in interval[1]
    assert "no stream request" in unknown[1]
    assert left == (0, "")


def test_streams_of_the_port_leave_the_socket_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.api.gpumon.MAX_STREAMS", 2)
    path, body = "/api/gpumon/v1/stream", dict[str, object](queries=[])

    async def main() -> list[int]:
        async with (
            running(Head("j", "i")) as api,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as tcp,
            contextlib.AsyncExitStack() as held,
        ):
            said = []
            for client in (tcp, tcp, tcp, api.client, api.client, api.client):
                answer = await held.enter_async_context(client.stream("POST", path, json=body))
                said.append(answer.status_code)
            assert api.node.clients == 4
            return said

    assert asyncio.run(main()) == [200, 200, 503, 200, 200, 503]


def test_events_since_a_moment() -> None:
    async def main() -> dict[str, Any]:
        async with running(Head("j", "i")) as api:
            for at_ms in (1000, 2000):
                api.node.events.append(Event(at_ms, "xid", "critical", f"at {at_ms}", {"gpu": "0"}))
            answer: dict[str, Any] = (await api.client.get("/api/gpumon/v1/events?since_ms=1500")).json()
            return answer

    assert asyncio.run(main()) == {
        "events": [
            {
                "at_ms": 2000,
                "kind": "xid",
                "severity": "critical",
                "title": "at 2000",
                "labels": {"gpu": "0"},
                "detail": "",
            }
        ]
    }


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=é", 'unknown parameter "since": there are since_ms, until_ms and limit'),
        ("since_ms=1&form=csv", 'unknown parameter "form"'),
        ("since_ms=é", "invalid parameter \"since_ms\": 'é' is no number of milliseconds"),
        ("until_ms=-1", "invalid parameter \"until_ms\": '-1' is no number of milliseconds"),
        ("limit=-1", "invalid parameter \"limit\": '-1' is no whole number from 1"),
        ("limit=0", "invalid parameter \"limit\": '0' is no whole number from 1"),
        ("limit=", 'invalid parameter "limit"'),
        ("limit=²", 'invalid parameter "limit"'),
        (f"limit={'9' * 5000}", 'invalid parameter "limit"'),
    ],
)
def test_events_are_not_asked_for_by_what_is_no_parameter(query: str, words: str) -> None:
    async def main() -> httpx.Response:
        async with running(Head("j", "i")) as api:
            return await api.client.get(f"/api/gpumon/v1/events?{query}")

    answer = asyncio.run(main())
    assert answer.status_code == 400
    assert answer.json()["errorType"] == "bad_data"
    assert words in answer.json()["error"]


@pytest.mark.parametrize(("limit", "titles"), [("1", ["c"]), ("2", ["b", "c"]), ("9" * 18, ["a", "b", "c"])])
def test_the_newest_events_alone(limit: str, titles: list[str]) -> None:
    async def main() -> dict[str, Any]:
        async with running(Head("j", "i")) as api:
            for at_ms, title in enumerate("abc"):
                api.node.events.append(Event(at_ms, "xid", "critical", title, {}))
            answer: dict[str, Any] = (await api.client.get(f"/api/gpumon/v1/events?limit={limit}")).json()
            return answer

    assert [event["title"] for event in asyncio.run(main())["events"]] == titles


def test_capabilities_and_an_empty_node() -> None:
    async def main() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]:
        async with running(Head("gpumon", "n1:9519")) as api:
            one = (await api.client.get("/api/gpumon/v1/capabilities")).json()
            two = (await api.client.get("/api/gpumon/v1/processes")).json()
            three = (await api.client.get("/api/gpumon/v1/alerts")).json()
            return one, two, three, (await api.client.get("/api/gpumon/v1/alerts?since_ms=x")).status_code

    capabilities, processes, alerts, bad = asyncio.run(main())
    assert capabilities["node"] == {"job": "gpumon", "instance": "n1:9519", "hostname": "n1"}
    assert capabilities["oldest_ms"] is None
    assert processes == {"at_ms": None, "processes": []}
    assert alerts == {"transitions": []}
    assert bad == 400
