"""Rules, alerts that are over and silences, asked of a real API."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from monitor.client.alerting import Alerting
from monitor.client.alertmanager import AlertClient
from monitor.client.errors import ClientError, Refused
from monitor.client.silences import Draft, LabelMatcher
from monitor.client.wire import Series, TransitionRow
from monitor.rules.transition import Transition
from monitor.samples import STALE, make_labels
from tests.api.notifying import HOUR, T0, Notifying, notifying
from tests.commands.serving import T0 as NODE_MS
from tests.commands.serving import head_of, serving

HOT = (LabelMatcher("alertname", "=", "Hot"),)


def test_rules_say_what_they_compare(tmp_path: Path) -> None:
    async def work() -> None:
        rules = "groups: [{name: g, rules: [{alert: Hot, expr: 'temp > 5', for: 1m}, {record: 'a:b', expr: temp}]}]"
        async with notifying(tmp_path, rules=rules) as node:
            alerting = Alerting(f"unix:{node.socket}")
            hot, recorded = await alerting.rules()
            await alerting.close()
        assert (hot.name, hot.state, hot.never_matched, hot.compared[0].threshold) == ("Hot", "inactive", True, 5)
        assert (recorded.records, recorded.compared) == (True, ())

    asyncio.run(work())


def test_what_ends_is_known_and_only_what_is_new_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    transitions = AlertClient.transitions

    async def counted(self: AlertClient, since_ms: int = 0) -> tuple[TransitionRow, ...]:
        asked.append(since_ms)
        return await transitions(self, since_ms)

    monkeypatch.setattr(AlertClient, "transitions", counted)

    async def work() -> None:
        async with notifying(tmp_path) as node:
            alerting = Alerting(f"unix:{node.socket}")
            hot = next(one for one in node.node.engine.alerts() if one.rule == "Hot")
            node.node.transitions.append(Transition(hot, "inactive", "firing", T0 - 60_000))
            assert await alerting.ended(None) == ()
            node.node.transitions.append(Transition(hot, "firing", "inactive", T0 - 60_000))
            node.node.transitions.append(Transition(hot, "inactive", "firing", T0 - 30_000))
            node.node.transitions.append(Transition(hot, "firing", "inactive", T0 - 10_000))
            (one,) = await alerting.ended(None)
            assert (one.alert.name, one.alert.since_ms, one.ended_ms, one.times) == ("Hot", T0 - 30_000, T0 - 10_000, 2)
            (then,) = await alerting.ended(T0 - 20_000)
            assert then.ended_ms == T0 - 60_000
            await alerting.close()
        assert asked == [0, T0 - 60_000, T0 - 10_000]

    asyncio.run(work())


def test_a_silence_is_made_extended_and_ended_by_the_nodes_clock(tmp_path: Path) -> None:
    async def work() -> None:
        async with notifying(tmp_path) as node:
            alerting = Alerting(f"unix:{node.socket}")
            said = await alerting.silence(Draft(HOT, "2h", "fan", "ann"))
            (one,) = await alerting.silences()
            assert said.startswith("silenced until ")
            assert one.id[:8] in said
            assert (one.starts_at_ms, one.ends_at_ms, one.state) == (T0, T0 + 2 * HOUR, "active")
            node.clock.at_ms += HOUR
            await alerting.silence(Draft(HOT, "5h", "fan", "ann", one.id, one.starts_at))
            (longer,) = await alerting.silences()
            assert (longer.id, longer.starts_at_ms, longer.ends_at_ms) == (one.id, T0, T0 + 6 * HOUR)
            assert await alerting.expire(one.id) == f"silence {one.id[:8]} ended"
            (over,) = await alerting.silences()
            assert over.state == "expired"
            await alerting.close()

    asyncio.run(work())


def test_who_may_only_look_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMON_TOKEN", raising=False)

    async def work(node: Notifying) -> None:
        alerting = Alerting(f"http://127.0.0.1:{node.port}")
        with pytest.raises(ClientError) as refused:
            await alerting.silence(Draft(HOT, "2h", "fan", "ann"))
        assert "token" in refused.value.what
        await alerting.close()

    async def main() -> None:
        async with notifying(tmp_path) as node:
            await work(node)

    asyncio.run(main())


def test_silences_go_to_the_alertmanager_that_is_named(tmp_path: Path) -> None:
    async def work() -> None:
        async with notifying(tmp_path / "a") as node, notifying(tmp_path / "b") as manager:
            alerting = Alerting(f"unix:{node.socket}", f"unix:{manager.socket}")
            await alerting.silence(Draft(HOT, "2h", "fan", "ann"))
            assert [one.comment for one in await alerting.silences()] == ["fan"]
            assert len(manager.notifier.silences.all()) == 1
            assert len(node.notifier.silences.all()) == 0
            await alerting.close()

    asyncio.run(work())


def test_of_a_prometheus_what_ended_is_in_its_series_and_a_day_is_not_asked_for_each_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    firing = make_labels("ALERTS", {"alertname": "Hot", "alertstate": "firing", "gpu": "3"})
    pending = make_labels("ALERTS", {"alertname": "Slow", "alertstate": "pending"})
    store = head_of({firing: [1.0] * 1300 + [STALE] * 1400, pending: [1.0] * 2700})
    asked: list[str] = []
    query_range = AlertClient.query_range

    async def counted(self: AlertClient, expr: str, *rest: object) -> tuple[Series, ...]:
        asked.append(expr)
        return await query_range(self, expr, *rest)  # type: ignore[arg-type]

    async def no_record(self: AlertClient, since_ms: int = 0) -> tuple[TransitionRow, ...]:
        raise Refused("404 page not found", self.target, "", 404)

    monkeypatch.setattr(AlertClient, "query_range", counted)
    monkeypatch.setattr(AlertClient, "transitions", no_record)

    async def work(target: str) -> None:
        alerting = Alerting(target)
        (one,) = await alerting.ended(None)
        assert (one.alert.name, one.alert.labels["gpu"], one.about_ms) == ("Hot", "3", 300_000)
        assert 0 <= NODE_MS - 1_400_000 + 300_000 - one.ended_ms <= 600_000
        assert await alerting.ended(None) == (one,)
        assert asked == ['ALERTS{alertstate="firing",severity!="none"}']
        assert await alerting.ended(NODE_MS - 2_000_000) == (), "then it fired still"
        await alerting.close()

    with serving(store) as target:
        asyncio.run(work(target))
