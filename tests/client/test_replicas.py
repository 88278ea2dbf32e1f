"""Which replica of a model is slow beside the others."""

from __future__ import annotations

from monitor.client.replicas import replicas, together
from monitor.client.results import Answers, Row


def answers(*engines: dict[str, object]) -> Answers:
    """Each with ``server``, ``engine``, ``model``, and ``itl``, ``ttft``, ``running``, ``generation``, ``busy``."""
    found: dict[str, list[Row]] = {}
    for one in engines:
        labels = {
            "instance": "n1:9519",
            "server": str(one.get("server", "n1:8000")),
            "engine": str(one.get("engine", "0")),
            "model_name": str(one.get("model", "m")),
        }

        def number(name: str, default: float, one: dict[str, object] = one) -> float:
            value = one.get(name, default)
            assert isinstance(value, int | float)
            return value

        def add(id: str, value: float, labels: dict[str, str] = labels, **more: str) -> None:
            found.setdefault(id, []).append(({**labels, **more}, 0.0, value))

        add("engine_gauges", number("running", 10), __name__="vllm:num_requests_running")
        add("engine_gauges", number("waiting", 0), __name__="vllm:num_requests_waiting")
        add("engine_gauges", 0.4, __name__="vllm:kv_cache_usage_perc")
        add("engine_generation", number("generation", 500))
        add("engine_busy", number("running", 10))
        busy = number("busy", 1)
        add("engine_itl_count", 500 * busy)
        add("engine_itl_sum", 500 * busy * number("itl", 0.02))
        add("engine_ttft_count", 2 * busy)
        add("engine_ttft_sum", 2 * busy * number("ttft", 0.2))
    return Answers(0, found)


def slow(told: Answers) -> dict[str, str]:
    return {one.engine: one.slow for one in replicas(told) if one.slow}


def test_one_engine_that_is_clearly_slower_is_named_with_how_much() -> None:
    every: list[dict[str, object]] = [{"engine": str(n)} for n in range(4)]
    assert slow(answers(*every)) == {}
    assert slow(answers(*every[:3], {"engine": "3", "itl": 0.042})) == {"3": "slow: ITL 2.1× the others'"}
    assert slow(answers(*every[:3], {"engine": "3", "ttft": 0.5})) == {"3": "slow: TTFT 2.5× the others'"}
    assert slow(answers(*every[:3], {"engine": "3", "generation": 200})) == {
        "3": "slow: tok/s a request 0.4× the others'"
    }
    assert slow(answers(*every[:3], {"engine": "3", "itl": 0.029})) == {}, "a half as slow again is not clear"


def test_few_requests_tell_nothing() -> None:
    fast: list[dict[str, object]] = [{"engine": str(n)} for n in range(2)]
    assert slow(answers(*fast, {"engine": "2", "itl": 1.0, "ttft": 9.0, "busy": 0.001, "running": 0})) == {}
    assert slow(answers({"engine": "0", "busy": 0.001}, {"engine": "1", "itl": 1.0})) == {}, "nor does a quiet peer"


def test_other_models_are_no_peers() -> None:
    assert slow(answers({"engine": "0"}, {"engine": "1", "model": "larger", "itl": 0.9})) == {}
    assert slow(answers({"itl": 0.9})) == {}, "one alone has none"


def test_servers_are_compared_as_wholes() -> None:
    told = answers(
        {"server": "a:1", "engine": "0"},
        {"server": "a:1", "engine": "1"},
        {"server": "b:1", "engine": "0", "itl": 0.06},
        {"server": "b:1", "engine": "1", "itl": 0.06, "waiting": 3},
    )
    whole = {one.server: one for one in together(replicas(told))}
    assert whole["b:1"].slow == "slow: ITL 3.0× the others'"
    assert whole["a:1"].slow == ""
    assert (whole["b:1"].running, whole["b:1"].waiting, whole["b:1"].generation) == (20, 3, 1000)


def test_engines_come_in_the_order_of_their_numbers_and_a_gone_one_does_not() -> None:
    told = answers({"engine": "10"}, {"engine": "9"})
    told.instants["engine_generation"].append(  # type: ignore[attr-defined]
        ({"instance": "n1:9519", "server": "n1:8000", "engine": "3"}, 0.0, 1.0)
    )
    assert [one.engine for one in replicas(told)] == ["9", "10"]
    assert replicas(None) == ()
