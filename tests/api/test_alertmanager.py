"""Alertmanager's API on a node: the shapes of 0.33, its filters, its refusals, and who may silence."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.notify.notifier import Notifier
from monitor.notify.silences import Silence
from tests.api.notifying import CONFIG, HOUR, T0, TOKEN, Notifying, notifying

BODY: dict[str, Any] = {
    "matchers": [{"name": "alertname", "value": "Hot", "isRegex": False, "isEqual": True}],
    "startsAt": "2027-01-15T08:00:00.000Z",
    "endsAt": "2027-01-15T09:00:00Z",
    "createdBy": "kim",
    "comment": "fan is being replaced",
}


def run(tmp_path: Path, body: Callable[[Notifying], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        async with notifying(tmp_path, **options) as node:
            await body(node)

    asyncio.run(main())


async def names(node: Notifying, query: str = "") -> list[str]:
    answer = await node.client.get(f"/api/v2/alerts{query}")
    assert answer.status_code == 200, answer.text
    return sorted(one["labels"]["alertname"] for one in answer.json())


async def silence(node: Notifying, **changes: Any) -> str:
    answer = await node.client.post("/api/v2/silences", json={**BODY, **changes})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["silenceID"])


def test_an_alert_has_alertmanagers_fields(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        ident = await silence(node)
        node.clock.at_ms += 2_500
        found = {one["labels"]["alertname"]: one for one in (await node.client.get("/api/v2/alerts")).json()}
        assert sorted(found) == ["Full", "Hot", "Night", "Warm", "Watchdog"]  # and no pending one
        hot = found["Hot"]
        assert hot == {
            "annotations": {"summary": 'GPU 3 is "hot"'},
            "endsAt": "2027-01-15T08:00:17.500Z",
            "fingerprint": hot["fingerprint"],
            "receivers": [{"name": "pager"}],
            "startsAt": "2027-01-15T08:00:00.000Z",
            "status": {"inhibitedBy": [], "mutedBy": [], "silencedBy": [ident], "state": "suppressed"},
            "updatedAt": "2027-01-15T08:00:02.500Z",
            "labels": {"alertname": "Hot", "gpu": "3", "severity": "critical"},
        }
        assert found["Warm"]["status"]["inhibitedBy"] == [hot["fingerprint"]]
        assert found["Full"]["status"]["state"] == "active"
        assert found["Watchdog"]["receivers"] == []

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "Full Hot Night Warm Watchdog"),
        ("?active=false", "Hot Warm"),
        ("?silenced=false", "Full Night Warm Watchdog"),
        ("?inhibited=false", "Full Hot Night Watchdog"),
        ("?active=true&silenced=false&inhibited=false&unprocessed=false", "Full Night Watchdog"),
        ("?active=perhaps", "Hot Warm"),
        ("?receiver=pager", "Hot Night"),
        ("?receiver=p.*", "Hot Night"),
        ("?receiver=page", ""),
        ('?filter=gpu="3"', "Hot Warm"),
        ("?filter=gpu=3&filter=alertname!=Hot", "Warm"),
        ('?filter=alertname=~"F.*|Wa.*"', "Full Warm Watchdog"),
        ('?filter=gpu=""', "Night Watchdog"),
    ],
)
def test_alerts_are_found_by_filters(tmp_path: Path, query: str, expected: str) -> None:
    async def body(node: Notifying) -> None:
        await silence(node)
        assert await names(node, query) == expected.split()

    run(tmp_path, body)


@pytest.mark.parametrize("path", ["alerts", "alerts/groups"])
@pytest.mark.parametrize(
    ("query", "words"), [("filter=bad", "bad matcher format: "), ("receiver=(", "failed to parse receiver param: ")]
)
def test_a_filter_that_is_none_is_told_in_a_json_string(tmp_path: Path, path: str, query: str, words: str) -> None:
    async def body(node: Notifying) -> None:
        answer = await node.client.get(f"/api/v2/{path}?{query}")
        assert answer.status_code == 400
        assert answer.json().startswith(words)

    run(tmp_path, body)


def test_groups_are_by_receiver_and_labels_and_say_what_mutes_them(tmp_path: Path) -> None:
    async def groups(node: Notifying, query: str = "") -> list[tuple[str, dict[str, str], list[str]]]:
        found = (await node.client.get(f"/api/v2/alerts/groups{query}")).json()
        return [
            (one["receiver"]["name"], one["labels"], [each["labels"]["alertname"] for each in one["alerts"]])
            for one in found
        ]

    async def body(node: Notifying) -> None:
        full = ("team", {"alertname": "Full", "severity": "warning"}, ["Full"])
        hot = ("pager", {"alertname": "Hot", "severity": "critical"}, ["Hot"])
        night = [(name, {"alertname": "Night", "severity": "warning"}, ["Night"]) for name in ("pager", "team")]
        warm = ("team", {"alertname": "Warm", "severity": "warning"}, ["Warm"])
        assert await groups(node) == [full, hot, *night, warm]
        assert await groups(node, "?muted=false") == [full, hot, warm]
        assert await groups(node, "?receiver=pager") == [hot, night[0]]
        assert await groups(node, "?inhibited=false&filter=gpu=3") == [hot]
        found = (await node.client.get("/api/v2/alerts/groups?filter=alertname=Night")).json()[0]
        assert set(found) == {"alerts", "labels", "receiver"}
        assert found["alerts"][0]["status"] == {
            "inhibitedBy": [], "mutedBy": ["always"], "silencedBy": [], "state": "suppressed"
        }  # fmt: skip
        assert found["alerts"][0]["receivers"] == [{"name": "team"}, {"name": "pager"}]

    run(tmp_path, body)


def test_a_silence_is_made_shown_changed_and_ended(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        node.clock.at_ms = T0 + 250
        ident = await silence(node)
        assert uuid.UUID(ident).version == 4
        shown = {
            "id": ident,
            "status": {"state": "active"},
            "updatedAt": "2027-01-15T08:00:00.250Z",
            "comment": "fan is being replaced",
            "createdBy": "kim",
            "endsAt": "2027-01-15T09:00:00.000Z",
            "matchers": [{"isEqual": True, "isRegex": False, "name": "alertname", "value": "Hot"}],
            "startsAt": "2027-01-15T08:00:00.250Z",
        }
        assert (await node.client.get("/api/v2/silences")).json() == [shown]
        assert (await node.client.get(f"/api/v2/silence/{ident}")).json() == shown
        assert await silence(node, id=ident, startsAt=shown["startsAt"], endsAt="2027-01-15T10:00:00+01:00") == ident
        later = await silence(node, id=ident, matchers=[{"name": "gpu", "value": "[0-3]", "isRegex": True}])
        assert later != ident
        node.clock.at_ms += 1
        states = [(one["id"], one["status"]["state"]) for one in (await node.client.get("/api/v2/silences")).json()]
        assert states == [(later, "active"), (ident, "expired")]
        assert await names(node, "?silenced=true&active=false") == ["Full", "Hot", "Warm"]
        for _ in range(2):  # the second changes nothing
            answer = await node.client.delete(f"/api/v2/silence/{later}")
            assert (answer.status_code, answer.content) == (200, b"")
            node.clock.at_ms += 10
        ended = (await node.client.get(f"/api/v2/silence/{later}")).json()
        assert (ended["status"]["state"], ended["endsAt"]) == ("expired", "2027-01-15T08:00:00.251Z")
        assert await names(node, "?active=false&inhibited=false") == []
        events = (await node.client.get("/api/gpumon/v1/events")).json()["events"]
        assert [(one["kind"], one["title"], one["detail"]) for one in events] == [
            ("silence_set", "silenced for 59 min: Hot", "kim: fan is being replaced"),
            ("silence_set", "silenced for 59 min: Hot", "kim: fan is being replaced"),
            ("silence_set", 'silenced for 59 min: gpu=~"[0-3]"', "kim: fan is being replaced"),
            ("silence_ended", 'silence ended by hand: gpu=~"[0-3]"', "kim: fan is being replaced"),
        ]

    run(tmp_path, body)


def test_silences_come_in_order_and_are_found_by_what_they_say(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        late = await silence(node, endsAt="2027-01-15T12:00:00Z")
        soon = await silence(node, endsAt="2027-01-15T08:30:00Z")
        next_week = await silence(
            node, startsAt="2027-01-22T08:00:00Z", endsAt="2027-01-23T08:00:00Z",
            matchers=[{"name": "gpu", "value": "3", "isRegex": False}],
        )  # fmt: skip
        tomorrow = await silence(node, startsAt="2027-01-16T08:00:00Z", endsAt="2027-01-23T08:00:00Z")
        over = await silence(node, endsAt="2027-01-15T08:00:01Z")
        node.clock.at_ms += 2_000

        async def found(query: str = "") -> list[str]:
            return [one["id"] for one in (await node.client.get(f"/api/v2/silences{query}")).json()]

        assert await found() == [soon, late, tomorrow, next_week, over]
        assert await found("?filter=gpu=3") == [next_week]
        assert await found("?filter=alertname=Hot") == [soon, late, tomorrow, over]
        # As Alertmanager 0.33 has it, which holds a filter against the matchers themselves.
        for other in ('alertname=~"H.*"', "alertname!=Cold", "gpu=", "alertname=Hot&filter=gpu=3"):
            assert await found(f"?filter={other}") == [], other
        assert (await node.client.get("/api/v2/silences?filter={gpu=3}")).status_code == 400

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"matchers": []}, 422, {"code": 612, "message": "matchers in body should have at least 1 items"}),
        ({"matchers": None}, 422, {"code": 602, "message": "matchers in body is required"}),
        ({"startsAt": None}, 422, {"code": 602, "message": "startsAt in body is required"}),
        ({"endsAt": None}, 422, {"code": 602, "message": "endsAt in body is required"}),
        ({"createdBy": None}, 422, {"code": 602, "message": "createdBy in body is required"}),
        ({"comment": None}, 422, {"code": 602, "message": "comment in body is required"}),
        ({"matchers": [{"name": "a"}]}, 422, {"code": 602, "message": "matchers.0.isRegex in body is required"}),
        (
            {"matchers": [{"name": "a", "isRegex": False}]},
            422,
            {"code": 602, "message": "matchers.0.value in body is required"},
        ),
        ({"endsAt": "2027-01-15T07:59:59Z"}, 400, "Failed to create silence: start time must be before end time"),
        (
            {"startsAt": "2027-01-15T07:00:00Z", "endsAt": "2027-01-15T07:59:59Z"},
            400,
            "Failed to create silence: end time can't be in the past",
        ),
        ({"id": "nonsense"}, 404, "silence not found"),
        ({"id": "0b7a4d0e-0000-4000-8000-000000000000"}, 404, "silence not found"),
        (
            {"matchers": [{"name": "a", "value": "", "isRegex": False}]},
            400,
            "invalid silence: at least one matcher must not match the empty string",
        ),
        (
            {"matchers": [{"name": "", "value": "b", "isRegex": False}]},
            400,
            'invalid silence: invalid label matcher 0: invalid label name ""',
        ),
    ],
)
def test_what_is_no_silence_is_refused_as_alertmanager_does(
    tmp_path: Path, change: dict[str, Any], status: int, said: object
) -> None:
    async def body(node: Notifying) -> None:
        posted = {key: value for key, value in {**BODY, **change}.items() if value is not None}
        answer = await node.client.post("/api/v2/silences", json=posted)
        assert (answer.status_code, answer.json()) == (status, said)
        assert node.notifier.silences.all() == []

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b'{"a"', "application/json", 400, "parsing silence body"),
        (b"", "application/json", 422, "silence in body is required"),
        (b"null", "application/json", 422, "comment in body is required"),
        (b"[]", "application/json", 400, "parsing silence body"),
        (b'{"comment": 5}', "application/json", 400, "$.comment"),
        (b'{"comment": "\xff"}', "application/json", 400, "parsing silence body"),
        (b"a=b", "text/plain", 415, 'unsupported media type "text/plain"'),
        (b'{"comment": "' + b"x" * 20_000 + b'"}', "application/json", 400, "at most 16384 bytes"),
        (b'{"comment": "' + b"x" * 300_000 + b'"}', "application/json", 413, "more than"),
    ],
)
def test_a_body_that_is_none_is_told(tmp_path: Path, content: bytes, kind: str, status: int, words: str) -> None:
    async def body(node: Notifying) -> None:
        answer = await node.client.post("/api/v2/silences", content=content, headers={"Content-Type": kind})
        assert answer.status_code == status
        assert words in answer.text.replace('\\"', '"')

    run(tmp_path, body)


@pytest.mark.parametrize("when", ["tomorrow", "2027-01-15", "2027-01-15T09:00:00", "99999-01-15T09:00:00Z"])
def test_a_time_that_is_none_is_told_with_how_to_write_it(tmp_path: Path, when: str) -> None:
    async def body(node: Notifying) -> None:
        answer = await node.client.post("/api/v2/silences", json={**BODY, "endsAt": when})
        assert answer.status_code == 400
        assert f'endsAt "{when}" is no time: write 2026-01-31T12:00:00Z' in answer.json()["message"]

    run(tmp_path, body)


def test_a_bad_regular_expression_names_its_matcher(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        good, bad = BODY["matchers"][0], {"name": "gpu", "value": "(", "isRegex": True}
        answer = await node.client.post("/api/v2/silences", json={**BODY, "matchers": [good, bad]})
        assert answer.status_code == 400
        assert answer.json().startswith("invalid silence: invalid label matcher 1: gpu=~: ")

    run(tmp_path, body)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_is_none_is_told(tmp_path: Path, method: str) -> None:
    async def body(node: Notifying) -> None:
        answer = await node.client.request(method, "/api/v2/silence/nonsense")
        said = {"code": 601, "message": 'silenceID in path must be of type uuid: "nonsense"'}
        assert (answer.status_code, answer.json()) == (422, said)
        answer = await node.client.request(method, "/api/v2/silence/0b7a4d0e-0000-4000-8000-000000000000")
        assert (answer.status_code, answer.content) == (404, b"")

    run(tmp_path, body)


def test_over_tcp_only_the_token_changes_anything(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        ident = await silence(node)
        for token, words in (
            (None, "sent as `Authorization: Bearer TOKEN` (amtool: --http.config.file)"),
            ("wrong", "the token is another one"),
            ("wröng", "the token is another one"),
            (TOKEN[:-1], "the token is another one"),
        ):
            async with node.tcp(token) as client:
                posted = await client.post("/api/v2/silences", json=BODY)
                deleted = await client.delete(f"/api/v2/silence/{ident}")
                assert (await client.get("/api/v2/silences")).status_code == 200
            for answer in (posted, deleted):
                assert (answer.status_code, answer.json()["code"]) == (403, 403)
                assert words in answer.json()["message"]
                assert TOKEN not in answer.text
        assert [one.state(node.clock.at_ms) for one in node.notifier.silences.all()] == ["active"]
        async with node.tcp(TOKEN) as client:
            assert (await client.delete(f"/api/v2/silence/{ident}")).status_code == 200
            assert (await client.post("/api/v2/silences", json=BODY)).status_code == 200
        assert len(node.notifier.silences.all()) == 2

    run(tmp_path, body)


def test_basic_credentials_are_no_token(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        async with node.tcp() as client:
            answer = await client.post("/api/v2/silences", json=BODY, headers={"Authorization": f"Basic {TOKEN}"})
        assert answer.status_code == 403

    run(tmp_path, body)


def test_without_a_token_tcp_is_read_only(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        async with node.tcp("anything") as client:
            answer = await client.post("/api/v2/silences", json=BODY)
        assert answer.status_code == 403
        assert "TCP is read-only here" in answer.json()["message"]

    run(tmp_path, body, config=CONFIG.replace(f"api: {{token: {TOKEN}}}", ""))


def test_a_token_in_a_file_is_followed_and_a_missing_one_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"

    async def body(node: Notifying) -> None:
        async with node.tcp("second") as client:
            statuses = []
            for text in ("first\n", "second\n", "", None):
                if text is None:
                    file.unlink()
                else:
                    file.write_text(text)
                answer = await client.post("/api/v2/silences", json=BODY)
                statuses.append(answer.status_code)
            assert statuses == [403, 200, 403, 403]
            assert "cannot be read" in answer.text

    file.write_text("first")
    run(tmp_path, body, config=CONFIG.replace(TOKEN, f"{{file: '{file}'}}"))


def test_another_sites_name_gets_nothing_even_with_the_token(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        async with node.tcp(TOKEN) as client:
            answer = await client.post("/api/v2/silences", json=BODY, headers={"Host": "evil.example"})
        assert answer.status_code == 403
        assert node.notifier.silences.all() == []

    run(tmp_path, body)


def test_a_silence_comes_back_after_a_restart(tmp_path: Path) -> None:
    idents: list[str] = []

    async def first(node: Notifying) -> None:
        idents.append(await silence(node))
        idents.append(await silence(node))
        await node.client.delete(f"/api/v2/silence/{idents[1]}")

    async def second(node: Notifying) -> None:
        states = {one["id"]: one["status"]["state"] for one in (await node.client.get("/api/v2/silences")).json()}
        assert states == dict(zip(idents, ("active", "expired"), strict=True))
        assert "Hot" in await names(node, "?active=false")

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_silence_that_is_not_on_the_disk_holds_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def save(notifier: Notifier, silence: Silence) -> str:
        return 'not recorded ("disk" is full ü):\nthe silence holds'

    async def body(node: Notifying) -> None:
        monkeypatch.setattr(Notifier, "save_silence", save)
        answer = await node.client.post("/api/v2/silences", json=BODY)
        assert answer.status_code == 200
        assert answer.headers["Warning"] == "299 gpumon \"not recorded ('disk' is full ?): the silence holds\""
        assert await names(node, "?active=false&inhibited=false") == ["Hot"]

    run(tmp_path, body)


def test_status_shows_the_configuration_without_a_secret(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        answer = await node.client.get("/api/v2/status")
        found = answer.json()
        assert found["cluster"] == {"peers": [], "status": "disabled"}
        assert found["uptime"] == "2027-01-15T08:00:00.000Z"
        assert set(found["versionInfo"]) == {"branch", "buildDate", "buildUser", "goVersion", "revision", "version"}
        assert "secret-place" not in answer.text
        assert TOKEN not in answer.text
        config = yaml.safe_load(found["config"]["original"])
        assert [one["name"] for one in config["receivers"]] == ["team", "pager", "team, pager"]
        assert config["route"]["group_by"] == ["alertname", "severity"]
        assert config["route"]["routes"] == [
            {"receiver": "pager", "matchers": ['severity="critical"']},
            {"receiver": "team, pager", "matchers": ['alertname="Night"'], "mute_time_intervals": ["always"]},
        ]
        assert config["inhibit_rules"] == [
            {"source_matchers": ['alertname="Hot"'], "target_matchers": ['alertname="Warm"'], "equal": ["gpu"]}
        ]
        assert config["time_intervals"][0]["time_intervals"] == [
            {"times": [{"start_time": "00:00", "end_time": "24:00"}], "location": "UTC"}
        ]
        receivers = (await node.client.get("/api/v2/receivers")).json()
        assert receivers == [{"labels": {"name": name}, "name": name} for name in ("team", "pager")]

    run(tmp_path, body)


def test_alerts_are_not_taken_and_what_is_not_there_is_told_in_alertmanagers_form(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        answer = await node.client.post("/api/v2/alerts", json=[])
        assert answer.status_code == 405
        assert "this node's own rules" in answer.json()["message"]
        answer = await node.client.get("/api/v2/nothing")
        assert (answer.status_code, answer.json()) == (
            404, {"code": 404, "message": "path /api/v2/nothing was not found"}
        )  # fmt: skip
        answer = await node.client.put("/api/v2/silences")
        assert (answer.status_code, answer.json()["code"]) == (405, 405)

    run(tmp_path, body)


def test_a_daemon_without_a_notifier_shows_alerts_and_has_no_silences(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        node.node.notifier = None
        assert await names(node) == ["Full", "Hot", "Night", "Warm", "Watchdog"]
        for path in ("silences", "receivers", "alerts/groups"):
            assert (await node.client.get(f"/api/v2/{path}")).json() == []
        assert (await node.client.delete(f"/api/v2/silence/{uuid.uuid4()}")).status_code == 404
        answer = await node.client.post("/api/v2/silences", json=BODY)
        assert (answer.status_code, answer.json()) == (
            400, "this daemon notifies nobody, so there is nothing to silence"
        )  # fmt: skip

    run(tmp_path, body)


def test_a_silence_of_an_hour_ends_by_itself(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        await silence(node)
        node.clock.at_ms = T0 + HOUR - 1
        assert "Hot" in await names(node, "?active=false")
        node.clock.at_ms = T0 + HOUR
        assert "Hot" not in await names(node, "?active=false")

    run(tmp_path, body)
