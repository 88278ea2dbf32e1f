"""Silences as a person writes them: what cannot be meant, what is sent, and what they hold."""

from __future__ import annotations

import pytest

from monitor.client.alertmanager import SilenceMatcher, SilenceRow
from monitor.client.silences import Draft, DraftError, LabelMatcher, held, matchers_of
from monitor.client.snapshot import Alert

NOW_MS = 1_700_000_000_000
HOT = LabelMatcher("alertname", "=", "Hot")


def draft(*matchers: LabelMatcher, lasting: str = "2h", comment: str = "fan", creator: str = "ann") -> Draft:
    return Draft(matchers or (HOT,), lasting, comment, creator)


def alert(**labels: str) -> Alert:
    return Alert(labels.get("alertname", ""), "firing", "", None, "", "", labels, "")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (Draft((), "2h", "fan", "ann"), "no matcher is on"),
        (draft(LabelMatcher("rack", "!=", "a")), "silence everything"),
        (draft(LabelMatcher("rack", "=", ""), LabelMatcher("gpu", "=~", ".*")), "silence everything"),
        (draft(lasting="soon"), "“soon” is no duration"),
        (draft(lasting="0"), "is no duration"),
        (draft(lasting=""), "is no duration"),
        (draft(lasting="99y"), "longer than ten years"),
        (draft(comment="  "), "say why"),
        (draft(creator=""), "say who"),
    ],
)
def test_what_cannot_be_meant_is_said(wrong: Draft, why: str) -> None:
    with pytest.raises(DraftError, match=why):
        wrong.wanted(NOW_MS)


def test_a_new_one_begins_now() -> None:
    matchers = (HOT, LabelMatcher("gpu", "!~", "3|4"))
    wanted = draft(*matchers, lasting="1d 12h", comment=" fan ").wanted(NOW_MS)
    assert wanted.matchers == (
        SilenceMatcher("alertname", "Hot"),
        SilenceMatcher("gpu", "3|4", is_regex=True, is_equal=False),
    )
    assert (wanted.starts_at, wanted.ends_at) == ("2023-11-14T22:13:20.000Z", "2023-11-16T10:13:20.000Z")
    assert (wanted.comment, wanted.created_by, wanted.id) == ("fan", "ann", "")


def test_one_that_is_changed_keeps_its_begin() -> None:
    def wanted(starts_at: str) -> tuple[str, str]:
        one = Draft((HOT,), "1h", "fan", "ann", "abc", starts_at).wanted(NOW_MS)
        assert one.id == "abc"
        return one.starts_at, one.ends_at

    assert wanted("2023-11-14T20:00:00Z") == ("2023-11-14T20:00:00Z", "2023-11-14T23:13:20.000Z")
    assert wanted("2023-11-15T20:00:00Z") == ("2023-11-15T20:00:00Z", "2023-11-15T21:00:00.000Z")


def test_matchers_come_and_go_unchanged_and_hold_what_all_of_them_match() -> None:
    rows = tuple(
        SilenceMatcher(name, value, is_regex=regex, is_equal=equal)
        for name, value, regex, equal in (("a", "1", False, True), ("b", "2", False, False), ("c", "3|4", True, True))
    )
    matchers = matchers_of(SilenceRow("x", rows))
    assert [one.op for one in matchers] == ["=", "!=", "=~"]
    meant, other = alert(a="1", c="4"), alert(a="1", b="2", c="4")
    assert held(matchers, [meant, other]) == [meant]
    assert held((), [meant]) == []
