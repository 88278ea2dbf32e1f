"""What fuzzing found: each input that a reader was wrong about, and what it has to make of it now."""

from __future__ import annotations

import json

import pytest

from monitor.client.builder import SnapshotBuilder
from monitor.client.errors import ClientError
from monitor.client.format import clock
from monitor.client.snapshot import NodeFacts
from monitor.client.wire import Frame, Result, parse_time
from monitor.config import loads
from monitor.notify.refusals import seconds_until
from monitor.rules.template_lex import TemplateError, number
from monitor.sources.exposition import ExpositionError, ExpositionReader
from monitor.yaml_reader import ConfigError
from tests.fuzz.target import event_loop, load
from tests.fuzz.targets import http, nvml
from tests.fuzz.targets.http import request

_DEEP = "[" * 20_000
_SILENCE = (
    '{"matchers":[{"name":"a","value":"b","isRegex":false}],"startsAt":"2027-01-15T08:00:00Z",'
    '"endsAt":"9999-12-31T23:59:59-10:00","createdBy":"me","comment":"c"}'
)


def run(name: str, *inputs: bytes) -> None:
    """What a target says of inputs: nothing, or it raises."""
    target = load(name)
    for one in inputs:
        target.run(one)


def test_a_moment_of_digits_that_are_no_numbers_is_refused() -> None:
    run(
        "http",
        request("/api/gpumon/v1/events", query="since_ms=\xb2"),
        request("/api/gpumon/v1/alerts", query="since_ms=\u0661"),
    )


def test_a_body_that_is_no_utf8_or_nested_without_end_is_refused() -> None:
    own = ("stream", "notify/test", "reports/send", "probes")
    for path in (*(f"/api/gpumon/v1/{name}" for name in own), "/api/v2/silences"):
        head = request(path, "POST", header="Content-Type: application/json")
        run("http", head + b'{"recei\x9bver":1}', head + b'{"x":' + _DEEP.encode())


def test_a_wrong_method_is_told_the_right_ones() -> None:
    for path in ("/api/v2/alerts", "/api/v2/silences", "/api/gpumon/v1/stream", "/api/v1/query"):
        ask = http._ask("TRACE", path, b"", [(b"host", b"localhost")], b"", over_tcp=True)
        status, headers, _ = event_loop().run_until_complete(ask)
        assert (status, b"POST" in dict(headers).get(b"allow", b"")) == (405, True), path


def test_a_silence_that_ends_beyond_the_last_year_is_refused() -> None:
    run("silences", _SILENCE.encode())


def test_an_event_of_a_silence_commands_no_terminal() -> None:
    run("silences", _SILENCE.replace('"b"', '"\\u001b[31m"').replace("9999", "2029").encode())


def test_a_receivers_answer_that_is_nested_without_end_is_read() -> None:
    run("answers", b"1\n" + _DEEP.encode()[:4000])


def test_a_wait_that_no_calendar_has_is_none() -> None:
    assert seconds_until("Mon, 01 Jan 2026 00:00:00 -99999999999999999999") is None


def test_times_of_others_that_no_calendar_has_are_none() -> None:
    assert parse_time("2026-13-01T00:00:00Z") is None
    assert parse_time("9999-12-31T23:59:59-10:00") is None
    assert parse_time("9999-12-31T23:59:59Z") is not None
    assert clock(10**30) == "?"


def test_what_only_a_newer_reader_reads_is_passed_over() -> None:
    newer = (
        b'{"index":0,"util":3,"slow":{"NEW":1},"gpm":{"NEWER":0.5},"mig":[{"id":1,"profile":"1g","gpm":{"NEWEST":1}}]}'
    )
    frames = (b'{"gpus":[%s],"facts":%s}' % (newer, json.dumps(nvml._FACTS).encode()), b'{"gpus":[%s]}' % newer)
    run("nvml", b"\xff" + b"".join(nvml.framed(one) for one in frames))


def test_a_line_feed_behind_a_programs_name_is_not_shown() -> None:
    run("processes", b"/dev/d/how\n", b"python3\0-m\0vllm\n", b"vllm\0serve\0a/b\n\0--dtype\0auto\n\0--port\01\n")


def test_a_model_servers_error_commands_no_terminal() -> None:
    run("stream", b"\0", b'{"error":{"message":"\\u001b[31mred \\u202e"}}', b'data: {"error":"\\u001b]0;x\\u0007"}\n\n')


@pytest.mark.parametrize(
    ("path", "why"), [("~nobody-of-that-name/x", "there is no user nobody-of-that-name"), ("a\\0b", "zero byte")]
)
def test_a_path_that_cannot_be_is_a_problem_at_its_place(path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"gpumon\.yaml:2:17: .*{why}"):
        loads(f'api:\n  token: {{file: "{path}"}}\n', "gpumon.yaml")


def test_what_stands_between_a_value_and_a_time_makes_a_line_no_sample() -> None:
    reader = ExpositionReader({})
    for line in (
        b'a{b="c\\n"} 2 x{b="c"} 1 1700000000000',
        b"a 1 2 3",
        b'a="b"c{d="e"} 1',
        b'a {b="c"}{d="e"} 1 2',
        b"a 1 x",
        b"NaN ",
        b"1 ",
        b'{"="} 2\t\xff',
    ):
        with pytest.raises(ExpositionError):
            reader.read(line + b"\n")
    for _ in range(2):
        assert reader.read(b'a 1\t1700000000000\n{"q"} 2\t1700000000000\nb\t3\n') == [1.0, 2.0, 3.0]
    assert reader.read(b' a { b = "}\\"" , } 3\t 1700000000000 \n') == [3.0]


def test_a_server_whose_model_is_endlessly_long_is_watched() -> None:
    card = b'120\n{"version":"1","data":[{"id":"m","max_model_len":%s}]}'
    run("answers", card % (b"9" * 400), card % '"²"'.encode())


@pytest.mark.parametrize("text", ["{", "a: [", "a: {b: 1,\n", "- [1, {"])
def test_a_bracket_that_is_not_closed_is_told_where_the_text_ends_with_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^gpumon\.yaml:\d+:\d+: not valid YAML: .* closed\?"):
        loads(text, "gpumon.yaml")


def test_a_number_that_is_too_large_for_a_template_is_refused() -> None:
    for text in ("0x1p99999", "-0x1p99999", "1e99999"):
        with pytest.raises(TemplateError, match="illegal number syntax"):
            number(text)


def test_a_frame_of_a_time_that_no_clock_has_is_refused() -> None:
    frame = Frame(1, 1_700_000_000_000, {"gpu_util_h": Result(({},), [1e30], [[1.0]], reset=True)})
    with pytest.raises(ClientError, match='frame 1, query "gpu_util_h"'):
        SnapshotBuilder(NodeFacts("unix:x")).apply(frame)


def test_a_pattern_that_pythons_engine_would_try_for_ever_takes_no_time_on_a_short_text() -> None:
    run("regex", b"x|(a*)(|a*){233}\0c", b"(?:a?){200}b\0aaaa", b"a?" * 40 + b"\0" + b"a" * 20)
