"""The runbook of an alert, on a screen: found from the alert, read to its end, commands copied, links followed."""

from __future__ import annotations

from textual.pilot import Pilot

from monitor import runbooks
from monitor.client.wire import AlertRow
from monitor.tui.app import GpumonApp
from monitor.tui.rows import View
from monitor.tui.screens.runbook import RunbookScreen
from tests.client.story import Story, snapshot
from tests.tui.alerting import FakeAlerting
from tests.tui.test_lists import press
from tests.tui.test_rules_screen import RULES
from tests.tui.test_travel import Past, run

HOT = AlertRow({"alertname": "GpuTooHot", "severity": "critical", "gpu": "3"}, {"summary": "too hot"}, "firing")
OWN = AlertRow(
    {"alertname": "GpuTooHoot", "severity": "critical"},
    {"summary": "mine", "runbook_url": "https://wiki/hoot"},
    "firing",
)


async def opened(app: GpumonApp, pilot: Pilot[None], *alerts: AlertRow) -> str:
    app.take(snapshot(Story(alerts=alerts), seconds=6))
    await press(app, pilot, "4")
    return await press(app, pilot, "r")


async def to_the_end(app: GpumonApp, pilot: Pilot[None]) -> str:
    """All that is on the screen, page by page."""
    said = []
    for _ in range(12):
        said.append("\n".join((await press(app, pilot)).splitlines()[1:-1]))
        await press(app, pilot, "pagedown")
    return "\n".join(said)


def test_r_opens_the_runbook_of_the_alert_and_esc_leads_back() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(snapshot(Story(alerts=(HOT,)), seconds=6))
        text = await press(app, pilot, "4")
        assert "r runbook" in text.splitlines()[-1], "the last line names the key"
        assert "r opens it here" in text
        text = await press(app, pilot, "r")
        assert "runbook  GpuTooHot" in text
        assert "critical at once" in text
        assert "What users feel" in text
        assert "esc back" in text.splitlines()[-1]
        assert "what to do about this alert" not in text
        await press(app, pilot, "escape")
        assert app.page.NAME == "alerts"

    run(look, (80, 24))


def test_all_of_it_can_be_read_and_no_line_is_cut() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, HOT)
        shown = " ".join((await to_the_end(app, pilot)).split())
        for block in runbooks.blocks(runbooks.text_of("GpuTooHot") or "")[1:]:
            for line in block.lines or (block.text,):
                for word in line.split():
                    assert word in shown, line
        assert "…" not in shown

    run(look, (80, 24))


def test_a_command_is_chosen_and_copied_without_its_remark() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        copied: list[str] = []
        app.copy = copied.append  # type: ignore[assignment, method-assign]
        text = await opened(app, pilot, HOT)
        await press(app, pilot, "y")
        assert copied == []
        commands = next(one.lines for one in runbooks.blocks(runbooks.text_of("GpuTooHot") or "") if one.lines)
        with_remark = next(number for number, line in enumerate(commands) if "  #" in line)
        await press(app, pilot, *["tab"] * (with_remark + 1))
        text = await press(app, pilot, "y")
        assert copied == [commands[with_remark].split("  #")[0].rstrip()]
        assert "copied gpumon query" in text
        text = await press(app, pilot, "escape")
        assert "runbook  GpuTooHot" in text, "the first escape lets go of what is chosen"

    run(look, (120, 40))


def test_a_link_opens_another_runbook_and_escape_leads_back_step_by_step() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, HOT)
        page = app.page
        assert isinstance(page, RunbookScreen)
        for _ in range(40):
            if page.selected == "to GpuHot":
                break
            await press(app, pilot, "tab")
        text = await press(app, pilot, "enter")
        assert "runbook  GpuHot" in text
        text = await press(app, pilot, "escape")
        assert "runbook  GpuTooHot" in text
        await press(app, pilot, "escape")
        assert app.page.NAME == "alerts"

    run(look, (80, 24))


def test_of_an_alert_of_ones_own_it_says_where_its_rule_says_it_is() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = " ".join((await opened(app, pilot, OWN)).split())
        assert "GpuTooHoot is no alert that gpumon ships" in text
        assert "https://wiki/hoot" in text
        assert "the most similar name is GpuTooHot" in text
        copied: list[str] = []
        app.copy = copied.append  # type: ignore[assignment, method-assign]
        await press(app, pilot, "tab", "y")
        assert copied == ["https://wiki/hoot"]
        text = await press(app, pilot, "tab", "enter")
        assert "runbook  GpuTooHot" in text

    run(look, (80, 24))


def test_without_an_alert_it_says_so() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await opened(app, pilot)
        assert "there is no alert here" in text

    run(look, (80, 24))


def test_from_a_rule_and_by_name() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting = FakeAlerting()
        past.alerting.known_rules = RULES
        app.take(snapshot(Story(alerts=(HOT,)), seconds=6))
        await press(app, pilot, "4", "R")
        await press(app, pilot)
        await press(app, pilot, "G")
        text = await press(app, pilot, "r")
        assert "runbook  Watchdog" in text
        await press(app, pilot, "escape")
        assert app.page.NAME == "rules"
        text = await press(app, pilot, "1", ":", *"runbookhot", "enter")
        assert "runbook  GpuTooHot" in text
        text = await press(app, pilot, ":", *"runbookhot", "enter")
        assert "runbook  GpuTooHot" in text
        text = await press(app, pilot, "escape")
        assert "runbook  GpuTooHot" not in text, "opened from itself, it leads to where it was opened first"

    run(look, (100, 30))


def test_the_help_names_its_keys() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, HOT)
        text = await press(app, pilot, "?")
        assert "Keys of this screen: runbook" in text
        assert "copy a command" in text
        await press(app, pilot, "escape")
        await press(app, pilot, "escape")
        text = await press(app, pilot, "?")
        assert "runbook" in next(line for line in text.splitlines() if line.strip(" │").startswith("r "))

    run(look, (100, 44))


def test_every_page_fits_every_width_and_loses_no_word() -> None:
    for width in (60, 80, 120):
        for name in runbooks.names():
            page = RunbookScreen()
            page.about(name=name)
            rows = page.body(View(), width, 20)
            assert max(row.width for row in rows) <= width, name
            shown = "".join(text for row in rows for text, _ in row.line()).replace(" ", "")
            for block in runbooks.blocks(runbooks.text_of(name) or "")[1:]:
                for line in block.lines or (block.text,):
                    assert line.replace(" ", "") in shown, (name, width)
