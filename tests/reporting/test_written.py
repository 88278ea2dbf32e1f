"""What a report looks like: the same in each form, with nothing in it that is markup but ours."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from monitor.reporting.asked import Asked
from monitor.reporting.html import html, time_ticks
from monitor.reporting.letter import MOST_LINES
from monitor.reporting.lines import graphs
from monitor.reporting.make import report
from monitor.reporting.markdown import markdown
from monitor.reporting.schema import DiskRow, Period, Report
from monitor.reporting.tables import full
from monitor.reporting.words import change, covered, energy, money, points
from monitor.reporting.writing import letter
from tests.reporting.made import empty, made
from tests.reporting.story import PERIOD, answers, line

HOUR_MS = 3_600_000


def test_markdown_has_the_numbers_the_gap_and_the_incident() -> None:
    text = markdown(made())
    assert text.startswith("# morning: n1, 10 min\n")
    assert "No readings for 3 min" in text
    assert "70.0 % of the period is covered" in text
    assert re.search(r"\| generated tokens +\| +3,000 \| +2,000 \| +\+50 % \|", text)
    assert re.search(r"\| energy of the GPUs +\| +500 Wh ", text)
    assert re.search(r"\| cost of the GPUs' energy +\| +0.15 EUR ", text)
    assert "60 s before: XID 79" in text
    assert "2 × XID 79 of GPU 0" in text
    assert "≤100 ms, 750 ms, 950 ms" in text


def test_nothing_from_a_server_is_markup() -> None:
    text = markdown(made())
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\x1b" not in text
    for page in (html(made()), html(made(), mail=True)):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "\x1b" not in page


class Page(HTMLParser):
    """What a page loads, and whether what it opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.loads += [value or "" for name, value in attributes if name in ("src", "href", "style")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside() -> None:
    text = html(made())
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(" not in text
    assert text.count("<svg") == 1


def test_a_graph_has_a_gap_where_there_are_no_readings() -> None:
    drawing = re.search(r'<path class="line c0" d="([^"]*)"/><path class="line c0" d="([^"]*)"/>', html(made()))
    assert drawing is not None
    assert [part.count("L") for part in drawing.groups()] == [2, 1]  # of three points, and of two


def test_a_rate_of_a_step_that_was_read_in_part_is_not_drawn() -> None:
    # Four steps of two minutes; in the second only one of the two was read, and in the third none.
    known = answers(
        ranges={
            "cover_servers": [line({}, 3, 4, 5, 9, 10)],
            "generation_h": [line({}, 4, 6, 10, value=50)],
        }
    )
    known.steps["graphs"] = 120
    (graph,) = graphs(known, PERIOD)
    assert [value for _, value in graph.lines["generated"]] == [None, 50, None, None, 50]


def test_a_mail_has_places_for_its_pictures_and_no_policy_against_them() -> None:
    found = letter(made())
    assert "<!--graph 0-->" in found.html
    assert "Content-Security-Policy" not in found.html
    assert "<svg" not in found.html
    (picture,) = found.pictures
    assert picture.title == "GPU utilization, mean of all (%)"
    assert [value for _, value in picture.points] == [80.0] * 5


def test_a_chat_gets_few_lines() -> None:
    found = letter(made(remarks=("This report is 2 h late: gpumon did not run when it was due.",)))
    text = "\n".join(found.lines)
    assert len(found.lines) <= MOST_LINES
    assert found.title == "gpumon report: morning: n1, 10 min"
    assert "This report is 2 h late" in text
    assert "No readings for 3 min" in text
    assert "Tokens: 3k generated (+50 %), 9k of prompts; 100 requests, 0 failed" in text
    assert "Cost: 0.15 EUR, 50.00 EUR a million generated tokens" in text
    assert "Incidents: 1" in text
    assert found.severity == "warning"


def test_a_period_without_readings_says_so_and_has_no_numbers() -> None:
    for text in (markdown(empty()), html(empty()), "\n".join(letter(empty()).lines)):
        assert "There are no readings in this period" in text
        assert "utilization" not in text
        assert "Incidents: none" not in text
    assert not letter(empty()).has_data


def test_queries_that_failed_are_no_time_without_readings() -> None:
    found = report(Asked(PERIOD, zone="UTC"), answers(problems={"cover_gpus": "too many samples"}))
    for text in (markdown(found), html(found), "\n".join(letter(found).lines)):
        assert "There are no readings" not in text
        assert "Nothing is known of this period" in text
        assert "too many samples" in text


def test_json_reads_back_as_the_same() -> None:
    report = made()
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


@pytest.mark.parametrize(
    ("hours", "zone", "labels"),
    [
        (1, "UTC", ("13:20", "13:30", "13:40", "13:50", "14:00", "14:10")),
        (24, "UTC", ("18:00", "Mon 21", "06:00", "12:00")),
        (24, "Asia/Kolkata", ("Mon 21", "06:00", "12:00", "18:00")),
        (168, "UTC", ("Tue 15", "Wed 16", "Thu 17", "Fri 18", "Sat 19", "Sun 20", "Mon 21")),
    ],
)
def test_times_below_a_graph_are_round_where_the_reader_is(hours: int, zone: str, labels: tuple[str, ...]) -> None:
    period = Period(PERIOD.end_ms - hours * HOUR_MS, PERIOD.end_ms)
    ticks, found = time_ticks(period, zone)
    assert found == labels
    assert len(ticks) == len(found)
    assert all(period.start_ms <= at <= period.end_ms for at in ticks)


def test_words() -> None:
    assert [change(110, 100), change(99.8, 100), change(300, 100), change(1, 0), change(0, 0), change(None, 1)] == [
        "+10 %", "±0 %", "×3", "from none", "", "",
    ]  # fmt: skip
    assert [points(0.83, 0.80), points(0.5, 0.51), points(0.5, 0.5)] == ["+3 points", "-1 point", "±0"]
    assert [covered(1.0), covered(0.9999), covered(0.5), covered(None)] == ["100 %", "99.9 %", "50.0 %", "–"]
    assert [energy(74.85), energy(0.32), energy(1234.5)] == ["74.8 kWh", "320 Wh", "1.23 MWh"]
    assert [money(22.454, "EUR"), money(0.0418, ""), money(0.0, "€")] == ["22.45 EUR", "0.0418", "0.00 €"]


def test_no_disk_is_promised_a_date_that_nobody_knows() -> None:
    def said(verdict: str, **more: float) -> str:
        return full(msgspec.convert({"node": "n", "mountpoint": "/", "verdict": verdict, **more}, DiskRow))

    assert said("filling", days=12.2, days_low=9.0, days_high=17.0) == "about 12 d (9.0 to 17)"
    assert said("not soon") == "not within 90 days"
    assert said("unknown", known_hours=2.5) == "2.5 h are too little to tell"
