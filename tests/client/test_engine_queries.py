"""The queries of the vLLM screens, asked of a real server's recorded readings."""

from __future__ import annotations

import pytest

from monitor.client import engine_queries
from monitor.client.distribution import of
from monitor.client.results import Lens
from monitor.client.wire import Query
from monitor.promql.plan import plan
from tests.client.engine_story import AT_MS, LENS, ask, store
from tests.client.story import INSTANCE, SERVER
from tests.promql.store import load

SELECTOR = engine_queries.selector_of(INSTANCE, SERVER)
SHEET = engine_queries.sheet(SELECTOR, INSTANCE, LENS)
QUIET = {"speculation", "positions", "speculation_h"}
"""What the recorded server has none of."""


def test_what_selects_a_server() -> None:
    assert SELECTOR == '{server="h200-07:8000",instance="h200-07:9519"}'
    assert engine_queries.selector_of("", SERVER) == '{server="h200-07:8000"}'
    assert engine_queries.selector_of("n1:8000", "n1:8000") == '{instance="n1:8000"}', "scraped by a Prometheus itself"
    assert engine_queries.selector_of("", 'a"b') == '{server="a\\"b"}'


def test_every_query_has_an_answer_from_a_real_server() -> None:
    answers = ask(store(), SHEET)
    answered = {id for id, rows in answers.instants.items() if rows}
    answered |= {id for id, series in answers.histories.items() if any(one.newest is not None for _, one in series)}
    assert {one.id for one in SHEET} - answered == QUIET
    assert len({one.id for one in SHEET}) == len(SHEET)


def test_what_a_prometheus_scraped_itself_is_answered_as_well() -> None:
    head = store(server="")
    selector = engine_queries.selector_of(INSTANCE, INSTANCE)
    answers = ask(head, engine_queries.sheet(selector, INSTANCE, LENS))
    of_daemons = {"targets", "members", "profile", "gpu_power", "profile_h", "power_h"}
    empty = {id for id, rows in answers.instants.items() if not rows}
    empty |= {id for id, rows in answers.histories.items() if not rows}
    assert empty == QUIET | of_daemons


def test_the_numbers_are_those_of_the_recordings() -> None:
    answers = ask(store(), SHEET)
    for id in ("ttft", "itl", "prompt_length"):
        found = of(answers.rows(id))
        assert found is not None
        assert found.mean is not None
    asked = {labels["reason"]: value for labels, _, value in answers.rows("facts") if "reason" in labels}
    assert asked == {"capacity": 9, "deferred": 0}
    load_now = {labels["q"]: one.newest for labels, one in answers.histories["load_h"]}
    assert load_now == {"running": 7, "waiting": 9}
    assert answers.value("profile", __name__="DCGM_FI_PROF_DRAM_ACTIVE") == 0.62
    assert answers.history("profile_h", q="DRAM") is not None
    assert answers.value("facts", __name__="vllm:cache_config_info") == 1


def test_another_servers_readings_are_not_among_them() -> None:
    other = engine_queries.sheet(engine_queries.selector_of(INSTANCE, "h200-07:8001"), INSTANCE, LENS)
    answers = ask(store(), other)
    known = {id for id, rows in answers.instants.items() if rows}
    assert known == {"targets"} | {one.id for one in engine_queries.listing(LENS)}
    assert not any(answers.histories.values())


def test_the_older_names_of_a_server_that_a_prometheus_scrapes() -> None:
    counted: list[float | None] = [0.0, 5.0, 9.0]
    head = load(20_000, **{f"vllm:time_per_output_token_seconds_bucket__le_{le}": counted for le in ("0.01", "+Inf")})
    one = next(one for one in engine_queries.LATENCIES if one.id == "itl")
    rows = ask(head, [Query("x", engine_queries.distribution(one, "", "1m"))], AT_MS).rows("x")
    assert {labels["le"] for labels, _, _ in rows} == {"0.01", "+Inf"}


@pytest.mark.parametrize("daemon", [True, False])
def test_no_rate_looks_back_over_less_than_is_scraped(daemon: bool) -> None:
    lens = LENS if daemon else Lens("120s", "120s", 600, 15, False)
    for one in engine_queries.sheet(SELECTOR, INSTANCE, lens):
        assert plan(one.expr).reach_ms in (300_000, 30_000, 60_000, 120_000, 3_600_000), one.id
        if not daemon:
            assert "[30s]" not in one.expr
            assert "[1m]" not in one.expr
