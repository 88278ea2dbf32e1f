"""What is grouped, held, said again and told after an outage: the notifier with routes, silences and inhibition."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from monitor.matchers import parse_matchers
from monitor.notify.inhibition import InhibitRule
from monitor.notify.message import Message
from monitor.notify.mute_times import TimeInterval
from monitor.notify.records import event_id
from monitor.notify.route import Route
from monitor.notify.sender import SendFailed
from monitor.notify.silences import Silence
from monitor.records import replace
from monitor.rules.transition import Transition
from tests.notify.parts import T0, FakeSender, Time, To, Url, alert, firing, resolved
from tests.notify.test_notifier import OPS, PAGE, Rig, run, series, states

MINUTE = 60_000
HOUR = 60 * MINUTE
AT_ONCE = Route("0", ("ops",), group_by=None, group_wait_ms=0, group_interval_ms=0)
BY_NAME = Route("0", ("ops",), group_wait_ms=30_000, group_interval_ms=5 * MINUTE, repeat_interval_ms=4 * HOUR)


async def pass_time(rig: Rig, milliseconds: int, *transitions: Transition) -> None:
    """Let time go by in steps of an evaluation, with what fires staying as it is."""
    end = rig.time.now_ms + milliseconds
    current = {t.alert.key: t.alert for t in transitions if t.after == "firing"}
    while rig.time.now_ms < end:
        await rig.time.jump(min(end - rig.time.now_ms, max(5_000, milliseconds // 20)))
        await rig.notifier.submit([], current.values(), rig.time())
        await settle(rig)


async def settle(rig: Rig) -> None:
    """Let what can happen now happen, with the clock standing still."""
    before = -1
    while before != len(rig.sender.tried):
        before = len(rig.sender.tried)
        for _ in range(5):
            await asyncio.sleep(0.002)


def silence(rig: Rig, text: str, minutes: int) -> Silence:
    now_ms = rig.time()
    wanted = Silence("", parse_matchers(text), now_ms, now_ms + minutes * MINUTE, "anna", "replacing the fan")
    return rig.notifier.silences.set(wanted, now_ms).silence


def test_alerts_of_one_name_share_a_message_and_their_ends_keep_the_interval(tmp_path: Path) -> None:
    a, b = firing("Hot", gpu="0"), firing("Hot", gpu="1")

    async def body(rig: Rig) -> None:
        await rig.fire(a, b)
        await settle(rig)
        assert rig.sender.sent == [], "the group waits for more"
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        assert rig.time.now_ms == T0 + 30_000
        message = rig.sender.sent[0][1]
        assert message.title.startswith("[FIRING 2]")
        assert message.fields["groupKey"] == '{}:{alertname="Hot"}'
        assert {one["eventId"] for one in message.fields["alerts"]} == {event_id(a), event_id(b)}
        rig.time.now_ms += MINUTE
        end = resolved("Hot", rig.time(), gpu="1")
        await rig.notifier.submit([end], [a.alert], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)
        assert rig.time.now_ms == T0 + 30_000 + 5 * MINUTE
        told = {one["labels"]["gpu"]: one["status"] for one in rig.sender.sent[1][1].fields["alerts"]}
        assert told == {"0": "firing", "1": "resolved"}
        assert rig.sender.sent[1][1].fields["status"] == "firing"

    run(tmp_path, body, route=BY_NAME)
    assert {state for _, _, state in states(tmp_path)} == {"sent"}


def test_what_still_fires_is_said_again_as_it_is_then(tmp_path: Path) -> None:
    a = firing("Hot")

    async def body(rig: Rig) -> None:
        await rig.fire(a)
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        hotter = replace(a.alert, value=97.0)
        await rig.notifier.submit([], [hotter], rig.time())
        await pass_time(rig, 4 * HOUR - 1, replace(a, alert=hotter))
        assert len(rig.sender.sent) == 1
        await pass_time(rig, 1, replace(a, alert=hotter))
        assert len(rig.sender.sent) == 2
        first, again = (message for _, message in rig.sender.sent)
        assert "97" in again.body
        assert again.event_id != first.event_id
        assert again.fields["alerts"][0]["eventId"] == first.fields["alerts"][0]["eventId"]
        await pass_time(rig, 4 * HOUR, a)
        assert len(rig.sender.sent) == 3
        assert "reminder 2" in rig.sender.sent[2][1].body + rig.sender.sent[2][1].title

    run(tmp_path, body, route=BY_NAME)


def test_a_silenced_alert_is_told_when_the_silence_ends(tmp_path: Path) -> None:
    a = firing("Hot")

    async def body(rig: Rig) -> None:
        silence(rig, 'alertname="Hot"', 30)
        await rig.fire(a)
        await settle(rig)
        assert rig.sender.tried == []
        (status,) = rig.notifier.status().receivers
        assert (status.queued, status.held) == (1, 1)
        assert series(rig.notifier)['gpumon_silences{state="active"}'] == 1
        await pass_time(rig, 31 * MINUTE, a)
        assert len(rig.sender.sent) == 1

    run(tmp_path, body, route=AT_ONCE)


def test_one_that_ends_while_it_is_silenced_and_unheard_is_not_told_at_all(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        silence(rig, 'alertname="Hot"', 30)
        await rig.fire(firing("Hot"))
        await rig.fire(resolved("Hot"))
        await pass_time(rig, HOUR)
        assert rig.sender.tried == []
        assert rig.queued() == 0

    run(tmp_path, body, route=AT_ONCE)
    assert states(tmp_path) == [("ops", "firing", "superseded")]


def test_one_that_ends_before_its_commit_has_ended_is_not_told_either(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        silence(rig, 'alertname="Hot"', 30)
        begun = rig.notifier.submit([firing("Hot")], [firing("Hot").alert], T0)
        ended = rig.notifier.submit([resolved("Hot")], [], T0 + 1)
        assert await rig.outbox.load_pending() == [], "nor would a kill -9 make it be told"
        await begun
        await ended
        await pass_time(rig, HOUR)
        assert rig.sender.tried == []
        assert rig.queued() == 0

    run(tmp_path, body, route=AT_ONCE)
    assert states(tmp_path) == [("ops", "firing", "superseded")]


def test_who_heard_of_the_firing_hears_of_the_end_silenced_or_not(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing("Hot"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        silence(rig, 'alertname="Hot"', 30)
        await rig.fire(resolved("Hot"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)
        assert rig.sender.titles[1].startswith("[RESOLVED]")

    run(tmp_path, body, route=AT_ONCE)


def test_what_was_heard_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    async def before(rig: Rig) -> None:
        await rig.fire(firing("Hot"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        made = silence(rig, 'alertname="Hot"', 30)
        assert await rig.notifier.save_silence(made) == ""

    async def after(rig: Rig) -> None:
        assert [one.comment for one in rig.notifier.silences.all()] == ["replacing the fan"]
        assert rig.notifier.suppression(firing("Hot").alert.labels, rig.time()).silenced_by
        await rig.notifier.submit([], [firing("Hot").alert], rig.time())
        await rig.fire(resolved("Hot"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)

    run(tmp_path, before, route=AT_ONCE)
    sender = run(tmp_path, after, route=AT_ONCE, time=Time(T0 + 1_000))
    assert [title.split()[0] for title in sender.titles] == ["[RESOLVED]"]


def test_a_groups_pauses_hold_over_a_restart(tmp_path: Path) -> None:
    a = firing("Hot", gpu="0")

    async def before(rig: Rig) -> None:
        await rig.fire(a)
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)

    async def after(rig: Rig) -> None:
        b = firing("Hot", rig.time(), gpu="1")
        await rig.notifier.submit([b], [a.alert, b.alert], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        assert rig.time.now_ms == T0 + 30_000 + 5 * MINUTE
        assert rig.sender.sent[0][1].title.startswith("[FIRING 2]")

    run(tmp_path, before, route=BY_NAME)
    run(tmp_path, after, route=BY_NAME, time=Time(T0 + MINUTE))


def test_an_inhibited_alert_is_told_when_what_inhibits_it_ends(tmp_path: Path) -> None:
    rule = InhibitRule(parse_matchers('alertname="TooHot"'), parse_matchers('alertname="Hot"'), ("gpu",))
    hot, too_hot = firing("Hot"), firing("TooHot")

    async def body(rig: Rig) -> None:
        await rig.fire(hot, too_hot)
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        await settle(rig)
        assert [title.split()[2] for title in rig.sender.titles] == ["TooHot"]
        assert rig.notifier.suppression(hot.alert.labels, T0).inhibited_by == (too_hot.alert.key,)
        await rig.notifier.submit([resolved("TooHot")], [hot.alert], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 3)
        assert sorted(title.split()[2] for title in rig.sender.titles[1:]) == ["Hot", "TooHot"]

    run(tmp_path, body, route=AT_ONCE, of_policy={"inhibit_rules": (rule,)})


def test_a_mute_time_holds_beginnings_and_ends(tmp_path: Path) -> None:
    # T0 is 22:13 UTC on a Tuesday.
    night = TimeInterval(times=((22 * 60, 23 * 60),))
    route = replace(AT_ONCE, routes=(replace(AT_ONCE, ident="0/0", mute_time_intervals=("night",)),))

    async def body(rig: Rig) -> None:
        rig.time.now_ms = T0 - HOUR
        await rig.notifier.submit([firing("A", T0 - HOUR)], [alert("A", at_ms=T0 - HOUR)], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        rig.time.now_ms = T0
        await rig.notifier.submit([resolved("A", T0), firing("B", T0)], [alert("B", at_ms=T0)], T0)
        await settle(rig)
        assert len(rig.sender.sent) == 1
        await pass_time(rig, HOUR, firing("B", T0))
        assert sorted(title.split()[0] for title in rig.sender.titles[1:]) == ["[FIRING]", "[RESOLVED]"]

    run(tmp_path, body, route=route, time=Time(T0 - HOUR), of_policy={"time_intervals": {"night": (night,)}})


def test_after_an_outage_one_message_tells_the_state(tmp_path: Path) -> None:
    down = True
    route = replace(AT_ONCE, group_interval_ms=1)

    async def body(rig: Rig) -> None:
        nonlocal down
        a, b, c = firing("A"), firing("B"), firing("C")
        await rig.fire(a, b, c)
        await pass_time(rig, 3 * HOUR, a, b, c)
        await rig.notifier.submit([resolved("C", rig.time())], [a.alert, b.alert], rig.time())
        down = False
        await pass_time(rig, 10 * MINUTE, a, b)
        assert rig.queued() == 0

    sender = run(tmp_path, body, route=route, sender=FakeSender(lambda url, message: "down" if down else ""))
    messages = [message for _, message in sender.sent]
    told: dict[str, str] = {}
    for message in messages:
        told |= {one["labels"]["alertname"]: one["status"] for one in message.fields["alerts"]}
    assert told == {"A": "firing", "B": "firing", "C": "resolved"}
    assert len(messages) <= 2
    assert any("could not reach" in message.body for message in messages)


def test_a_pager_is_not_woken_by_a_warning(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing("A", severity="warning"), firing("B", severity="critical", gpu="4"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 3)

    pager = To("page", (Url("pagerduty://key@integration"),))
    sender = run(tmp_path, body, receivers=[OPS, pager], route=["ops", "page"])
    woken = [message.title for url, message in sender.sent if url.startswith("pagerduty")]
    assert [title.split()[2] for title in woken] == ["B"]


def test_while_another_decides_nothing_new_is_told_and_afterwards_all_that_fires(tmp_path: Path) -> None:
    another = True
    a = firing("A")

    async def body(rig: Rig) -> None:
        nonlocal another
        await rig.fire(a)
        await settle(rig)
        assert rig.sender.tried == []
        assert await rig.outbox.load_transitions() == [a], "it is recorded all the same"
        another = False
        await rig.notifier.submit([], [a.alert], T0 + 1_000)
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        another = True
        await rig.fire(resolved("A"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)

    sender = run(tmp_path, body, speaks=lambda: not another)
    assert [title.split()[0] for title in sender.titles] == ["[FIRING]", "[RESOLVED]"]


def test_while_another_decides_what_was_told_is_not_said_again_and_its_end_is_told(tmp_path: Path) -> None:
    another = False
    a, b = firing("A"), firing("A", gpu="1")

    async def body(rig: Rig) -> None:
        nonlocal another
        await rig.notifier.submit([a, b], [a.alert, b.alert], T0)
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        another = True
        await pass_time(rig, 9 * HOUR, a, b)
        assert len(rig.sender.sent) == 1, "reminders are the other's"
        await rig.notifier.submit([resolved("A")], [b.alert], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)
        told = [one["labels"]["gpu"] for one in rig.sender.sent[1][1].fields["alerts"] if one["status"] == "resolved"]
        assert told == ["3"]
        another = False
        await pass_time(rig, 5 * HOUR, b)
        assert [message.fields["reminder"] for _, message in rig.sender.sent[2:]] == [True], "it is ours again"

    run(tmp_path, body, route=BY_NAME, speaks=lambda: not another)


def test_what_another_has_taken_over_before_it_was_told_is_not_told(tmp_path: Path) -> None:
    another = False
    a = firing("A")

    async def body(rig: Rig) -> None:
        nonlocal another
        await rig.fire(a)
        another = True  # within the group's wait
        await pass_time(rig, 10 * MINUTE, a)
        assert rig.sender.tried == []
        await rig.fire(resolved("A"))
        await pass_time(rig, 10 * MINUTE)
        another = False
        await pass_time(rig, 10 * MINUTE)
        assert rig.sender.tried == [], "it is over, and the other has told of it"

    run(tmp_path, body, route=BY_NAME, speaks=lambda: not another)


def test_an_end_of_what_was_never_told_is_not_told(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing("A"))
        await rig.fire(resolved("A"))
        await settle(rig)
        assert rig.sender.tried == []

    run(tmp_path, body, speaks=lambda: False)


def test_a_receivers_retry_after_is_kept(tmp_path: Path) -> None:
    class Limited(FakeSender):
        async def send(self, url: str, message: Message) -> None:
            if not self.tried:
                self.tried.append((url, message))
                raise SendFailed("HTTP 429", retry_after=42.0)
            await super().send(url, message)

    async def body(rig: Rig) -> None:
        await rig.fire(firing("A"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        assert rig.time.now_ms == T0 + 42_000

    run(tmp_path, body, sender=Limited())


def test_other_routes_find_what_waits(tmp_path: Path) -> None:
    slow = replace(BY_NAME, group_wait_ms=HOUR)

    async def body(rig: Rig) -> None:
        await rig.fire(firing("Hot", gpu="0"), firing("Hot", gpu="1"))
        await settle(rig)
        rig.notifier.reload(replace(rig.notifier.policy, route=AT_ONCE))
        await rig.time.drive(lambda: len(rig.sender.sent) == 2, move=False)
        assert all(title.startswith("[FIRING]") for title in rig.sender.titles)

    run(tmp_path, body, route=slow)


def test_an_outbox_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing("A"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)

    async def after(rig: Rig) -> None:
        await rig.notifier.submit([], [firing("A").alert], rig.time())
        await rig.fire(resolved("A"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)

    run(tmp_path, body)
    with sqlite3.connect(tmp_path / "o.db") as connection:
        connection.executescript(
            "DROP TABLE silences; DROP TABLE groups; DROP TABLE reports;"
            "ALTER TABLE deliveries DROP COLUMN failing_since_ms; PRAGMA user_version = 1"
        )
    connection.close()
    sender = run(tmp_path, after)
    assert [title.split()[0] for title in sender.titles] == ["[RESOLVED]"]


def test_a_test_is_sent_to_every_target_and_says_what_came_back(tmp_path: Path) -> None:
    found: list[Any] = []

    async def body(rig: Rig) -> None:
        found.extend(await rig.notifier.test("page"))

    to = To("page", (Url("json://good"), Url("json://bad")))
    sender = FakeSender(lambda url, message: "HTTP 404" if "bad" in url else "")
    run(tmp_path, body, sender=sender, receivers=[PAGE, to], route=["page"])
    assert [(one.target, one.reason) for one in found] == [("json", ""), ("json", "HTTP 404")]


def test_a_test_of_a_service_that_keeps_incidents_is_closed_again(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        assert [one.reason for one in await rig.notifier.test("page")] == [""]
        await rig.notifier.test("ops")

    pager = To("page", (Url("pagerduty://key@integration"),))
    sender = run(tmp_path, body, receivers=[OPS, pager], route=["page", "ops"])
    told = [(url.partition(":")[0], message.resolved, message.key) for url, message in sender.sent]
    assert [(scheme, resolved) for scheme, resolved, _ in told] == [
        ("pagerduty", False),
        ("pagerduty", True),
        ("json", False),
    ]
    assert len({key for scheme, _, key in told if scheme == "pagerduty"}) == 1


def test_what_was_held_for_longer_than_is_tried_is_not_given_up_at_once(tmp_path: Path) -> None:
    a = firing("Hot")

    async def body(rig: Rig) -> None:
        silence(rig, 'alertname="Hot"', 30)
        await rig.fire(a)
        await pass_time(rig, 31 * MINUTE, a)
        await rig.time.drive(lambda: bool(rig.sender.sent))
        assert rig.notifier.status().dead == 0

    failures = ["down", "down"]
    sender = FakeSender(lambda url, message: failures.pop() if failures else "")
    run(tmp_path, body, route=AT_ONCE, sender=sender, give_up_ms=20 * MINUTE)


def test_who_wants_no_ends_hears_nothing_of_what_came_and_went_in_a_silence(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing("Hot"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        await rig.fire(resolved("Hot"))
        silence(rig, 'alertname="Hot"', 30)
        await rig.fire(firing("Hot", T0 + 2 * MINUTE))
        await rig.fire(resolved("Hot", T0 + 3 * MINUTE))
        await pass_time(rig, HOUR)
        assert rig.queued() == 0
        assert len(rig.sender.sent) == 1

    run(tmp_path, body, route=AT_ONCE, receivers=[To("ops", OPS.apprise, send_resolved=False)])


def test_who_heard_of_a_firing_and_not_of_its_end_is_known_after_a_restart(tmp_path: Path) -> None:
    async def before(rig: Rig) -> None:
        await rig.fire(firing("Hot"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        await rig.fire(resolved("Hot"))
        await rig.time.drive(lambda: len(rig.sender.tried) == 2)

    async def after(rig: Rig) -> None:
        silence(rig, 'alertname="Hot"', 30)
        await rig.fire(firing("Hot", T0 + 2 * MINUTE))
        await rig.fire(resolved("Hot", T0 + 3 * MINUTE))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1, move=False)

    run(tmp_path, before, route=AT_ONCE, sender=FakeSender(lambda url, message: "down" * ("RESOLVED" in message.title)))
    # What is left over of the first is still refused when the second takes its place.
    first = event_id(resolved("Hot"))
    sender = FakeSender(lambda url, message: "down" if message.event_id == first else "")
    run(tmp_path, after, route=AT_ONCE, sender=sender, time=Time(T0 + 2 * MINUTE))
    assert [title.split()[0] for title in sender.titles] == ["[RESOLVED]"]


def test_a_reload_that_takes_an_alert_from_a_receiver_ends_its_reminders(tmp_path: Path) -> None:
    a = firing("Hot")

    async def body(rig: Rig) -> None:
        await rig.fire(a)
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        rig.notifier.reload(replace(rig.notifier.policy, route=replace(BY_NAME, receivers=("page",))))
        await pass_time(rig, 5 * HOUR, a)
        assert [url for url, _ in rig.sender.sent] == ["json://ops", "json://page", "json://page"]
        await rig.notifier.submit([resolved("Hot", rig.time())], [], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 5)

    run(tmp_path, body, route=BY_NAME, receivers=[OPS, PAGE])


def test_one_of_two_targets_that_is_down_makes_the_other_hear_nothing_twice(tmp_path: Path) -> None:
    def fail(url: str, message: Message) -> str:
        return "down" if url == "json://down" else ""

    sender = FakeSender(fail)

    async def body(rig: Rig) -> None:
        a, b = firing("A"), firing("B", T0 + 30 * MINUTE)
        await rig.fire(a)
        await pass_time(rig, 30 * MINUTE, a)
        await rig.notifier.submit([b], [a.alert, b.alert], rig.time())
        await pass_time(rig, 9 * HOUR, a, b)

    receiver = To("ops", (Url("json://up"), Url("json://down")))
    run(tmp_path, body, receivers=[receiver], route=AT_ONCE, sender=sender)
    heard = [message for _, message in sender.sent]
    news = [one["labels"]["alertname"] for m in heard if not m.fields["reminder"] for one in m.fields["alerts"]]
    assert news == ["A", "B"]
    assert not any("could not reach" in message.body for message in heard), "it could be reached"
    assert len(heard) - len(news) <= 4, "two reminders each"


def test_what_another_decided_does_not_pass_for_told(tmp_path: Path) -> None:
    another = False
    receiver = To("ops", OPS.apprise, send_resolved=False)

    async def before(rig: Rig) -> None:
        await rig.fire(firing("A"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        await rig.fire(resolved("A"))

    async def after(rig: Rig) -> None:
        nonlocal another
        again = firing("A", T0 + HOUR)
        another = True
        await rig.fire(again)
        another = False
        await rig.notifier.submit([], [again.alert], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)

    run(tmp_path, before, route=AT_ONCE, receivers=[receiver])
    run(tmp_path, after, route=AT_ONCE, receivers=[receiver], time=Time(T0 + HOUR), speaks=lambda: not another)


def test_a_receiver_that_comes_back_keeps_what_it_is_owed_over_a_restart(tmp_path: Path) -> None:
    a = firing("A")

    async def before(rig: Rig) -> None:
        await rig.fire(a)
        await rig.time.drive(lambda: len(rig.sender.tried) == 1, move=False)
        known = rig.notifier.policy
        rig.notifier.reload(replace(known, receivers=(), route=None))
        rig.notifier.reload(known)
        await rig.notifier.submit([], [a.alert], rig.time())
        await settle(rig)

    async def after(rig: Rig) -> None:
        await rig.notifier.submit([], [a.alert], rig.time())
        await rig.time.drive(lambda: len(rig.sender.sent) == 1, move=False)

    run(tmp_path, before, route=AT_ONCE, sender=FakeSender(lambda url, message: "down"))
    run(tmp_path, after, route=AT_ONCE, time=Time(T0 + 1_000))
