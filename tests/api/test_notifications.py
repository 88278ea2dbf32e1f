"""How notifying goes, and a test of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from monitor.notify.message import Message
from tests.api.notifying import TOKEN, Notifying, notifying
from tests.notify.parts import FakeSender

PATH = "/api/gpumon/v1/notify/test"


def run(tmp_path: Path, body: Callable[[Notifying], Coroutine[Any, Any, None]], sender: FakeSender) -> None:
    async def main() -> None:
        async with notifying(tmp_path, sender) as node:
            await body(node)

    asyncio.run(main())


def refuses_pager(url: str, message: Message) -> str:
    return "HTTP 404: no such channel" if ":2" in url else ""


def test_a_test_goes_to_each_target_and_tells_what_came_back(tmp_path: Path) -> None:
    sender = FakeSender(refuses_pager)

    async def body(node: Notifying) -> None:
        answer = await node.client.post(PATH, json={"receiver": None})
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [(one["receiver"], one["target"], one["ok"], one["reason"]) for one in results] == [
            ("team", "json", True, ""),
            ("pager", "json", False, "HTTP 404: no such channel"),
        ]
        assert all(one["seconds"] >= 0 for one in results)
        assert "secret-place" not in answer.text
        answer = await node.client.post(PATH)
        assert len(answer.json()["results"]) == 2

    run(tmp_path, body, sender)
    assert sorted(url for url, _ in sender.tried) == 2 * ["json://secret-place:1/x"] + 2 * ["json://secret-place:2/y"]


def test_one_receiver_alone_is_tried(tmp_path: Path) -> None:
    sender = FakeSender()

    async def body(node: Notifying) -> None:
        results = (await node.client.post(PATH, json={"receiver": "team"})).json()["results"]
        assert [one["receiver"] for one in results] == ["team"]

    run(tmp_path, body, sender)
    assert [url for url, _ in sender.sent] == ["json://secret-place:1/x"]


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b'{"receiver": "nobody"}', 404, "there is no receiver 'nobody'; there are team, pager"),
        (b'{"receiver": 5}', 400, "the body is no request of a test"),
        (b'{"reciever": "team"}', 400, "reciever"),
        (b"[", 400, "the body is no request of a test"),
    ],
)
def test_what_cannot_be_tried_is_told(tmp_path: Path, content: bytes, status: int, words: str) -> None:
    sender = FakeSender()

    async def body(node: Notifying) -> None:
        answer = await node.client.post(PATH, content=content)
        assert answer.status_code == status
        assert words in answer.json()["error"]

    run(tmp_path, body, sender)
    assert sender.tried == []


def test_over_tcp_a_test_needs_the_token(tmp_path: Path) -> None:
    sender = FakeSender()

    async def body(node: Notifying) -> None:
        async with node.tcp() as client:
            answer = await client.post(PATH)
            assert answer.status_code == 403
            assert "Authorization: Bearer" in answer.json()["error"]
            assert sender.tried == []
        async with node.tcp(TOKEN) as client:
            assert (await client.post(PATH)).status_code == 200

    run(tmp_path, body, sender)
    assert len(sender.tried) == 2


def test_a_daemon_without_receivers_says_so(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        node.node.notifier = None
        answer = await node.client.post(PATH)
        assert (answer.status_code, answer.json()["error"]) == (
            404, "this daemon has no receivers: receivers stand in gpumon.yaml, below `receivers:`"
        )  # fmt: skip
        node.node.mode = "private"
        assert "is private and tells nobody" in (await node.client.post(PATH)).json()["error"]
        assert (await node.client.get("/api/gpumon/v1/notifications")).json()["receivers"] == []

    run(tmp_path, body, FakeSender())


def test_the_state_of_each_receiver_is_shown(tmp_path: Path) -> None:
    async def body(node: Notifying) -> None:
        async with asyncio.timeout(20):
            while True:
                found = (await node.client.get("/api/gpumon/v1/notifications")).json()
                by_name = {one["name"]: one for one in found["receivers"]}
                if by_name["pager"]["queued"] == 2 and by_name["team"]["queued"] == 3:
                    break
                await asyncio.sleep(0.01)
        assert found["recording_ok"] is True
        assert {"sent", "failed", "superseded", "dead", "held", "last_error", "last_sent_ms"} <= set(by_name["team"])
        async with node.tcp() as client:
            assert (await client.get("/api/gpumon/v1/notifications")).status_code == 200

    run(tmp_path, body, FakeSender())
