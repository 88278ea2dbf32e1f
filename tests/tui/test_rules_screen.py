"""The rules: what fails and what fires first, what never matched, and the expression as it was written."""

from __future__ import annotations

from textual.pilot import Pilot

from monitor.client.rules import Rule
from monitor.tui.app import GpumonApp
from tests.client.story import START_MS, snapshot
from tests.tui.test_lists import press
from tests.tui.test_travel import Past, run

NOW_MS = START_MS + 6_000
EXPR = "a > 5\n  and on (gpu) (\n    b == 0\n  )\n"
RULES = (
    Rule(
        "g1",
        "alerts.yaml",
        5,
        "instance:a:sum",
        "sum(a)",
        records=True,
        health="ok",
        evaluated_ms=NOW_MS - 3_000,
        took_seconds=0.00004,
    ),
    Rule("g1", "alerts.yaml", 5, "Idle", "c > 1", state="inactive", health="ok", never_matched=True),
    Rule(
        "g1",
        "alerts.yaml",
        5,
        "Hot",
        EXPR,
        state="firing",
        health="ok",
        evaluated_ms=NOW_MS - 3_000,
        took_seconds=0.0012,
        for_seconds=90,
        keep_seconds=300,
        labels={"severity": "critical"},
        annotations={"summary": "GPU {{ $labels.gpu }} is hot", "action": "See its fans."},
        firing=2,
        pending=1,
        never_matched=False,
    ),
    Rule("g2", "more.yaml", 60, "Broken", "a / b", state="inactive", health="err", error="many-to-many matching"),
    Rule("g2", "more.yaml", 60, "Watchdog", "vector(1)", state="firing", health="ok", labels={"severity": "none"}),
)


async def opened(app: GpumonApp, pilot: Pilot[None], past: Past) -> str:
    past.alerting.known_rules = RULES
    app.take(snapshot(seconds=6))
    await press(app, pilot, "4")
    await press(app, pilot, "R")
    return await press(app, pilot)


def test_what_fails_is_first_then_what_fires_and_each_says_how_it_is() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await opened(app, pilot, past)
        assert "rules  5" in text
        assert "1 fails   2 fire   0 are pending   1 never matched any series" in text
        found = {
            word[0]: line
            for line in text.splitlines()
            if len(word := line.replace("▌", " ").split()) > 4 and word[0] in [one.name for one in RULES]
        }
        assert list(found) == ["Broken", "Hot", "instance:a:sum", "Idle", "Watchdog"]
        assert found["Hot"].replace("▌", " ").split()[1:11] == [
            *("alerting", "firing", "ok", "1m30s", "3"),
            *("3", "s", "ago", "1.2", "ms"),
        ]
        assert "GPU … is hot" in found["Hot"]
        assert "0.04 ms" in found["instance:a:sum"]
        assert "recording –" in found["instance:a:sum"]
        assert "fails" in found["Broken"]
        assert "many-to-many matching" in found["Broken"]
        assert "never matched any series" in found["Idle"]
        assert "fails    many-to-many matching" in text, "and the one under the cursor in full"

    run(look, (160, 44))


def test_the_expression_stands_as_it_was_written_and_is_copied_in_a_line() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, past)
        text = await press(app, pilot, "down")
        lines = [line.rstrip() for line in text.splitlines()]
        at = lines.index("  expr     a > 5")
        assert lines[at + 1 : at + 4] == [" " * 13 + "and on (gpu) (", " " * 15 + "b == 0", " " * 13 + ")"]
        assert "fires    after 1m30s, kept up for 5m" in text
        assert "do       See its fans." in text
        assert "group g1, every 5s, alerts.yaml" in text
        await press(app, pilot, "y")
        assert app.clipboard == "a > 5 and on (gpu) ( b == 0 )"

    run(look)


def test_v_shows_those_of_one_state() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, past)
        shown = []
        for _ in range(4):
            text = await press(app, pilot, "v")
            shown.append((next(line for line in text.splitlines() if line.startswith("rules")).split("  ")[0], text))
        assert [words for words, _ in shown] == [
            f"rules, {s} only" for s in ("fails", "firing", "pending", "never matched")
        ]
        assert "rules, firing only  2" in shown[1][1]
        assert "no rule is pending" in shown[2][1]
        assert "Idle" in shown[3][1]
        assert "rules  5" in await press(app, pilot, "v")

    run(look)


def test_it_opens_at_the_rule_of_the_alert_and_escape_leads_back() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await opened(app, pilot, past)
        app.open("rules", rule=RULES[1].key)
        text = await press(app, pilot)
        assert any(line.startswith("▌  Idle") for line in text.splitlines())
        assert "As things are it cannot fire" in text

    run(look)


def test_rules_are_of_now_and_a_server_without_them_says_so() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.silent = "it evaluates no rules"
        app.take(snapshot(seconds=6))
        await press(app, pilot, "4")
        assert "rules cannot be read: it evaluates no rules" in await press(app, pilot, "R")
        past.alerting.silent = ""
        past.alerting.known_rules = RULES
        text = await press(app, pilot, "left")
        assert "rules are those of now, not of the moment that is looked at" in text
        assert "Broken" in await press(app, pilot)

    run(look)


def test_80_columns_and_24_lines_have_name_state_and_remark() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await opened(app, pilot, past)
        assert all(len(line) <= 80 for line in text.splitlines())
        line = next(line for line in text.splitlines() if "Idle" in line)
        assert "inactive" in line
        assert "never matched" in line

    run(look, (80, 24))
