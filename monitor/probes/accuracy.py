"""How well the model predicts a fixed text: its perplexity, by the log probabilities that the server gives of a prompt.

Two servers of one model, one of them quantized, are compared by it token by token. It knows no HTTP client: whoever
uses it gives a ``Post``.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from monitor.plain import one_line
from monitor.probes.accuracy_text import PARAGRAPHS, TEXT, TEXT_ID
from monitor.probes.schema import Accuracy

Post: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[tuple[int, str]]]
"""POST a body as JSON to a path of the server: the status and the text of the answer. It may raise whatever its client
raises."""

WINDOW = 256
"""Tokens of a request. The server needs the whole vocabulary for each of them at once, in memory that it has measured
for so many sequences as it runs at most: 256 by default."""
SECONDS = 300.0

COMPLETIONS, TOKENIZE = "/v1/completions", "/tokenize"


class _Cannot(Exception):
    """Why there is no perplexity."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One request's prompt, and how many tokens at its beginning are context alone."""

    prompt: list[int] | str
    context: int = 1


async def measure(
    post: Post,
    model: str,
    max_model_len: int | None = None,
    *,
    seconds: float = SECONDS,
    stopping: Callable[[], bool] = lambda: False,
) -> Accuracy:
    """Ask for it, in some six requests, one after the other. Where it cannot be had, ``why_not`` says so; it raises
    nothing. ``max_model_len``: the model's longest context, None where it is not known."""
    try:
        async with asyncio.timeout(seconds):
            return await _measure(post, model, max_model_len, stopping)
    except _Cannot as error:
        return Accuracy(why_not=str(error))
    except TimeoutError:
        return Accuracy(why_not=f"it took more than {seconds:g} s")


async def _measure(post: Post, model: str, max_model_len: int | None, stopping: Callable[[], bool]) -> Accuracy:
    pieces, text_id = await _pieces(post, model, max_model_len)
    ask = _by_prompt_logprobs
    found: list[float] = []
    for number, piece in enumerate(pieces):
        if stopping():
            raise _Cannot("the run ended before it was measured")
        try:
            logprobs = await ask(post, model, piece)
        except _Cannot as first:
            if number:
                raise
            ask = _by_echo
            try:
                logprobs = await ask(post, model, piece)
            except _Cannot as second:
                raise _Cannot(f"the server gives no log probabilities of a prompt: {first}; {second}") from second
        found.extend(value for value in logprobs[piece.context :] if value is not None)
    if not found:
        raise _Cannot("the server gave no token a probability")
    mean = -sum(found) / len(found)
    if not mean < 700:
        raise _Cannot(f"the mean log probability is {-mean:g}: the model gives nonsense")
    return Accuracy(math.exp(mean), len(found), tuple(found), text_id)


# -- the pieces ------------------------------------------------------------------------------------------------------


async def _pieces(post: Post, model: str, max_model_len: int | None) -> tuple[list[_Piece], str]:
    """Windows of token ids that overlap by half, so that each token but the first few has at least half a window of
    context. Where the server does not tokenize, the paragraphs, each alone."""
    tokens = await _tokens(post, model, special=True)
    if tokens is None:
        return [_Piece(paragraph) for paragraph in PARAGRAPHS], f"{TEXT_ID}/paragraphs"
    plain = await _tokens(post, model, special=False) or tokens
    # What a model expects before every text stands before each window, too.
    head = tokens[: len(tokens) - len(plain)] if len(tokens) > len(plain) and tokens[-len(plain) :] == plain else []
    size = WINDOW - len(head)
    if max_model_len is not None:  # one more is generated, since a server generates one at least
        size = min(size, max_model_len - 1 - len(head))
    if size < 8:
        raise _Cannot(f"the model takes {max_model_len} tokens, too few for a text")
    full = size == WINDOW - len(head)
    return list(_windows(plain, head, size)), TEXT_ID if full else f"{TEXT_ID}/{size}"


def _windows(tokens: Sequence[int], head: Sequence[int], size: int) -> Iterator[_Piece]:
    begin, scored = 0, 0
    while scored < len(tokens):
        end = min(begin + size, len(tokens))
        context = len(head) + scored - begin
        yield _Piece([*head, *tokens[begin:end]], max(context, 1))
        scored = end
        begin += size - size // 2
        if end < len(tokens):
            # The last window is as long as the others: its tokens have more context for it.
            begin = min(begin, max(len(tokens) - size, 0))


async def _tokens(post: Post, model: str, *, special: bool) -> list[int] | None:
    status, text = await _post(post, TOKENIZE, {"model": model, "prompt": TEXT, "add_special_tokens": special})
    if status != 200:
        return None
    tokens = _json(text).get("tokens")
    if not isinstance(tokens, list) or not tokens or not all(type(token) is int for token in tokens):
        return None
    return tokens


# -- the requests ----------------------------------------------------------------------------------------------------


async def _by_prompt_logprobs(post: Post, model: str, piece: _Piece) -> list[float | None]:
    body = {"model": model, "prompt": piece.prompt, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    choice = await _choice(post, body)
    given = choice.get("prompt_logprobs")
    if not isinstance(given, list):
        raise _Cannot("it gives no prompt_logprobs")
    ids: Sequence[int | None] = piece.prompt if isinstance(piece.prompt, list) else [None] * len(given)
    if len(given) != len(ids):
        raise _Cannot(f"it gave {len(given)} prompt_logprobs for {len(ids)} tokens")
    return [_of_token(entry, token, number) for number, (entry, token) in enumerate(zip(given, ids, strict=True))]


def _of_token(entry: Any, token: int | None, number: int) -> float | None:
    """The log probability of the prompt's token in an entry such as ``{"80": {"logprob": -7.6, "rank": 310}}``."""
    if entry is None and number == 0:
        return None
    value: Any = None
    if isinstance(entry, dict) and entry:
        one = entry.get(str(token)) if token is not None else next(iter(entry.values()))
        value = one.get("logprob") if isinstance(one, dict) else one
    return _logprob(value)


async def _by_echo(post: Post, model: str, piece: _Piece) -> list[float | None]:
    """As OpenAI's API had it first, and others still have it."""
    body = {"model": model, "prompt": piece.prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    choice = await _choice(post, body)
    logprobs = choice.get("logprobs")
    given = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(given, list):
        raise _Cannot("with echo, it gives no token_logprobs")
    # The last is of the token that it generated.
    given = given[:-1]
    if isinstance(piece.prompt, list) and len(given) != len(piece.prompt):
        raise _Cannot(f"with echo, it gave {len(given)} token_logprobs for {len(piece.prompt)} tokens")
    return [None if value is None and number == 0 else _logprob(value) for number, value in enumerate(given)]


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value > 1e-3:
        raise _Cannot(f"it gave a log probability of {json.dumps(value)[:40]}")
    return float(value)


async def _choice(post: Post, body: dict[str, Any]) -> dict[str, Any]:
    status, text = await _post(post, COMPLETIONS, body)
    if status != 200:
        raise _Cannot(f"HTTP {status}: {_message(text)}")
    choices = _json(text).get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _Cannot("its answer has no choices")
    return choices[0]


async def _post(post: Post, path: str, body: dict[str, Any]) -> tuple[int, str]:
    try:
        return await post(path, body)
    except Exception as error:  # of whatever client was given
        raise _Cannot(f"{path}: {str(error) or type(error).__name__}") from error


def _json(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Cannot(f"its answer is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise _Cannot("its answer is no object")
    return body


def _message(text: str) -> str:
    try:
        found = _json(text)
    except _Cannot:
        found = {}
    error = found.get("error", found)
    message = error.get("message") if isinstance(error, dict) else None
    return one_line(str(message or text), 200) or "(no text)"
