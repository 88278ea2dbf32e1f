"""What is written to the completions API, and what its chunks and errors say: bytes in, bytes out.

Decoding is typed, so that a chunk costs a microsecond: of each only what is measured is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from monitor import plain
from monitor.probes.context import Ask
from monitor.probes.schema import Outcome, Record

Endpoint: TypeAlias = Literal["completions", "chat"]
_ERROR_CHARS = 300

# For chat, which takes no token ids: about as many tokens of plain words, in the same order of chance.
_WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state",
    "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system",
    "program", "question", "work", "number", "night", "point", "home", "water", "room", "mother", "area", "money",
    "story", "fact", "month", "lot", "right", "study", "book", "eye", "job", "word", "business", "issue", "side",
    "kind", "head", "house", "service", "friend", "father", "power", "hour", "game", "line", "end", "member", "law",
    "car", "city",
)  # fmt: skip


# -- what a chunk says ------------------------------------------------------------------------------------------------


class _Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"null")


class _Choice(msgspec.Struct, gc=False):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: Any = None
    message: Any = None


_decode = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.Encoder().encode


def is_token(choice: _Choice, begun: bool) -> bool:
    """Whether a chunk of chat holds a token: not the first, which names the role, nor one that only says why it
    ended. A token whose text is empty is one (half of a character, say)."""
    delta = choice.delta
    if delta is None:
        return False
    written = delta.content or delta.reasoning or delta.reasoning_content
    if written or bytes(delta.tool_calls) not in (b"null", b"[]"):
        return True
    empty = delta.content is not None or delta.reasoning is not None or delta.reasoning_content is not None
    return empty and (begun or delta.role is None)


class Failed(Exception):
    """Ends a request."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome: Outcome = outcome


def body(ask: Ask, model: str, endpoint: Endpoint) -> bytes:
    """The request for a stream of what ``ask`` wants."""
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": ask.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if endpoint == "chat":
        text = ask.prompt if isinstance(ask.prompt, str) else _words(ask.prompt)
        asked["messages"] = [{"role": "user", "content": text}]
    else:
        asked["prompt"] = ask.prompt if isinstance(ask.prompt, str) else list(ask.prompt)
    if ask.exact:
        asked["ignore_eos"] = True
        asked["min_tokens"] = ask.max_tokens
    if ask.cache_salt is not None:
        asked["cache_salt"] = ask.cache_salt
    if ask.priority is not None:
        asked["priority"] = ask.priority
    return _encode({**asked, **ask.extra})


def _words(ids: Sequence[int]) -> str:
    return " ".join(_WORDS[one % len(_WORDS)] for one in ids)


def read_event(data: bytes, record: Record, cleaned: Callable[[str], str]) -> _Event:
    """Raises ``Failed`` for what is no event, and for an error of the server's in the place of one. ``cleaned`` takes
    out of its words what is not to be shown, before they are cut."""
    try:
        event = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Failed("malformed", f"an event that cannot be read: {text_of(error)}{after(record)}") from error
    if event.error is not None or event.object == "error":
        said = event.error if event.error is not None else event.message
        text = said.get("message") if isinstance(said, dict) else said
        raise Failed(
            "malformed", f"the server wrote an error into the stream: {one_line(cleaned(str(text)))}{after(record)}"
        )
    return event


def take_usage(usage: _Usage, record: Record) -> None:
    """Write down what the server says it has read and written."""
    if usage.prompt_tokens is not None:
        record.prompt_tokens = usage.prompt_tokens
    if usage.completion_tokens is not None:
        record.output_tokens = usage.completion_tokens
    if usage.prompt_tokens_details is not None:
        record.cached_tokens = usage.prompt_tokens_details.cached_tokens


def written(choice: _Choice) -> str:
    """The text of a chunk."""
    delta = choice.delta
    return (choice.text or "") if delta is None else (delta.reasoning or delta.reasoning_content or delta.content or "")


def message(text: str) -> str:
    """What an error of the OpenAI API says; else the beginning of the text."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return one_line(text)
    error = found.get("error", found) if isinstance(found, dict) else None
    said = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    return one_line(said) if isinstance(said, str) else ""


def chunks_of(record: Record) -> int:
    """How many chunks with a token have come."""
    return 0 if record.ttft_s is None else 1 + len(record.itl_s)


def after(record: Record) -> str:
    """How far it had come."""
    chunks = chunks_of(record)
    return f" after {chunks} chunk{'s' if chunks != 1 else ''}" if chunks else ""


def text_of(error: BaseException) -> str:
    """What an exception says, or what it is."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """In one line, and not too long."""
    return plain.one_line(text, _ERROR_CHARS)
