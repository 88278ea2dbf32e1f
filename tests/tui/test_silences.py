"""The silences: the editor, what it refuses before anything is sent, the list, and ending one."""

from __future__ import annotations

from textual.pilot import Pilot

from monitor.client.alertmanager import SilenceMatcher, SilenceRow, SilenceState
from monitor.client.silences import LabelMatcher, rfc3339
from monitor.client.wire import AlertRow
from monitor.tui.app import GpumonApp
from monitor.tui.screens.silence_window import SilenceWindow
from tests.client.story import START_MS, Story, snapshot
from tests.tui.screen import text_of
from tests.tui.test_lists import press
from tests.tui.test_travel import Past, run

HOT = {"alertname": "GpuTooHot", "severity": "critical", "gpu": "3"}
NOW_MS = START_MS + 6_000
HOUR = 3_600_000


def row(ident: str, state: str, begins: int, ends: int, *matchers: SilenceMatcher) -> SilenceRow:
    given = matchers or (SilenceMatcher("alertname", "GpuTooHot"),)
    return SilenceRow(ident, given, rfc3339(begins), rfc3339(ends), "ann", "fan is replaced", SilenceState(state))


async def opened(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    alerts = (
        AlertRow(HOT, {}, "firing"),
        AlertRow(HOT | {"gpu": "4"}, {}, "pending"),
        AlertRow({"alertname": "B"}, {}, "firing"),
    )
    app.take(snapshot(Story(alerts=alerts), seconds=6))
    return await press(app, pilot, "4", *keys)


async def sent(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    await pilot.press(*keys)
    for worker in [one for one in app.workers if one.name == "silence"]:
        await worker.wait()
    return await press(app, pilot)


def lines(text: str) -> list[str]:
    return [line.strip().strip("│").strip() for line in text.splitlines() if "│" in line]


def test_an_alert_is_silenced_with_how_long_and_why() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await opened(app, pilot, "s")
        assert [line for line in lines(text) if line.startswith("[x]")] == [
            "[x] alertname       =  GpuTooHot",
            "[x] gpu             =  3",
            "[x] severity        =  critical",
        ]
        assert "holds 1 of 3 alerts: GpuTooHot" in text
        assert "not yet: say why" in text
        # Nothing is sent until it is right.
        text = await sent(app, pilot, "enter")
        assert past.alerting.drafts == []
        assert "say why, so that others know" in text
        text = await sent(app, pilot, *"fan q", "up", "ctrl+u", *"90x", "enter")
        assert "“90x” is no duration: write 30m, 2h or 1d12h" in text
        assert past.alerting.drafts == []
        text = await sent(app, pilot, "backspace", "m", "enter")
        (draft,) = past.alerting.drafts
        assert draft.lasting_ms == 90 * 60_000
        assert draft.comment == "fan q"
        assert set(draft.matchers) == {LabelMatcher(name, "=", value) for name, value in HOT.items()}
        assert "silenced until 18:00" in text
        assert not isinstance(app.screen, SilenceWindow)
        assert not app._exit

    run(look)


def test_matchers_are_turned_off_and_turned_and_typed() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await opened(app, pilot, "s", *["up"] * 4, "space")
        assert "[ ] gpu" in text, "of both GPUs"
        assert "holds 2 of 3 alerts: GpuTooHot ×2" in text
        text = await press(app, pilot, "up", "tab", "space", "space", "tab", "ctrl+u", *"Gpu.*|B")
        assert "[x] alertname       =~ Gpu.*|B" in text
        text = await press(app, pilot, "down", "down", "space")
        assert "holds 3 of 3 alerts: GpuTooHot ×2, B" in text
        text = await press(app, pilot, "up", "up", "tab", "tab", "end", "(")
        assert "missing closing )" in text
        assert "cannot be told" in text
        assert past.alerting.drafts == []

    run(look)


def test_a_matcher_is_added_with_its_mistakes_told() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, "s", "up", "up")
        assert "is no matcher" in await press(app, pilot, *"gpu", "enter")
        assert "missing closing )" in await press(app, pilot, *'=~"(3"', "enter")
        text = await press(app, pilot, "ctrl+u", *"rack=a")
        assert "a matcher was typed and not added" in text
        text = await press(app, pilot, "enter")
        assert "[x] rack            =  a" in text
        assert "holds none of the 3 alerts that there are" in text
        text = await press(app, pilot, "up", "delete")
        assert "rack" not in text

    run(look)


def test_what_would_silence_everything_is_refused() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, "s", *"why")
        text = await sent(app, pilot, "up", "up", *["up", "space"] * 3, "enter")
        assert "no matcher is on: it would silence everything" in text
        text = await sent(app, pilot, "down", "down", "down", *"rack!=a", "enter", "down", "enter")
        assert "it would silence everything: one matcher at least" in text
        assert past.alerting.drafts == []

    run(look)


def test_a_refusal_stays_with_what_was_written_and_says_what_to_do() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.error = "TCP is read-only here"
        await opened(app, pilot, "s")
        text = await sent(app, pilot, *"why", "enter")
        assert "not silenced: TCP is read-only here. Use the unix socket" in text
        past.alerting.error = ""
        assert "silenced until" in await sent(app, pilot, "enter")
        assert len(past.alerting.drafts) == 1

    run(look)


def test_escape_sends_nothing_and_letters_are_no_keys() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, "s", *"q1 p")
        text = await press(app, pilot, "escape")
        assert "alerts  3" in text
        assert past.alerting.drafts == []
        assert not app._exit

    run(look)


def test_who_may_only_look_silences_nothing() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.readonly = True
        assert "started with --readonly" in await opened(app, pilot, "s")
        past.alerting.rows = (row("a", "active", NOW_MS - HOUR, NOW_MS + HOUR),)
        await press(app, pilot, "S")
        for key in ("enter", "n", "x"):
            assert "started with --readonly" in await press(app, pilot, key)
            assert not isinstance(app.screen, SilenceWindow)

    run(look)


def test_the_list_has_those_that_hold_first_with_what_they_hold() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.rows = (
            row("over0000", "expired", NOW_MS - 3 * HOUR, NOW_MS - 2 * HOUR),
            row("later000", "pending", NOW_MS + HOUR, NOW_MS + 2 * HOUR),
            row("long0000", "active", NOW_MS - HOUR, NOW_MS + 9 * HOUR, SilenceMatcher("gpu", "3|4", is_regex=True)),
            row("soon0000", "active", NOW_MS - HOUR, NOW_MS + HOUR, SilenceMatcher("severity", "", is_equal=False)),
        )
        await opened(app, pilot)
        text = await press(app, pilot, "S")
        assert "silences  4" in text
        found = [
            line.replace("▌", " ").split() for line in text.splitlines() if "fan is replaced" in line and "ann" in line
        ]
        assert [one[0] for one in found] == ["active", "active", "pending", "expired"]
        assert 'severity!=""' in found[0]
        assert "begins in 60 min" in text
        assert "2 h ago" in text
        assert "holds    GpuTooHot; GpuTooHot" in text
        assert "alerts  3" in await press(app, pilot, "escape")

    run(look)


def test_one_is_ended_after_it_was_asked() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.rows = (row("abcdefgh-1", "active", NOW_MS - HOUR, NOW_MS + HOUR),)
        await opened(app, pilot)
        text = await press(app, pilot, "S", "x")
        assert "end this silence?" in text
        await press(app, pilot, "escape")
        assert past.alerting.expired == []
        past.alerting.error = "TCP is read-only here"
        assert "not ended: TCP is read-only here" in await sent(app, pilot, "x", "enter")
        past.alerting.error = ""
        assert "silence abcdefgh ended" in await sent(app, pilot, "enter")
        assert past.alerting.expired == ["abcdefgh-1"]

    run(look)


def test_one_is_extended_and_one_that_is_over_is_made_anew() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        active = row("a", "active", NOW_MS - HOUR, NOW_MS + 90 * 60_000)
        past.alerting.rows = (active, row("o", "expired", NOW_MS - 3 * HOUR, NOW_MS - 2 * HOUR))
        await opened(app, pilot)
        text = await press(app, pilot, "S", "enter")
        assert "for       1h30m" in text
        await sent(app, pilot, "ctrl+u", *"5h", "enter")
        await press(app, pilot, "G", "m")
        await sent(app, pilot, "enter")
        first, second = past.alerting.drafts
        assert (first.id, first.starts_at, first.lasting) == ("a", active.starts_at, "5h")
        assert (second.id, second.starts_at, second.comment) == ("", "", "fan is replaced")

    run(look)


def test_a_new_one_begins_with_its_matchers() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot)
        text = await press(app, pilot, "S")
        assert "no silence; n begins one" in text
        await sent(app, pilot, "n", *"alertname=B", "enter", "down", "down", *"why", "enter")
        (draft,) = past.alerting.drafts
        assert draft.matchers == (LabelMatcher("alertname", "=", "B"),)

    run(look)


def test_where_there_are_none_says_why_and_the_past_says_that_they_are_of_now() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.silent = "this server keeps no silences"
        await opened(app, pilot)
        assert "silences cannot be read: this server keeps no silences" in await press(app, pilot, "S")
        past.alerting.silent = ""
        past.alerting.rows = (row("a", "active", NOW_MS - HOUR, NOW_MS + HOUR),)
        text = await press(app, pilot, "left")
        assert "silences are those of now" in text
        assert "\n".join(text_of(app)).count("fan is replaced") >= 1

    run(look)


def test_80_columns_and_24_lines_are_enough_for_many_labels() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        labels = {f"label{n:02}": "v" * 90 for n in range(20)}
        app.take(snapshot(Story(alerts=(AlertRow({"alertname": "A", **labels}, {}, "firing"),)), seconds=6))
        text = await press(app, pilot, "4", "s")
        assert "holds 1 of 1 alert: A" in text
        assert all(len(line) <= 80 for line in text.splitlines())
        assert len(text.splitlines()) <= 24
        text = await press(app, pilot, "up", "up", "up")
        assert "▌ [x] label19" in text

    run(look, (80, 24))
