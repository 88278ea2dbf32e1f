"""The alerts: their order, what is over, the graph with its threshold, and which are shown."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from textual.pilot import Pilot

from monitor.client.alertmanager import SilenceMatcher, SilenceRow, SilenceState
from monitor.client.ended import Ended
from monitor.client.results import Answers, Lens
from monitor.client.rules import Compared, Rule
from monitor.client.silences import rfc3339
from monitor.client.snapshot import Alert, History
from monitor.client.wire import AlertRow
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.screens.alerts import AlertsScreen
from tests.client.story import START_MS, Story, snapshot
from tests.tui.screen import settle, text_of
from tests.tui.test_lists import press
from tests.tui.test_travel import Past, run

HOT = {"alertname": "GpuTooHot", "severity": "critical", "gpu": "3"}
FULL = {"alertname": "KvCacheFull", "severity": "warning", "server": "n:8000"}
QUEUE = {"alertname": "QueueLong", "severity": "warning", "server": "n:8000"}
SLOW = {"alertname": "Slow", "severity": "warning"}
NOW_MS = START_MS + 6_000


def rows() -> tuple[AlertRow, ...]:
    words = {"summary": "GPU 3 is too hot", "description": "Over its limit.", "action": "See its fans."}
    return (
        AlertRow(QUEUE, {"summary": "40 wait"}, "pending", active_at=stamp(NOW_MS - 20_000), fingerprint="q"),
        AlertRow(
            HOT, words | {"runbook_url": "https://x/hot"}, "firing", active_at=stamp(NOW_MS - 90_000), value="9.1e+01"
        ),
        AlertRow(FULL, {}, "firing", silenced_by=("s1",), fingerprint="f"),
    )


def stamp(at_ms: int) -> str:
    return rfc3339(at_ms)


def over(labels: dict[str, str] = SLOW, *, times: int = 1, reason: str = "") -> Ended:
    alert = Alert(labels["alertname"], "resolved", "warning", NOW_MS - 600_000, "slow", "", labels, "3")
    return Ended(alert, NOW_MS - 300_000, reason, times)


def rule(
    name: str = "GpuTooHot", compared: Sequence[Compared] = (Compared("temp", ">", 85),), for_seconds: float = 0
) -> Rule:
    labels = {"severity": "critical"}
    return Rule(
        "g", "alerts.yaml", 5, name, "temp > 85", compared=tuple(compared), labels=labels, for_seconds=for_seconds
    )


def past_of(value: float) -> History:
    times = array("q", range(NOW_MS - 600_000, NOW_MS, 2000))
    return History(times, array("d", [value] * len(times)), 1, 600_000)


def answers(id: str, *found: tuple[dict[str, str], float]) -> Answers:
    return Answers(NOW_MS, histories={id: [(labels, past_of(value)) for labels, value in found]})


async def opened(app: GpumonApp, pilot: Pilot[None], past: Past) -> str:
    app.take(snapshot(Story(alerts=rows()), seconds=6))
    await press(app, pilot, "4")
    for worker in [one for one in app.workers if one.name == "list"]:
        await worker.wait()
    await settle(app, pilot)
    return "\n".join(text_of(app))


def names(text: str) -> list[str]:
    wanted = ("GpuTooHot", "KvCacheFull", "QueueLong", "Slow")
    words = [line.replace("▌", " ").split() for line in text.splitlines()]
    return [name for line in words if line[:1] in (["critical"], ["warning"]) for name in wanted if name in line]


def test_the_gravest_is_first_and_what_is_over_last() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.over = (over(),)
        text = await opened(app, pilot, past)
        assert names(text) == ["GpuTooHot", "KvCacheFull", "QueueLong", "Slow"]
        assert "1 firing   1 silenced or inhibited   1 pending   1 resolved in the last day" in text
        slow = next(line for line in text.splitlines() if " Slow " in line)
        assert "resolved  5 min      5 min ago" in slow
        assert past.alerting.asked_ended == [None]

    run(look)


def test_v_shows_one_state_after_the_other_and_says_which() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.over = (over(),)
        await opened(app, pilot, past)
        shown = []
        for _ in range(5):
            text = await press(app, pilot, "v")
            shown.append(
                (next(line for line in text.splitlines() if line.startswith("alerts")).split("  ")[0], names(text))
            )
        assert shown == [
            ("alerts, firing only", ["GpuTooHot"]),
            ("alerts, pending only", ["QueueLong"]),
            ("alerts, silenced or inhibited only", ["KvCacheFull"]),
            ("alerts, resolved only", ["Slow"]),
            ("alerts", ["GpuTooHot", "KvCacheFull", "QueueLong", "Slow"]),
        ]

    run(look)


def test_what_fires_again_is_not_over_and_says_how_often_it_did() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.over = (over(HOT | {"instance": "n:9519"}, times=3),)
        text = await opened(app, pilot, past)
        assert names(text) == ["GpuTooHot", "KvCacheFull", "QueueLong"]
        assert "fired 3 times in the day before; it last ended 5 min ago" in text

    run(look)


def test_lost_data_is_no_recovery() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.over = (over(reason="data gone: nvml"),)
        await opened(app, pilot, past)
        assert "not for the better: data gone: nvml" in await press(app, pilot, "G")

    run(look)


def test_the_graph_is_of_the_alerts_own_series_with_its_threshold() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.known_rules = (rule(for_seconds=60.0), rule("Other"))
        past.answers = (answers("value0_h", ({"gpu": "2"}, 40.0), ({"gpu": "3"}, 91.0)),)
        text = await opened(app, pilot, past)
        assert past.watched == [((), None, 600), (("value0_h",), None, 600)]
        assert "temp now 91  fires above 85" in text
        assert "╌╌╌╌" in text
        assert "84–93  last 10 min" in text
        assert "for 1m, group g" in text
        assert "runbook  https://x/hot" in text
        # Of another rule nothing is known here; back at this one its series are watched again.
        text = await press(app, pilot, "down")
        assert "its rule is not there any more" in text
        asked = len(past.watched)
        await press(app, pilot, "up")
        assert past.watched[asked:] == [(("value0_h",), None, 600)]

    run(look)


def test_a_threshold_that_is_a_reading_is_drawn_and_one_rule_is_watched_once() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.known_rules = (rule(compared=[Compared("temp", ">", "limit")]),)
        both = {**answers("value0_h", ({"gpu": "3"}, 91.0)).histories, "threshold0_h": [({"gpu": "3"}, past_of(90.0))]}
        past.answers = (Answers(NOW_MS, histories=both),)
        another = AlertRow(HOT | {"gpu": "4"}, {}, "firing")
        app.take(snapshot(Story(alerts=(rows()[1], another)), seconds=6))
        await press(app, pilot, "4")
        text = await press(app, pilot)
        assert "fires above 90 now" in text
        asked = len(past.watched)
        text = await press(app, pilot, "down")
        assert "no series of it in this range" in text
        assert len(past.watched) == asked, "of the same rule the series are known"

    run(look)


def test_a_prometheus_has_the_whole_expression_and_no_threshold() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.known_rules = (rule(compared=()),)
        past.answers = (answers("whole_h", ({"gpu": "3"}, 91.0)),)
        text = await opened(app, pilot, past)
        assert past.watched[-1][0] == ("whole_h",)
        assert "temp > 85 now 91   of all that the rule says, without its threshold" in text
        assert "fires" not in next(line for line in text.splitlines() if "now 91" in line)

    run(look)


def test_what_is_over_and_rules_that_cannot_be_had_are_told() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.silent = "it evaluates no rules"
        text = await opened(app, pilot, past)
        assert names(text) == ["GpuTooHot", "KvCacheFull", "QueueLong"]
        assert "what is over is not known: it evaluates no rules" in text
        assert "no graph: it evaluates no rules" in text

    run(look)


def test_in_the_past_it_is_what_was_over_then_and_nothing_is_silenced() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.over = (over(),)
        await opened(app, pilot, past)
        await press(app, pilot, "left")
        assert past.alerting.asked_ended[-1] == NOW_MS - 30_000
        assert "a silence begins now" in await press(app, pilot, "s")

    run(look)


def test_80_columns_and_24_lines_have_what_to_do_and_the_graph() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.known_rules = (rule(),)
        past.answers = (answers("value0_h", ({"gpu": "3"}, 91.0)),)
        text = await opened(app, pilot, past)
        assert "See its fans." in text
        assert "╌╌╌╌" in text
        assert all(len(line) <= 80 for line in text.splitlines())
        assert len(text.splitlines()) == 24

    run(look, (80, 24))


def test_on_a_wide_terminal_graphs_stand_beside_the_words() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.known_rules = (rule(compared=[Compared("temp", ">", 85), Compared("busy", "<", 10)]),)
        found = {f"value{n}_h": [({"gpu": "3"}, past_of(91.0))] for n in (0, 1)}
        past.answers = (Answers(NOW_MS, histories=found),)
        text = await opened(app, pilot, past)
        line = next(line for line in text.splitlines() if "fires above 85" in line)
        assert "GpuTooHot" in line
        assert "fires below 10" in text

    run(look, (200, 50))


def test_queries_are_of_the_range_that_is_looked_at() -> None:
    screen = AlertsScreen()
    assert screen.asked(Lens()) == ()
    screen._rule = rule(compared=[Compared("temp", ">", "limit")])
    (value, limit) = screen.asked(Lens(range_seconds=3600, step_seconds=12))
    assert (value.expr, value.range_seconds, value.step_seconds) == ("temp", 3600, 12)
    assert (limit.id, limit.expr) == ("threshold0_h", "limit")


def holds(name: str) -> SilenceRow:
    matchers = (SilenceMatcher("alertname", name),)
    until = stamp(NOW_MS + 3_600_000)
    return SilenceRow("s1", matchers, stamp(NOW_MS), until, "ann", "fan is replaced", SilenceState("active"))


def test_who_silenced_it_and_why_stands_with_it() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.rows = (holds("KvCacheFull"),)
        await opened(app, pilot, past)
        text = await press(app, pilot, "down")
        assert "silenced: nobody is told" in text
        assert "by ann: fan is replaced" in text

    run(look)


def test_what_the_alertmanager_of_a_prometheus_holds_is_silenced() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.rows = (holds("GpuTooHot"),)
        text = await opened(app, pilot, past)
        assert "critical  firing" in text, "a daemon says itself what is silenced"
        shown = snapshot(Story(alerts=rows()), seconds=6)
        app.take(replace(shown, node=replace(shown.node, mode="prometheus")))
        text = await press(app, pilot)
        assert "critical  silenced" in text
        assert "0 firing   2 silenced" in text

    run(look)


def test_a_click_on_its_graph_goes_to_that_moment() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.known_rules = (rule(),)
        past.answers = (answers("value0_h", ({"gpu": "3"}, 91.0)),)
        text = await opened(app, pilot, past)
        lines = text.splitlines()
        y = next(n for n, line in enumerate(lines) if "╌╌╌╌" in line)
        await pilot.click(offset=(60, y))
        await press(app, pilot)
        ((at_ms, _),) = past.asked
        assert at_ms is not None
        assert NOW_MS - 330_000 < at_ms < NOW_MS - 270_000, "in the middle of ten minutes"

    run(look)


def test_it_opens_at_the_alert_that_is_asked_for_and_silences_that() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(snapshot(Story(alerts=rows()), seconds=6))
        app.open("alerts", under="q")
        text = await press(app, pilot)
        assert next(line for line in text.splitlines() if line.startswith("▌")).split()[-3] == "QueueLong"
        app.silence("f")
        assert "alertname       =  KvCacheFull" in await press(app, pilot)

    run(look)


def test_an_alert_that_ends_keeps_the_cursor() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, past)
        app.take(snapshot(Story(alerts=rows()[:1]), seconds=7))
        assert "▌  warning   pending" in await press(app, pilot)
        past.alerting.over = (over(HOT),)
        app._monotonic.now += 6  # type: ignore[attr-defined]
        app._age()
        text = await press(app, pilot)
        assert names(text) == ["QueueLong", "GpuTooHot"]
        assert "▌  warning   resolved" in text
        # Who moved meanwhile stays where he is.
        await press(app, pilot, "up")
        app.take(snapshot(Story(alerts=rows()[:1]), seconds=8))
        assert "▌  warning   pending" in await press(app, pilot)

    run(look)


def test_what_a_key_said_is_no_news_for_ever() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(snapshot(Story(), seconds=6))
        said = "there is no alert here that a runbook could be of"
        assert said in await press(app, pilot, "4", "r")
        app._monotonic.now += 29  # type: ignore[attr-defined]
        app._age()
        assert said in await press(app, pilot), "it can still be read"
        app._monotonic.now += 2  # type: ignore[attr-defined]
        app._age()
        assert said not in await press(app, pilot)
        assert said in await press(app, pilot, "r"), "and said again where it is asked for again"

    run(look)
