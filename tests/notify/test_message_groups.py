"""Messages of several alerts, reminders, and the one that tells the state after an outage."""

from __future__ import annotations

import re

import pytest

from monitor.notify.message import render
from monitor.records import replace
from monitor.samples import labels_of
from tests.notify.wire import T0, alert_of, begins, ends, graph, kv_cache_full, notice

FULL, OTHER = kv_cache_full(), kv_cache_full(server="node7:8001")
WARM = alert_of("GpuHot", {"summary": "GPU 3 is warm"}, 86.0, labels={"severity": "warning", "gpu": "3"})


def test_the_title_has_status_count_severity_name_node_and_place() -> None:
    assert render(notice(begins(FULL))).title == "[FIRING] critical: KvCacheFull on node7 (server node7:8000)"
    both = render(notice(begins(FULL), begins(OTHER)))
    assert both.title == "[FIRING 2] critical: KvCacheFull on node7 (server node7:8000, node7:8001)"
    mixed = render(notice(begins(WARM), ends(FULL)))
    assert mixed.title == "[FIRING 1, RESOLVED 1] warning: GpuHot, KvCacheFull on node7 (gpu 3, server node7:8000)"


def test_a_title_of_many_is_short() -> None:
    many = [alert_of(f"Rule{n}", {}, 1.0, labels={"severity": "warning", "gpu": str(n)}) for n in range(40)]
    title = render(notice(*map(begins, many))).title
    assert title == "[FIRING 40] warning: Rule0, Rule1, Rule2 and 37 more on node7 (gpu 0, 1, 2, 3 and 36 more)"


@pytest.mark.parametrize(
    ("entries", "kind", "resolved", "closes", "severity"),
    [
        ([begins(FULL), ends(OTHER)], "failure", False, False, "critical"),
        ([begins(WARM), ends(FULL)], "warning", False, False, "warning"),
        ([ends(FULL), ends(OTHER)], "success", True, True, "critical"),
        ([ends(FULL), ends(OTHER, "data gone: vllm")], "warning", True, False, "critical"),
        ([ends(FULL, "rule removed")], "warning", True, True, "critical"),
    ],
)
def test_how_bad_it_is_and_whether_it_is_over(
    entries: list[object], kind: str, resolved: bool, closes: bool, severity: str
) -> None:
    message = render(notice(*entries))  # type: ignore[arg-type]
    assert (message.notify_type, message.resolved, message.closes, message.severity) == (
        kind,
        resolved,
        closes,
        severity,
    )


def test_the_body_tells_each_and_ends_with_all_ids() -> None:
    entries = (begins(FULL), begins(WARM, new=False), ends(OTHER))
    body = render(notice(*entries)).body
    lines = body.splitlines()
    assert "FIRING critical: KvCacheFull (server node7:8000)" in lines
    assert "STILL FIRING warning: GpuHot (gpu 3)" in lines
    assert "RESOLVED critical: KvCacheFull (server node7:8001)" in lines
    assert f"It was: {OTHER.annotations['summary']}" in lines
    assert body.count("Action: ") == 1
    assert lines[-1] == "Event: " + ", ".join(entry.event_id for entry in entries)


def test_every_alert_of_a_great_many_has_its_id_and_the_body_a_bound() -> None:
    entries = [begins(kv_cache_full(server=f"node7:{n}")) for n in range(300)]
    message = render(notice(*entries))
    last = message.body.splitlines()[-1]
    assert all(entry.event_id in last for entry in entries)
    assert len(message.body) - len(last) < 8_100
    assert len(message.html) < 60_000
    assert len(message.markdown) < 6_100
    assert "and 232 more" in message.body + message.html


def test_of_a_great_many_each_line_says_which_it_is() -> None:
    """In a group by the alert's name all have the same, and the place may be a label of somebody's own."""
    one = {"severity": "critical"}
    many = [alert_of("Rack", {"summary": f"rack {n} is dark"}, 1.0, labels=one | {"rack": f"r{n}"}) for n in range(300)]
    message = render(notice(*map(begins, many)))
    assert "FIRING critical: Rack: rack 30 is dark" in message.body
    assert "FIRING critical: Rack: rack 30 is dark" in message.html
    assert "rack 20 is dark" in message.markdown
    assert "more\nEvent: " in message.body
    bare = [alert_of("Rack", {}, 1.0, labels=one | {"rack": f"r{n}"}) for n in range(20)]
    assert "FIRING critical: Rack: rack=r15" in render(notice(*map(begins, bare))).body


def test_a_reminder_says_so_and_which() -> None:
    message = render(notice(begins(FULL, new=False), reminder=2))
    assert message.title.startswith("[FIRING, reminder 2] critical: ")
    assert message.body.startswith("Still firing, reminder 2.\n")
    assert message.fields["reminder"] == 2
    assert "reminder 2" in message.html
    assert "reminder 2" in message.markdown


def test_after_an_outage_it_is_said_how_long() -> None:
    message = render(notice(begins(FULL), unreachable_since_ms=T0 - 11_400_000))
    line = "gpumon could not reach this receiver for 3h 10m; this is the state now."
    assert message.body.splitlines()[0] == line
    assert line in message.html
    assert message.slack[0]["pretext"] == f"_{line}_"


def test_an_event_that_is_not_on_the_disk_says_so_in_every_form() -> None:
    message = render(notice(begins(FULL), unrecorded=True))
    assert "unrecorded" in message.body
    assert message.body.splitlines()[-1].startswith("Event: ")
    assert all("unrecorded" in text for text in (message.html, message.markdown, message.slack[0]["pretext"]))


def test_the_key_is_the_groups_and_the_nodes() -> None:
    keys = {
        render(notice(begins(FULL))).key,
        render(notice(ends(FULL))).key,
        render(notice(begins(FULL), begins(OTHER), now_ms=T0 + 5, ident="f" * 24, reminder=3)).key,
    }
    assert len(keys) == 1
    others = {render(notice(begins(FULL), node="node8")).key, render(notice(begins(FULL), group_key="{}:{}")).key}
    assert len(keys | others) == 3


def test_a_notice_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        render(notice())


def test_what_an_sms_says_is_one_line() -> None:
    assert render(notice(begins(FULL))).brief.startswith("The KV cache of node7:8000 is 97 % full, and 14 requests")
    assert render(notice(ends(FULL))).brief.startswith("It was: ")
    bare = alert_of("Bare", {"action": "one\ntwo"}, 1.0, labels={"severity": "critical"})
    assert render(notice(begins(bare))).brief == "critical: Bare Action: one two"


def test_the_colour_of_a_mail_is_that_of_the_worst_that_fires() -> None:
    head = '<tr><td style="background:'
    assert f"{head}#b3261e" in render(notice(begins(WARM), begins(FULL), ends(OTHER))).html
    assert f"{head}#b25e00" in render(notice(begins(WARM), ends(FULL))).html
    assert f"{head}#1a7f37" in render(notice(ends(FULL))).html
    assert f"{head}#59636e" in render(notice(ends(FULL, "data gone: vllm"))).html


def test_graphs_have_their_place() -> None:
    assert "<!--graph 0-->" in render(notice(begins(FULL), graphs=(graph(),))).html
    assert "<!--graph" not in render(notice(begins(FULL))).html


HOSTILE = "<!channel> <@U012AB3CD> @here </td><script>x</script> \"'&amp; `a` *b* [l](javascript:1) \x1b[31m\u202e"


@pytest.fixture
def hostile() -> object:
    """A notice in which everything that comes from outside means harm."""
    alert = replace(
        FULL,
        rule=HOSTILE,
        labels=labels_of({"alertname": HOSTILE, "severity": HOSTILE, "server": HOSTILE, HOSTILE: HOSTILE}),
        annotations={
            "summary": HOSTILE,
            "description": f"{HOSTILE}\n{HOSTILE}",
            "action": HOSTILE,
            HOSTILE: HOSTILE,
            "runbook_url": 'https://x/"onmouseover="alert(1)',
        },
    )
    return notice(begins(alert), ends(alert, HOSTILE), node=HOSTILE, external_url=HOSTILE)


def test_hostile_text_is_text_in_html(hostile: object) -> None:
    html = render(hostile).html  # type: ignore[arg-type]
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "</td><script" not in html
    assert 'href="javascript' not in html
    assert '"onmouseover' not in html
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_nobody_is_called_by_hostile_text_in_a_chat(hostile: object) -> None:
    message = render(hostile)  # type: ignore[arg-type]
    for attachment in message.slack:
        for found in _texts(attachment):
            text = re.sub(r"^<https://x/[^<>|@!]*\|[^<>|@!]*>$", "", found)  # a link to where the runbook is
            assert "<" not in text
            assert ">" not in text
            assert "@here" not in text
            assert "@U0" not in text
            assert "!channel" not in text
            assert "\x1b" not in text
    assert "@here" not in message.markdown
    assert "<@U0" not in message.markdown
    assert "<!channel" not in message.markdown
    # Outside of code, marks are escaped.
    assert "\\[l\\](javascript:1)" in message.markdown
    assert "\\*b\\*" in message.markdown


def test_what_is_harmless_is_left_as_it_is_in_slack() -> None:
    (attachment,) = render(notice(begins(FULL))).slack
    assert attachment["title"] == "[FIRING] critical: KvCacheFull on node7 (server node7:8000)"
    assert attachment["color"] == "#b3261e"
    assert attachment["text"].splitlines()[0] == FULL.annotations["summary"]
    assert "*What to do:* Send less traffic to this replica, or lower `--max-num-seqs`." in attachment["text"]
    fields = {field["title"]: field["value"] for field in attachment["fields"]}
    assert fields["Value"] == "97.2"
    assert fields["Since"] == "22:08:20 UTC (5m ago)"
    assert "`server=node7:8000`" in fields["Labels"]
    assert not [text for text in _texts(attachment) if "&" in text]


def test_a_runbooks_address_is_a_link_in_every_form() -> None:
    """Also that of a node, which has a port and no dot."""
    url = "http://h200-07:9519/runbooks/KvCacheFull"
    alert = replace(FULL, annotations={**FULL.annotations, "runbook_url": url})
    message = render(notice(begins(alert)))
    (attachment,) = message.slack
    (field,) = [one for one in attachment["fields"] if one["title"] == "Runbook"]
    assert field == {"title": "Runbook", "value": f"<{url}|h200-07:9519/runbooks/KvCacheFull>", "short": False}
    assert f'<a href="{url}"' in message.html
    assert f"**Runbook** {url}" in message.markdown
    assert f"Runbook: {url}" in message.body
    assert message.fields["commonAnnotations"]["runbook_url"] == url
    long = "https://wiki.example.com/" + "a" * 300
    (attachment,) = render(notice(begins(replace(FULL, annotations={"runbook_url": long})))).slack
    (field,) = [one for one in attachment["fields"] if one["title"] == "Runbook"]
    assert field["value"].startswith(f"<{long}|wiki.example.com/aaa")
    assert field["value"].endswith("a…>")
    assert len(field["value"]) < len(long) + 90


def test_slack_gets_five_alerts_and_a_list() -> None:
    message = render(notice(*(begins(kv_cache_full(server=f"node7:{n}")) for n in range(9))))
    assert len(message.slack) == 6
    assert message.slack[0]["pretext"].startswith("*[FIRING 9] critical: KvCacheFull on node7")
    assert len(message.slack[-1]["text"].splitlines()) == 4


def _texts(attachment: object) -> list[str]:
    if isinstance(attachment, str):
        return [attachment]
    if isinstance(attachment, dict):
        return [text for value in attachment.values() for text in _texts(value)]
    if isinstance(attachment, list):
        return [text for value in attachment for text in _texts(value)]
    return []
