"""What a server is found to be, by what it answers, and whether it has other work."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from monitor.probes import target
from monitor.probes.context import Ask
from monitor.probes.errors import CannotStart
from monitor.probes.schema import Facts, Record, Spec
from monitor.probes.target import Target

MODELS = {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]}
METRICS = (
    "# HELP vllm:num_requests_running …\n"
    'vllm:num_requests_running{engine="0",model_name="m"} 0.0\n'
    'vllm:num_requests_waiting{engine="0",model_name="m"} 0.0\n'
    'vllm:cache_config_info{block_size="16",enable_prefix_caching="True",engine="0",num_gpu_blocks="100"} 1.0\n'
    'vllm:generation_tokens_total{engine="0",model_name="m"} 5.0\n'
)
SPEC = Spec("latency", "http://gpu:8000/v1/")

Answer = tuple[int, str]


class Server:
    """Implements ``target.Http`` from a table of answers."""

    def __init__(self, answers: dict[str, Any], tokens: Callable[[str], list[int]] | None = None) -> None:
        self._answers = answers
        self._tokens = tokens
        self.asked: list[str] = []

    async def get(self, path: str) -> Answer:
        self.asked.append(path)
        answer = self._answers.get(path, (404, "not found"))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return 200, answer
        if isinstance(answer, dict):
            return 200, json.dumps(answer)
        assert isinstance(answer, tuple)
        return answer

    async def post(self, path: str, body: object = None) -> Answer:
        assert path == "/tokenize"
        assert isinstance(body, dict)
        if self._tokens is None:
            return 404, "not found"
        begins = [1] if body["add_special_tokens"] else []
        return 200, json.dumps({"tokens": begins + self._tokens(body["prompt"])})


def find(server: Server, spec: Spec = SPEC) -> Target:
    return asyncio.run(target.find(server, spec))


def ids(text: str) -> list[int]:
    """A tokenizer in which ``</s>`` is a token of its own."""
    return [2] if text == "</s>" else [500 + ord(letter) % 2500 for letter in text]


# -- looking ----------------------------------------------------------------------------------------------------------


def test_what_a_vllm_is() -> None:
    found = find(Server({"/v1/models": MODELS, "/metrics": METRICS, "/version": {"version": "0.32.0"}}, ids))
    facts = found.facts
    assert (facts.url, facts.server, facts.model) == ("http://gpu:8000", "gpu:8000", "m")
    assert (facts.server_version, facts.max_model_len, facts.block_size) == ("vLLM 0.32.0", 4096, 16)
    assert (facts.kv_cache_tokens, facts.prefix_caching) == (1600, True)
    assert facts.vocabulary is not None
    assert facts.vocabulary <= 3000
    assert found.avoid == {1, 2}  # what begins each text, and what ends one
    assert found.metrics
    assert found.notes == ()


def test_engines_of_data_parallelism_have_their_caches_together() -> None:
    more = METRICS + (
        'vllm:cache_config_info{block_size="16",enable_prefix_caching="True",engine="1",num_gpu_blocks="90"} 1.0\n'
    )
    facts = find(Server({"/v1/models": MODELS, "/metrics": more}, ids)).facts
    assert (facts.kv_cache_tokens, facts.block_size, facts.cache_config["engine"]) == (190 * 16, 16, "0")
    silent = METRICS + 'vllm:cache_config_info{block_size="16",engine="1"} 1.0\n'
    assert find(Server({"/v1/models": MODELS, "/metrics": silent}, ids)).facts.kv_cache_tokens is None


def test_an_id_of_a_prompt_is_one_that_the_server_named_or_below() -> None:
    found = find(Server({"/v1/models": MODELS, "/metrics": METRICS}, ids))
    drawn = target.prompts(found, random.Random(1)).tokens(20_000)
    assert found.facts.vocabulary is not None
    assert max(drawn) < found.facts.vocabulary
    assert not found.avoid & set(drawn)


def test_a_server_of_another_make_is_known_by_what_it_says() -> None:
    found = find(Server({"/v1/models": {"data": [{"id": "m", "owned_by": "llamacpp"}]}}))
    assert (found.facts.server_version, found.facts.max_model_len, found.facts.vocabulary) == ("llamacpp", None, None)
    assert not found.metrics
    assert any("whether the server has other work cannot be seen: it has no /metrics" in note for note in found.notes)
    drawn = target.prompts(found, random.Random(1)).tokens(5000)
    assert set(drawn) <= set(target.UNTOLD_IDS)


def test_the_model_that_was_asked_for_is_taken_and_the_others_are_known() -> None:
    models = {
        "data": [
            {"id": "base", "max_model_len": 2048},
            {"id": "tuned", "parent": "base", "max_model_len": None},
        ]
    }
    found = find(Server({"/v1/models": models}), Spec("latency", "http://gpu:8000", model="tuned"))
    assert (found.facts.model, found.facts.max_model_len, found.other_models) == ("tuned", 2048, ("base",))
    assert find(Server({"/v1/models": models})).facts.model == "base"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "no"), "does not let us in (HTTP 401): give the server's API key"),
        ((404, "not found"), "answers HTTP 404: not found; is this an OpenAI-compatible server?"),
        ((500, '{"error": {"message": "engine  dead"}}'), "answers HTTP 500: engine dead"),
        ("<html>", "does not say which models it serves"),
        ({"data": 5}, "does not say which models it serves"),
        ({"data": []}, "serves no model now"),
        (CannotStart("gave no answer"), "no server answers at http://gpu:8000: gave no answer"),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused(answer: Any, said: str) -> None:
    with pytest.raises(CannotStart) as refused:
        find(Server({"/v1/models": answer}))
    assert said in str(refused.value)


def test_a_model_that_is_not_served_is_refused_with_those_that_are() -> None:
    with pytest.raises(CannotStart, match="does not serve 'x'; it serves m"):
        find(Server({"/v1/models": MODELS}), Spec("latency", "http://gpu:8000", model="x"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu:8000",
        "ftp://gpu",
        "file:///etc/passwd",
        "http://",
        "http://gpu:99999",
        "http://gpu/a?b=",
        "http://gpu/a#",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(CannotStart, match="is no server's address"):
        target.address(url)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.169.254:80", "2852039166", "0xa9fea9fe", "[fd00:ec2:0::254]", "100.100.100.200",
        "[::ffff:169.254.169.254]", "Metadata.google.internal.", "user@169.254.169.254",
    ],
)  # fmt: skip
def test_a_clouds_own_secrets_are_not_asked_for(host: str) -> None:
    with pytest.raises(CannotStart, match="is where a cloud keeps its machines' secrets"):
        target.address(f"http://{host}/latest")


def test_an_address_may_be_written_with_its_path() -> None:
    assert target.address(" https://gpu:1/v1/ ") == "https://gpu:1"


# -- other work -------------------------------------------------------------------------------------------------------


def metrics(running: float, waiting: float, generated: float) -> str:
    return (
        f'vllm:num_requests_running{{engine="0"}} {running}\nvllm:num_requests_running{{engine="1"}} 0.0\n'
        f'vllm:num_requests_waiting{{engine="0"}} {waiting}\n'
        f'vllm:generation_tokens_total{{engine="0"}} {generated} 1700000000000\n'
    )


async def _no_sleep(seconds: float) -> None:
    return None


def busy(*pages: str) -> str:
    return asyncio.run(target.busy(Server({"/metrics": list(pages)}), 2.0, _no_sleep))


def test_an_idle_server_is_not_busy() -> None:
    assert busy(metrics(0, 0, 100)) == ""


def test_requests_that_stay_make_it_busy() -> None:
    assert busy(metrics(12, 3, 100), metrics(11, 0, 400), metrics(12, 1, 700), metrics(12, 2, 1060)) == (
        "12 running, 3 waiting, 480 tok/s for others"
    )
    assert busy(metrics(1, 0, 100)) == "1 running"


def test_tokens_that_come_make_it_busy_though_nothing_was_seen_running() -> None:
    assert busy(metrics(0, 0, 100), metrics(0, 0, 140), metrics(0, 0, 140)) == "20 tok/s for others"


def test_two_at_once_are_no_canary() -> None:
    assert busy(metrics(0, 0, 100), metrics(2, 0, 100), metrics(0, 0, 100)) == "2 running"


def test_a_canary_is_no_other_work() -> None:
    assert busy(metrics(0, 0, 100), metrics(1, 0, 100), metrics(0, 0, 101), metrics(0, 0, 101)) == ""


def test_a_server_without_metrics_says_nothing_of_others() -> None:
    assert asyncio.run(target.busy(Server({}), 2.0, _no_sleep)) == ""


# -- trying out -------------------------------------------------------------------------------------------------------

FOUND = Target(Facts(url="http://gpu:8000", model="m", vocabulary=3000, block_size=16, max_model_len=4096))


def try_out(answer: Callable[[Ask], Record], *, chat: bool = False, found: Target = FOUND) -> tuple[Target, list[Ask]]:
    sent: list[Ask] = []

    async def send(ask: Ask) -> Record:
        sent.append(ask)
        return answer(ask)

    return asyncio.run(target.try_out(send, found, random.Random(1), chat=chat)), sent


def ok(ask: Ask, cached: int | None = None) -> Record:
    return Record(0.0, prompt_tokens=len(ask.prompt), output_tokens=ask.max_tokens, cached_tokens=cached)


REFUSED = Record(0.0, "http", "HTTP 400: what is ignore_eos?", 400)


def test_the_exact_way_is_tried_first_and_twice() -> None:
    found, sent = try_out(ok)
    assert (found.ids, found.exact, found.usage, found.notes) == (True, True, True, ())
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert len(sent[0].prompt) == 40  # two blocks and a half
    assert found.facts.usage_details is False


def test_usage_that_tells_of_the_cache_is_known_by_the_second() -> None:
    answers = iter([None, 32])
    found, _ = try_out(lambda ask: ok(ask, next(answers)))
    assert (found.facts.usage_details, found.facts.prefix_caching) == (True, True)


def test_what_is_refused_is_left_out() -> None:
    found, sent = try_out(lambda ask: REFUSED if ask.exact else ok(ask))
    assert (found.ids, found.exact) == (True, False)
    assert [ask.exact for ask in sent] == [True, False, False]
    assert any("refuses ignore_eos and min_tokens" in note and "HTTP 400" in note for note in found.notes)
    assert target.dialect(Ask([5, 6], 3), found) == Ask([5, 6], 3, exact=False)


def test_words_are_sent_where_ids_are_refused() -> None:
    found, _ = try_out(lambda ask: ok(ask) if isinstance(ask.prompt, str) else REFUSED)
    assert (found.ids, found.exact) == (False, True)
    said = target.dialect(Ask([5, 6, 5], 3), found).prompt
    assert isinstance(said, str)
    first, second, third = said.split()
    assert first == third != second


def test_stream_options_are_left_out_where_they_are_refused() -> None:
    found, _ = try_out(lambda ask: ok(ask) if "stream_options" in ask.extra else REFUSED)
    assert found.usage is False
    assert target.dialect(Ask([5], 3, extra={"a": 1}), found).extra == {"a": 1, "stream_options": None}


@pytest.mark.parametrize(
    ("record", "tries"),
    [
        (REFUSED, 6),
        (Record(0.0, "http", "HTTP 500: dead", 500), 1),
        (Record(0.0, "shed", "HTTP 503: loading", 503), 1),
        (Record(0.0, "stalled", "no byte for 60 s"), 1),
    ],
)
def test_a_server_that_takes_nothing_is_refused_with_its_words(record: Record, tries: int) -> None:
    count = 0

    def answer(ask: Ask) -> Record:
        nonlocal count
        count += 1
        return record

    with pytest.raises(CannotStart) as refused:
        try_out(answer)
    assert record.error in str(refused.value)
    assert count == tries


def test_chat_has_no_ids_to_try() -> None:
    found, sent = try_out(ok, chat=True)
    assert len(sent) == 2
    assert any(note.startswith("chat: ") for note in found.notes)
    with pytest.raises(CannotStart):
        try_out(lambda ask: REFUSED, chat=True)


def test_a_small_model_is_asked_for_little() -> None:
    tiny = Target(Facts(model="m", vocabulary=3000, block_size=16, max_model_len=10))
    assert len(target.small(tiny, random.Random(1)).prompt) == 6


def test_what_is_no_sample_is_passed_over() -> None:
    page = 'n{a="1"}\nn \nn x\nn{a="2"} NaN\nn{a="} 3"} 4 1234\nn 5\nnn 7\n'
    assert target.total(page, ["m", "n"]) == 9.0
    assert target.total('n{a="1"}\n', ["n"]) is None
