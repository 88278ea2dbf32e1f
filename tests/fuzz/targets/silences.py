"""Silences as they are posted to Alertmanager's API, and as the state directory keeps them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from monitor import told
from monitor.api.alertmanager_forms import Refused, posted_silence, silence_json
from monitor.api.http import json_response
from monitor.matchers import format_matchers, parse_matchers
from monitor.notify.silences import SilenceError, Silences, from_json, to_json
from monitor.samples import labels_of
from tests.fuzz.target import Broken, Target, text_of

_NOW_MS = 1_800_000_000_000
_LABELS = labels_of({"alertname": "Hot", "gpu": "3", "severity": "critical"})


def run(data: bytes) -> None:
    """As a body, and as what was kept. One that is taken silences, is shown, kept, and read back the same."""
    with contextlib.suppress(SilenceError):
        from_json(text_of(data))
    try:
        wanted = posted_silence(data)
    except Refused as refused:
        json_response(refused.body, refused.status)
        return
    silences = Silences()
    try:
        change = silences.set(wanted, _NOW_MS)
    except SilenceError as error:
        json_response(str(error))
        return
    made = change.silence
    json_response(silence_json(made, _NOW_MS))
    silences.silenced_by(_LABELS, _NOW_MS)
    if from_json(to_json(made)) != made:
        raise Broken(f"kept and read back it is another: {made}")
    if parse_matchers(format_matchers(made.matchers)) != made.matchers:
        raise Broken(f"its matchers, written, are others: {format_matchers(made.matchers)!r}")
    event = told.silenced(_NOW_MS, made)
    if not event.title.isprintable():
        raise Broken(f"an event that a terminal would obey: {event.title!r}")
    silences.expire(made.id, _NOW_MS)


def seeds() -> Iterable[bytes]:
    """As amtool, Grafana and people post them, and one that was kept."""
    times = '"startsAt":"2027-01-15T08:00:00Z","endsAt":"2027-01-15T10:00:00.123456789+01:00"'
    for matcher in (
        '{"name":"alertname","value":"Hot","isRegex":false}', '{"name":"gpu","value":"[0-3]+","isRegex":true,"isEqual":false}',
        '{"name":"a b","value":"\\u001b[31m\\n","isRegex":false,"isEqual":true}', '{"name":"x","value":"(a+)+$","isRegex":true}',
    ):  # fmt: skip
        yield f'{{"matchers":[{matcher}],{times},"createdBy":"me","comment":"c","id":null}}'.encode()
    yield f'{{"id":"8ee7cbe0-3a5b-4b7c-9c6a-0b8a1f0c9d1e","matchers":[],{times}}}'.encode()
    yield b'{"id":"a","matchers":[["gpu","=~","0|1"]],"starts_at_ms":1,"ends_at_ms":2,"created_by":"","comment":"","updated_at_ms":1}'
    yield b"null"


TARGET = Target(
    what="silences that are posted, and those that were kept",
    promise="one that is taken is read back the same from where it is kept; nothing a terminal obeys",
    modules=("monitor.api.alertmanager_forms", "monitor.notify.silences", "monitor.matchers"),
    run=run,
    seeds=seeds,
    words=('"matchers":[', '"isRegex":true', '"isEqual":false', '"name":"', '"value":"', '"startsAt":"', '"endsAt":"',
           '"createdBy":"', "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2027-01-15T10:00:00Z", "null", "\\u0000"),
    longest=800,
)  # fmt: skip
