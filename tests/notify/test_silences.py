"""Silences with moved time: what Alertmanager does, over restarts too."""

from __future__ import annotations

import uuid

import pytest

from monitor.matchers import parse_matchers
from monitor.notify.silences import (
    RETENTION_MS,
    Silence,
    SilenceError,
    Silences,
    UnknownSilence,
    from_json,
    to_json,
)
from monitor.records import replace

HOUR = 3600_000
T0 = 1_700_000_000_250
HOT = (("alertname", "GpuTooHot"), ("gpu", "3"), ("severity", "critical"))
LOST = (("alertname", "GpuLost"), ("gpu", "3"))


def wanted(
    matchers: str = 'alertname="GpuTooHot"', *, ident: str = "", start: int = T0, end: int = T0 + HOUR
) -> Silence:
    return Silence(ident, parse_matchers(matchers), start, end, "kim", "fan is being replaced")


def made(silences: Silences, *, matchers: str = 'alertname="GpuTooHot"', now_ms: int = T0) -> Silence:
    return silences.set(wanted(matchers, start=now_ms, end=now_ms + HOUR), now_ms).silence


def test_a_silence_gets_an_id_and_holds_from_its_start_up_to_its_end() -> None:
    silences = Silences()
    one = silences.set(wanted(start=T0 + 10, end=T0 + 20), T0).silence
    assert uuid.UUID(one.id).version == 4
    assert (one.created_by, one.comment, one.updated_at_ms) == ("kim", "fan is being replaced", T0)
    states = {at: one.state(T0 + at) for at in (9, 10, 19, 20)}
    assert states == {9: "pending", 10: "active", 19: "active", 20: "expired"}
    assert [silences.silenced_by(HOT, T0 + at) for at in (9, 10, 19, 20)] == [(), (one.id,), (one.id,), ()]
    assert silences.silenced_by(LOST, T0 + 10) == ()


def test_a_start_in_the_past_becomes_now() -> None:
    assert Silences().set(wanted(start=T0 - HOUR), T0).silence.starts_at_ms == T0


def test_every_silence_that_means_an_alert_is_told_in_order() -> None:
    silences = Silences()
    both = [made(silences, matchers=text).id for text in ('gpu=~"[0-3]"', 'severity!="warning",gpu!=""')]
    other = made(silences, matchers='gpu="7"')
    assert silences.silenced_by(HOT, T0) == tuple(sorted(both))
    assert other.id not in silences.silenced_by(HOT, T0)


def test_what_is_asked_again_sees_silences_that_came_and_went_meanwhile() -> None:
    silences = Silences()
    assert silences.silenced_by(HOT, T0) == ()
    one = made(silences)
    assert silences.silenced_by(HOT, T0) == (one.id,)
    silences.expire(one.id, T0 + 5)
    assert silences.silenced_by(HOT, T0 + 5) == ()
    assert silences.prune(T0 + 5 + RETENTION_MS) == (one.id,)
    assert silences.silenced_by(HOT, T0 + 6) == ()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (wanted("{}"), "at least one matcher required"),
        (wanted('gpu=~".*"'), "must not match the empty string"),
        (wanted('gpu!="1",server=""'), "must not match the empty string"),
        (wanted(start=T0 + 5, end=T0 + 5), "start time must be before end time"),
        (wanted(start=T0 + 5, end=T0 + 4), "start time must be before end time"),
        (wanted(start=T0 - 9, end=T0 - 5), "end time can't be in the past"),
        (wanted(ident="0b7a4d0e-0000-4000-8000-000000000000"), "not found"),
        (wanted(ident="nonsense"), "nonsense not found"),
    ],
)
def test_what_is_no_silence_is_refused_and_changes_nothing(bad: Silence, words: str) -> None:
    silences = Silences()
    with pytest.raises(SilenceError, match=words):
        silences.set(bad, T0)
    assert silences.all() == []


def test_one_matcher_that_needs_a_label_is_enough() -> None:
    assert Silences().set(wanted('gpu=~".*",alertname="X"'), T0).silence.matchers


def test_an_active_silences_end_and_comment_change_in_place() -> None:
    silences = Silences()
    one = made(silences)
    # A client that shows whole seconds sends the start back without its milliseconds.
    asked = replace(one, starts_at_ms=one.starts_at_ms - 250, ends_at_ms=T0 + 2 * HOUR, comment="longer")
    change = silences.set(asked, T0 + 60_000)
    assert change.replaced is None
    assert change.silence == replace(one, ends_at_ms=T0 + 2 * HOUR, comment="longer", updated_at_ms=T0 + 60_000)
    assert silences.all() == [change.silence]


def test_the_order_of_matchers_is_no_change() -> None:
    silences = Silences()
    one = made(silences, matchers='gpu="3",alertname="GpuTooHot"')
    turned = replace(one, matchers=one.matchers[::-1])
    assert silences.set(turned, T0 + 1).silence.id == one.id


@pytest.mark.parametrize(
    "change", [{"matchers": parse_matchers('gpu="3"')}, {"starts_at_ms": T0 + 30_000}], ids=["matchers", "start"]
)
def test_any_other_change_of_an_active_silence_ends_it_and_makes_a_new_one(change: dict[str, object]) -> None:
    silences = Silences()
    one = made(silences)
    done = silences.set(replace(one, **change), T0 + 10_000)  # type: ignore[arg-type]
    assert done.replaced is not None
    assert (done.replaced.id, done.replaced.ends_at_ms) == (one.id, T0 + 10_000)
    assert done.silence.id != one.id
    assert silences.all() == [done.replaced, done.silence]


def test_a_pending_silence_may_start_at_another_time_from_now_on() -> None:
    silences = Silences()
    one = silences.set(wanted(start=T0 + HOUR, end=T0 + 2 * HOUR), T0).silence
    moved = silences.set(replace(one, starts_at_ms=T0 + 60_000), T0 + 10).silence
    assert (moved.id, moved.starts_at_ms) == (one.id, T0 + 60_000)
    back = silences.set(replace(one, starts_at_ms=T0), T0 + 10)
    assert back.silence.id != one.id
    assert back.silence.starts_at_ms == T0 + 10
    assert back.replaced is not None
    # It never held, and nothing says that it did.
    assert back.replaced.starts_at_ms == back.replaced.ends_at_ms == T0 + 10


def test_an_expired_silence_stays_as_it_was_when_it_is_changed() -> None:
    silences = Silences()
    one = made(silences)
    again = silences.set(replace(one, ends_at_ms=T0 + 3 * HOUR), T0 + 2 * HOUR)
    assert again.replaced is None
    assert again.silence.id != one.id
    assert silences.get(one.id) == one


def test_a_refused_change_leaves_the_silence_as_it_is() -> None:
    silences = Silences()
    one = made(silences)
    with pytest.raises(SilenceError):
        silences.set(replace(one, ends_at_ms=T0 + 5), T0 + 10)
    assert silences.all() == [one]


def test_expiring_ends_it_once() -> None:
    silences = Silences()
    one = made(silences)
    ended = silences.expire(one.id, T0 + 7)
    assert (ended.starts_at_ms, ended.ends_at_ms, ended.state(T0 + 7)) == (T0, T0 + 7, "expired")
    with pytest.raises(SilenceError, match=f"{one.id} already expired"):
        silences.expire(one.id, T0 + 8)
    with pytest.raises(UnknownSilence, match="nothing not found"):
        silences.expire("nothing", T0)


def test_an_old_silence_is_forgotten_after_its_retention() -> None:
    silences = Silences()
    one = made(silences)
    young = made(silences, now_ms=T0 + HOUR)
    end = T0 + HOUR
    assert silences.prune(end + RETENTION_MS - 1) == ()
    assert silences.prune(end + RETENTION_MS) == (one.id,)
    assert silences.all() == [young]


def test_a_silence_comes_back_from_the_disk_as_it_was() -> None:
    silences = Silences()
    one = silences.set(
        Silence("", parse_matchers('{gpu=~"[01]\\"x",server!="ü",a!~"b"}'), T0, T0 + HOUR, "kim", "two\nlines"), T0
    ).silence
    text = to_json(one)
    assert "\n" not in text
    assert from_json(text) == one
    back = Silences()
    back.load([from_json(text)])
    assert back.all() == [one]


def test_loading_never_brings_an_older_state_back() -> None:
    silences = Silences()
    one = made(silences)
    ended = silences.expire(one.id, T0 + 5)
    silences.load([one])
    assert silences.all() == [ended]
    other = Silences([one])
    other.load([ended])
    assert other.silenced_by(HOT, T0 + 5) == ()


@pytest.mark.parametrize("text", ["", "{}", '{"id": 1}', to_json(wanted()).replace('"="', '"=="'), "[]"])
def test_what_is_no_kept_silence_says_so(text: str) -> None:
    with pytest.raises(SilenceError, match="cannot be read"):
        from_json(text)


def test_there_is_an_end_to_how_many_silences_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.notify.silences.MAX_SILENCES", 2)
    silences = Silences()
    one, _ = made(silences), made(silences)
    with pytest.raises(SilenceError, match="2 silences already"):
        made(silences)
    assert silences.set(replace(one, comment="still"), T0 + 1).silence.id == one.id
