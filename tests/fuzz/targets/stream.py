"""What a model server streams to a probe."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from monitor.probes import completion as api
from monitor.probes.schema import Record
from monitor.probes.sse import Events, TooLong
from tests.fuzz.target import Broken, Target


def run(data: bytes) -> None:
    """Read it as the probe's client does: measured, or ``Failed``. What is written down can be kept as JSON."""
    events, record = Events(), Record(start_s=0.0)
    begun = False
    try:
        for body in events.feed(data):
            if body == b"[DONE]":
                continue
            event = api.read_event(body, record, _cleaned)
            if event.usage is not None:
                api.take_usage(event.usage, record)
            for choice in (event.choices or [])[:1]:
                begun = api.is_token(choice, begun) or begun
                api.written(choice)
    except (api.Failed, TooLong) as error:
        if not str(error).isprintable():
            raise Broken(f"an error that a terminal would obey: {error!r}") from None
        record.error = str(error)
    events.rest()
    said = api.message(data.decode(errors="replace"))
    if not said.isprintable():
        raise Broken(f"a server's message that a terminal would obey: {said!r}")
    kept = msgspec.json.encode(record)
    msgspec.json.decode(kept, type=Record)
    float(record.output_tokens or 0) + float(record.prompt_tokens or 0) + float(record.cached_tokens or 0)


def _cleaned(text: str) -> str:
    return text.replace("sk-1", "***")


def seeds() -> Iterable[bytes]:
    """Chunks of completions and of chat, usage, errors."""
    for text in (
        '{"id":"c","object":"text_completion","choices":[{"index":0,"text":"a","finish_reason":null}],"usage":null}',
        '{"choices":[{"delta":{"role":"assistant","content":""}}]}',
        '{"choices":[{"delta":{"content":"b","tool_calls":[]},"finish_reason":"stop"}]}',
        '{"choices":[{"delta":{"reasoning_content":"c"}}]}',
        '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}}}',
        '{"error":{"message":"out of memory sk-1","code":500}}', '{"object":"error","message":"m"}', '{"error":"text"}', "[DONE]",
    ):  # fmt: skip
        yield b"data: " + text.encode() + b"\n\n"
    yield b'{"error":{"message":"not found","type":"NotFoundError"}}'
    yield b'{"detail":[{"loc":["body"],"msg":"m"}]}'


TARGET = Target(
    what="a model server's answers to a probe",
    promise="errors hold nothing a terminal obeys; what is measured can be written down and counted",
    modules=("monitor.probes.sse", "monitor.probes.completion"),
    run=run,
    seeds=seeds,
    words=("data: ", "\n\n", '"choices":[', '"delta":{', '"usage":{', '"completion_tokens":', '"error":', "null", "[DONE]",
           '"text":', '"finish_reason":', "99999999999999999999", "\\u001b"),
    longest=1500,
)  # fmt: skip
