"""Perplexity of the fixed text, against servers that give log probabilities, give them otherwise, or do not."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from monitor.probes import accuracy
from monitor.probes.accuracy_text import PARAGRAPHS, TEXT, TEXT_ID
from monitor.probes.schema import Accuracy

Answer = tuple[int, Any]


class Server:
    """One that tokenizes a text by its letters; the log probability of a token is minus a hundredth of its place in
    the request, so that it can be seen with how much context each was scored."""

    def __init__(self, *, begins: int | None = None, tokenizes: bool = True) -> None:
        self.begins = begins
        self.tokenizes = tokenizes
        self.prompts: list[list[int]] = []
        self.answer: Callable[[dict[str, Any], list[int]], Answer] = self.by_prompt_logprobs

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        status, answer = self._answer(path, body)
        return status, answer if isinstance(answer, str) else json.dumps(answer)

    def _answer(self, path: str, body: dict[str, Any]) -> Answer:
        assert body["model"] == "tiny"
        if path == "/tokenize":
            if not self.tokenizes:
                return 404, {"detail": "Not Found"}
            tokens = [ord(letter) for letter in body["prompt"]]
            if body["add_special_tokens"] and self.begins is not None:
                tokens = [self.begins, *tokens]
            return 200, {"tokens": tokens, "count": len(tokens)}
        assert path == "/v1/completions"
        prompt = body["prompt"]
        ids = [ord(letter) for letter in prompt] if isinstance(prompt, str) else list(prompt)
        self.prompts.append(ids)
        return self.answer(body, ids)

    def by_prompt_logprobs(self, body: dict[str, Any], ids: list[int]) -> Answer:
        if "prompt_logprobs" not in body:
            return 400, {"error": {"message": "no echo here"}}
        given: list[Any] = [
            None,
            *({str(token): {"logprob": -n / 100, "rank": 1}} for n, token in enumerate(ids[1:], 1)),
        ]
        return 200, {"choices": [{"text": "x", "prompt_logprobs": given}]}

    def by_echo(self, body: dict[str, Any], ids: list[int]) -> Answer:
        if not body.get("echo"):
            return 200, {"choices": [{"text": "x"}]}
        given: list[Any] = [None, *(-n / 100 for n in range(1, len(ids))), -77.0]
        return 200, {"choices": [{"text": "x", "logprobs": {"token_logprobs": given}}]}


def _measure(server: Server, max_model_len: int | None = None, **more: Any) -> Accuracy:
    return asyncio.run(accuracy.measure(server.post, "tiny", max_model_len, **more))


def _places(found: Accuracy) -> list[int]:
    """With how many tokens before it each token was scored."""
    return [round(-value * 100) for value in found.token_logprobs]


def test_the_text_is_the_one_that_results_were_kept_of() -> None:
    # Another text needs another id: perplexities of two texts cannot be compared.
    assert (TEXT_ID, zlib.crc32(TEXT.encode())) == ("gpumon-en-1", 4046876327)


def test_each_token_but_the_first_is_scored_once_with_half_a_window_before_it() -> None:
    server = Server()
    found = _measure(server, 4096)
    assert found.why_not == ""
    assert found.text_id == TEXT_ID
    assert found.tokens == len(TEXT) - 1 == len(found.token_logprobs)
    places = _places(found)
    assert places[:255] == list(range(1, 256))
    assert min(places[255:]) >= 128
    assert max(places) == 255
    assert all(len(prompt) == 256 for prompt in server.prompts)
    assert found.perplexity == pytest.approx(math.exp(sum(places) / 100 / len(places)))


def test_what_is_scored_is_the_text_in_its_order() -> None:
    server = Server()
    server.answer = lambda body, ids: (
        200,
        {"choices": [{"prompt_logprobs": [None, *({str(token): {"logprob": -token / 1000}} for token in ids[1:])]}]},
    )
    found = _measure(server, 4096)
    assert "".join(chr(round(-value * 1000)) for value in found.token_logprobs) == TEXT[1:]


def test_what_begins_a_text_begins_each_window_and_is_not_scored() -> None:
    server = Server(begins=1)
    found = _measure(server, 4096)
    assert {prompt[0] for prompt in server.prompts} == {1}
    assert found.tokens == len(TEXT)
    assert all(len(prompt) == 256 for prompt in server.prompts)


def test_a_short_context_makes_shorter_windows_and_is_another_figure() -> None:
    server = Server()
    found = _measure(server, 101)
    assert {len(prompt) for prompt in server.prompts} == {100}
    assert found.text_id == f"{TEXT_ID}/100"
    assert found.tokens == len(TEXT) - 1
    assert max(_places(found)) == 99


def test_a_context_of_nothing_is_too_short() -> None:
    assert _measure(Server(), 8).why_not == "the model takes 8 tokens, too few for a text"


def test_a_server_that_does_not_tokenize_is_given_the_paragraphs() -> None:
    server = Server(tokenizes=False)
    found = _measure(server, 4096)
    assert found.text_id == f"{TEXT_ID}/paragraphs"
    assert len(server.prompts) == len(PARAGRAPHS)
    assert found.tokens == sum(len(paragraph) - 1 for paragraph in PARAGRAPHS)


def test_echo_does_where_there_are_no_prompt_logprobs() -> None:
    server, other = Server(), Server()
    server.answer = server.by_echo
    found = _measure(server, 4096)
    assert found == _measure(other, 4096)
    assert found.perplexity is not None
    assert len(server.prompts) == len(other.prompts) + 1  # asked for prompt_logprobs once


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, '{"detail": "Not Found"}'), "HTTP 404"),
        ((400, '{"error": {"message": "it is\\n forbidden"}}'), "HTTP 400: it is forbidden"),
        ((200, '{"choices": [{"text": "x"}]}'), "it gives no prompt_logprobs; with echo, it gives no token_logprobs"),
        ((200, '{"choices": []}'), "its answer has no choices"),
        ((200, "{"), "its answer is no JSON"),
        ((200, '{"choices": [{"prompt_logprobs": [null]}]}'), "it gave 1 prompt_logprobs for 256 tokens"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_give_them_is_why_not(answer: Answer, says: str) -> None:
    server = Server()
    server.answer = lambda body, ids: answer
    found = _measure(server, 4096)
    assert (found.perplexity, found.tokens, found.token_logprobs) == (None, 0, ())
    assert found.why_not.startswith("the server gives no log probabilities of a prompt: ")
    assert says in found.why_not


@pytest.mark.parametrize("value", ["null", "2.5", "NaN", '"x"', "true"])
def test_what_is_no_log_probability_is_not_taken_for_one(value: str) -> None:
    server = Server()

    def answer(body: dict[str, Any], ids: list[int]) -> Answer:
        entries = ", ".join(["null", *(f'{{"{token}": {{"logprob": {value}}}}}' for token in ids[1:])])
        return 200, f'{{"choices": [{{"prompt_logprobs": [{entries}]}}]}}'

    server.answer = answer
    found = _measure(server, 4096)
    assert found.perplexity is None
    assert "it gave a log probability of" in found.why_not


def test_a_server_that_fails_in_the_middle_gives_no_half_figure() -> None:
    server = Server()

    def answer(body: dict[str, Any], ids: list[int]) -> Answer:
        return server.by_prompt_logprobs(body, ids) if len(server.prompts) < 3 else (500, "out of memory")

    server.answer = answer
    found = _measure(server, 4096)
    assert (found.perplexity, found.why_not) == (None, "HTTP 500: out of memory")


def test_a_client_that_raises_is_why_not() -> None:
    async def post(path: str, body: dict[str, Any]) -> tuple[int, str]:
        raise ConnectionResetError("gone")

    found = asyncio.run(accuracy.measure(post, "tiny", None))
    assert found.why_not == "/tokenize: gone"


def test_it_is_bounded_in_time() -> None:
    async def post(path: str, body: dict[str, Any]) -> tuple[int, str]:
        await asyncio.Event().wait()
        raise AssertionError

    assert asyncio.run(accuracy.measure(post, "tiny", None, seconds=0.01)).why_not == "it took more than 0.01 s"


def test_it_ends_with_the_run() -> None:
    server = Server()
    found = _measure(server, 4096, stopping=lambda: len(server.prompts) == 2)
    assert found.why_not == "the run ended before it was measured"
    assert len(server.prompts) == 2
