"""What apprise's services are sent, as it comes over the wire: the child and apprise are real, the server is ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from monitor.notify.message import render
from monitor.notify.sender import SendFailed
from monitor.records import replace
from tests.notify.wire import Answer, Request, begins, ends, graph, kv_cache_full, notice, send_all, wire

FULL = kv_cache_full()
FIRING = render(notice(begins(FULL)))
REMINDER = render(notice(begins(FULL, new=False), ident="a" * 24, reminder=1))
PARTLY = render(notice(begins(FULL, new=False), ends(kv_cache_full("node7:8001")), ident="b" * 24))
GONE = render(notice(ends(FULL, "data gone: vllm node7:8000"), ident="c" * 24))
RESOLVED = render(notice(ends(FULL), ident="d" * 24))

ACCEPTED = Answer(202, b'{"requestId": "r1"}')


def told(url: str, *messages: Any, answer: Answer | None = None) -> list[Request]:
    """What arrives when messages are sent, all of which succeed."""
    with wire(lambda request: answer or Answer()) as server:
        assert send_all(server.host, url, messages) == [None] * len(messages)
        return server.requests


@pytest.mark.parametrize(
    ("url", "answer", "key", "state", "begun", "over"),
    [
        ("pagerduty://INTKEY1234567890@APIKEY1234", Answer(202), "dedup_key", "event_action", "trigger", "resolve"),
        ("squadcast://abcdef0123456789", Answer(202), "event_id", "status", "trigger", "resolve"),
        ("ilert://abcdef0123456789", Answer(202), "alertKey", "eventType", "ALERT", "RESOLVE"),
        ("goalert://goalert.example/abcdef01-2345-6789-abcd-ef0123456789", None, "dedup", "action", None, "close"),
        ("firehydrant://abcdef0123456789", Answer(202), "idempotency_key", "status", "OPEN", "CLOSED"),
        ("signl4://abcdef0123456789", None, "X-S4-ExternalID", "X-S4-Status", None, "resolved"),
        ("pagertree://int_0123456789ab", None, "id", "event_type", "create", "resolve"),
        ("splunk://routing@abcdef01-2345-6789-abcd-ef0123456789", None, "entity_id", "message_type", "CRITICAL",
         "RECOVERY"),
        ("incidentio://01GW2G3V0S59R238FAHPDS1R66/abcdef0123456789abcdef", Answer(202), "deduplication_key", "status",
         "firing", "resolved"),
    ],
)  # fmt: skip
def test_an_incident_is_one_from_firing_to_its_end(
    url: str, answer: Answer | None, key: str, state: str, begun: str | None, over: str
) -> None:
    came = [request.json for request in told(url, FIRING, PARTLY, RESOLVED, answer=answer)]
    assert [one[key] for one in came] == [FIRING.key] * 3
    assert [one.get(state) for one in came] == [begun, begun, over]


def test_pagerduty_is_told_all_that_matters_and_a_loss_of_data_closes_nothing() -> None:
    firing, reminder, gone = (
        one.json for one in told("pagerduty://INTKEY1234567890@APIKEY1234", FIRING, REMINDER, GONE, answer=Answer(202))
    )
    payload = firing["payload"]
    assert payload["summary"] == "[FIRING] critical: KvCacheFull on node7 (server node7:8000)"
    assert (payload["severity"], payload["source"], payload["component"]) == ("critical", "node7", "KvCacheFull")
    assert payload["custom_details"]["action"] == FULL.annotations["action"]
    assert payload["custom_details"]["runbook_url"] == FULL.annotations["runbook_url"]
    assert payload["custom_details"]["server"] == "node7:8000"
    assert "images" not in firing
    assert reminder["dedup_key"] == firing["dedup_key"]
    assert (gone["event_action"], gone["dedup_key"]) == ("trigger", firing["dedup_key"])
    assert gone["payload"]["summary"].startswith("[DATA GONE] ")


def test_what_the_url_says_itself_is_left() -> None:
    url = "pagerduty://INTKEY1234567890@APIKEY1234/rack-7/llm?dedup=mine&action=trigger&+team=ml"
    firing, resolved = (one.json for one in told(url, FIRING, RESOLVED, answer=Answer(202)))
    assert firing["dedup_key"] == "mine"
    assert (firing["payload"]["source"], firing["payload"]["component"]) == ("rack-7", "llm")
    assert firing["payload"]["custom_details"]["team"] == "ml"
    assert resolved["event_action"] == "trigger"


@pytest.mark.parametrize(("scheme", "path"), [("opsgenie", "/v2/alerts"), ("jira", "/jsm/ops/integration/v2/alerts")])
def test_opsgenie_and_jira_close_by_alias_what_another_process_opened(scheme: str, path: str) -> None:
    (opened,) = told(f"{scheme}://apikey-123456", FIRING, answer=ACCEPTED)
    assert opened.path == path
    assert opened.json["alias"] == FIRING.key
    assert opened.json["priority"] == "P1"
    assert opened.json["message"] == FIRING.title
    (closed,) = told(f"{scheme}://apikey-123456", RESOLVED, answer=ACCEPTED)
    assert closed.path == f"{path}/{FIRING.key}/close?identifierType=alias"
    assert closed.headers["authorization"] == "GenieKey apikey-123456"
    assert "Fired for" in closed.json["note"]
    (gone,) = told(f"{scheme}://apikey-123456", GONE, answer=ACCEPTED)
    assert gone.path == path


def test_opsgenie_that_cannot_close_is_a_failure_and_one_that_has_none_is_not() -> None:
    for status, fails in ((503, True), (404, False)):
        with wire(lambda request, status=status: Answer(status)) as server:  # type: ignore[misc]
            (error,) = send_all(server.host, "opsgenie://apikey-123456", [RESOLVED])
        assert isinstance(error, SendFailed) is fails
        if error is not None:
            assert "error=503" in str(error)
            assert "apikey" not in str(error)


SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7/#alerts"


def test_slack_gets_our_attachments_and_no_picture_of_others() -> None:
    (request,) = told(SLACK, FIRING, answer=Answer(200, b"ok"))
    assert (request.host, request.path) == ("hooks.slack.com", "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7")
    assert request.json == {"attachments": list(FIRING.slack), "channel": "#alerts"}


def test_a_slack_bot_posts_the_message_and_then_the_picture() -> None:
    message = render(notice(begins(FULL), graphs=(graph(),)))

    def answer(request: Request) -> Answer:
        known: dict[str, Any] = {"ok": True, "channel": "C1", "ts": "1.2"}
        if "getUploadURL" in request.path:
            known |= {"file_id": "F1", "upload_url": "https://files.slack.example/upload"}
        if "complete" in request.path:
            known |= {"files": [{"id": "F1"}]}
        return Answer(200, json.dumps(known).encode())

    with wire(answer) as server:
        outcome = send_all(
            server.host,
            "slack://xoxb-1234-1234-abc124/#alerts",
            [message],
            then=lambda: any("completeUpload" in request.path for request in server.requests),
        )
    assert outcome == [None]
    posts = [request.json for request in server.requests if request.path == "/api/chat.postMessage"]
    assert posts[0]["attachments"] == list(message.slack)
    assert posts[1]["attachments"][0]["text"] == "The last hour: KV cache in use on node7:8000, percent"
    (upload,) = [request for request in server.requests if request.path == "/upload"]
    assert b"\x89PNG" in upload.body


def test_slack_refuses_in_words_and_for_good() -> None:
    with wire(lambda request: Answer(404, b"no_service")) as server:
        (error,) = send_all(server.host, SLACK, [FIRING])
    assert isinstance(error, SendFailed)
    assert "no_service" in str(error)
    assert error.permanent
    assert "TIiajkdnlazkcOXrIdevi7" not in str(error)
    refusal = Answer(200, b'{"ok": false, "error": "channel_not_found"}')
    with wire(lambda request: refusal) as server:
        (error,) = send_all(server.host, "slack://xoxb-1234-1234-abc124/#alerts", [FIRING])
    assert "channel_not_found" in str(error)


@pytest.mark.parametrize(
    ("status", "after", "retry_after", "permanent"),
    [
        (429, "37", 37.0, False),
        (503, "Sun, 06 Nov 1994 08:49:37 GMT", 0.0, False),
        (503, "soon", None, False),
        (500, None, None, False),
        (400, None, None, True),
        (401, "5", 5.0, True),
        (404, None, None, True),
        (408, None, None, False),
    ],
)
def test_a_refusal_says_when_to_come_again(
    status: int, after: str | None, retry_after: float | None, permanent: bool
) -> None:
    headers = {} if after is None else {"Retry-After": after}
    with wire(lambda request: Answer(status, b"", headers)) as server:
        (error,) = send_all(server.host, f"json://user:hunter2@{server.host}/t0ken", [FIRING])
    assert isinstance(error, SendFailed)
    assert (error.retry_after, error.permanent) == (retry_after, permanent)
    assert str(status) in str(error)
    assert "hunter2" not in str(error)


def test_a_url_that_is_none_is_refused_for_good_and_a_server_that_is_not_there_is_not() -> None:
    (first,) = send_all("127.0.0.1:1", "nosuch://x", [FIRING])
    assert isinstance(first, SendFailed)
    assert first.permanent
    (error,) = send_all("127.0.0.1:1", SLACK, [FIRING])
    assert isinstance(error, SendFailed)
    assert not error.permanent
    assert error.retry_after is None


def _text(request: Request) -> str:
    return request.body.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("url", "answer", "texts"),
    [
        ("discord://123456789012345678/abcdefghijklmnopqrstuvwxyz", None, ["**What to do:**", "`--max-num-seqs`"]),
        ("mmost://chat.example/abcdefghijklmnopqrstuvwxyz", None, ["**What to do:**", "`--max-num-seqs`"]),
        ("gchat://ws/key/token", None, ["*What to do:*", "`--max-num-seqs`"]),
        ("ntfy://ntfy.example/gpu-alerts", None, ["Action: Send less", "Event: "]),
        (
            "tgram://123456789:abcdefghijklmnopqrstuvwxyzabcdefghi/12315544/",
            Answer(200, b'{"ok": true, "result": {"message_id": 1}}'),
            ["<b>[FIRING] critical", "Action: Send less", "Event: "],
        ),
    ],
)
def test_chats_get_what_they_show_and_call_nobody(url: str, answer: Answer | None, texts: list[str]) -> None:
    hostile = replace(FULL, labels=(*FULL.labels, ("zz", "@everyone <!channel> <@U0123> @here <b>")))
    (request,) = told(url, render(notice(begins(hostile), node="@channel")), answer=answer)
    text = _text(request)
    assert [part for part in texts if part not in text] == []
    said = json.dumps(request.json, ensure_ascii=False)
    assert [call for call in ("@everyone", "@here", "@channel", "<@U0", "<!channel") if call in said] == []


def test_a_long_message_is_cut_for_a_service_and_keeps_its_ids() -> None:
    many = [begins(kv_cache_full(f"node7:{n}")) for n in range(6)]
    (request,) = told("discord://123456789012345678/abcdefghijklmnopqrstuvwxyz", render(notice(*many)))
    assert len(request.json["content"]) <= 2_000
    (request,) = told("pover://uuuuuuuuuuuuuuuuuuuuuuuuuuuuuu@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", FIRING)
    assert FIRING.body.splitlines()[-1].split()[-1] in _text(request)
    assert len(_text(request)) < 2_000


def test_an_sms_is_one_line() -> None:
    sid = "AC735c307c62944b5a735c307c62944b5a:e29dfbcebf390dee9d1b4b9bf1f5d0a1"
    (request,) = told(f"twilio://{sid}@15551112222/15551113333", FIRING)
    assert "The+KV+cache+of+node7" in _text(request)
    assert "Labels" not in _text(request)


def test_a_chat_that_takes_no_picture_has_had_the_message_all_the_same() -> None:
    message = render(notice(begins(FULL), graphs=(graph(),)))
    seen: list[bool] = []

    def answer(request: Request) -> Answer:
        picture = b"\x89PNG" in request.body
        seen.append(picture)
        return Answer(403 if picture else 200)

    with wire(answer) as server:
        url = "discord://123456789012345678/abcdefghijklmnopqrstuvwxyz"
        assert send_all(server.host, url, [message], then=lambda: any(seen)) == [None]
    assert seen.count(True) == 1
    assert sum("What to do" in _text(request) for request in server.requests) == 1


@pytest.mark.parametrize("url", ["discord://123456789012345678/abcdefghijklmnopqrstuvwxyz", SLACK])
def test_a_service_that_does_not_take_the_whole_gets_the_least(url: str) -> None:
    def answer(request: Request) -> Answer:
        return Answer(400, b"invalid_blocks") if "What to do" in _text(request) else Answer(200, b"ok")

    with wire(answer) as server:
        assert send_all(server.host, url, [FIRING, RESOLVED]) == [None, None]
    _refused, least, resolved = map(_text, server.requests)
    assert "The KV cache of node7:8000 is 97 % full" in least
    assert FIRING.body.splitlines()[-1] in least
    assert "Fired for" in resolved  # the next is whole again


def test_what_is_refused_for_good_gives_the_first_reason() -> None:
    with wire(lambda request: Answer(400, b"invalid_token")) as server:
        (error,) = send_all(server.host, SLACK, [FIRING])
        assert isinstance(error, SendFailed)
        assert "invalid_token" in str(error)
        assert error.permanent
        assert len(server.requests) == 2


MAILGUN = "mailgun://user@mg.example/abcdefghijklmnopqrstuvwxyzabcdef-12345678-abcdefab/ops@example.org"
SENDGRID = "sendgrid://abcdefghijklmnop:gpumon@node7.example/ops@example.org"


def test_a_mail_service_gets_html_and_the_picture_and_without_it_where_it_refuses_that() -> None:
    message = render(notice(begins(FULL), graphs=(graph(),)))
    (whole,) = told(SENDGRID, message)
    assert whole.json["subject"] == message.title
    assert "<img" not in whole.json["content"][0]["value"]
    assert whole.json["attachments"][0]["filename"] == "graph0.png"
    assert told(MAILGUN, message)

    def answer(request: Request) -> Answer:
        return Answer(413 if "attachments" in request.json else 200)

    with wire(answer) as server:
        assert send_all(server.host, SENDGRID, [message]) == [None]
    assert "What to do" in server.requests[-1].json["content"][0]["value"]
    assert len(server.requests) == 2


def test_json_keeps_title_and_body_and_has_no_picture() -> None:
    message = render(notice(begins(FULL), graphs=(graph(),)))
    (request,) = told("json://receiver.example/x", message)
    assert request.json["title"] == message.title
    assert request.json["message"] == message.body
    assert request.json["attachments"] == []


def test_a_great_message_fits_through_the_pipe() -> None:
    graphs = tuple(graph(3_601) for _ in range(4))
    message = render(notice(*(begins(kv_cache_full(f"node7:{n}")) for n in range(200)), graphs=graphs))
    huge = replace(message, slack=[{"text": "x" * 2_000_000}])
    (request,) = told("json://receiver.example/x", huge)
    assert request.json["message"] == message.body
