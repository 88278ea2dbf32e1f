"""Sending for real: the child, apprise, an HTTP server and a mail server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from monitor.notify.message import Message
from monitor.notify.sender import AppriseSender, SendFailed
from monitor.notify.sender_child import _service
from tests.notify.parts import T0, firing, http_receiver, wait_for
from tests.notify.wire import render_transition

MESSAGE = render_transition(firing(), "firing", "node1", T0)


def run(body: Callable[[AppriseSender], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run ``body`` with a sender, and see that no child is left."""

    async def main() -> None:
        sender = AppriseSender(**options)
        try:
            await body(sender)
        finally:
            await sender.close()
        assert sender.pids == []

    asyncio.run(main())


def test_json_arrives_with_title_message_and_type() -> None:
    with http_receiver() as server:

        async def body(sender: AppriseSender) -> None:
            await sender.send(f"json://user:hunter2@{server.host}/path", MESSAGE)
            await sender.send(f"json://user:hunter2@{server.host}/path", MESSAGE)
            assert len(sender.pids) == 1

        run(body)
        assert len(server.received) == 2
        content = server.received[0]
        assert content["title"] == MESSAGE.title
        assert content["message"] == MESSAGE.body
        assert content["type"] == "failure"


def test_a_text_is_sent_as_it_is() -> None:
    with http_receiver() as server:
        odd = Message("e", "t :smile: <b> & \\n", "line 1\n\n<i>*x* _y_ :fire: é", "warning", {})

        async def body(sender: AppriseSender) -> None:
            await sender.send(f"json://{server.host}/", odd)

        run(body)
        assert (server.received[0]["title"], server.received[0]["message"]) == (odd.title, odd.body)


class Mailbox:
    """Keeps what the mail server is given."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 OK"


def test_mail_arrives() -> None:
    mailbox = Mailbox()

    async def body(sender: AppriseSender) -> None:
        server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await sender.send(f"mailto://127.0.0.1:{port}?from=gpumon@node1.example&to=ops@example.org", MESSAGE)

    run(body)
    (envelope,) = mailbox.envelopes
    assert envelope.rcpt_tos == ["ops@example.org"]
    mail = message_from_bytes(envelope.content)
    assert mail["Subject"] == MESSAGE.title
    texts = [str(part.get_payload(decode=True)) for part in mail.walk() if not part.is_multipart()]
    assert texts
    assert all(MESSAGE.event_id in text and "GPU 3 is at 92 C" in text for text in texts)


def test_an_error_of_the_server_is_told_without_secrets() -> None:
    with http_receiver([500]) as server:

        async def body(sender: AppriseSender) -> None:
            url = f"json://user:hunter2@{server.host}/t0ken"
            with pytest.raises(SendFailed, match="500") as failure:
                await sender.send(url, MESSAGE)
            assert "hunter2" not in str(failure.value)
            assert "t0ken" not in str(failure.value)
            await sender.send(url, MESSAGE)

        run(body)
        assert len(server.received) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("hunter2", "no scheme"),
        ("nosuch://hunter2/x", "knows no service nosuch://"),
        ("mailto://hunter2", "does not accept this mailto:// URL"),
        ("json://user:hunter2@127.0.0.1:1/", "Connection error"),
    ],
)
def test_a_url_that_does_not_work_is_told_without_secrets(url: str, reason: str) -> None:
    async def body(sender: AppriseSender) -> None:
        with pytest.raises(SendFailed, match=reason) as failure:
            await sender.send(url, MESSAGE)
        assert "hunter2" not in str(failure.value)

    run(body)


def test_secrets_are_in_no_argument_and_no_variable() -> None:
    with http_receiver() as server:

        async def body(sender: AppriseSender) -> None:
            server.gate.clear()
            send = asyncio.create_task(sender.send(f"json://user:hunter2@{server.host}/", MESSAGE))
            await wait_for(lambda: server.requests == 1)
            (pid,) = sender.pids
            seen = [_of_process(pid, name) for name in ("cmdline", "environ")]
            server.gate.set()
            await send
            assert b"sender_child" in seen[0]
            assert not any(b"hunter2" in text for text in seen)

        run(body)


def test_a_send_that_hangs_ends_at_its_deadline_and_hurts_no_other() -> None:
    with http_receiver() as hanging, http_receiver() as well:
        hanging.gate.clear()

        async def body(sender: AppriseSender) -> None:
            await sender.send(f"json://{well.host}/", MESSAGE)
            (first,) = sender.pids
            sender.deadline = 2.0
            with pytest.raises(SendFailed, match="no answer in 2 s"):
                await sender.send(f"json://{hanging.host}/?rto=60", MESSAGE)
            await wait_for(lambda: sender.pids == [])
            sender.deadline = 20.0
            await sender.send(f"json://{well.host}/", MESSAGE)
            assert sender.pids != [first]

        run(body)
        assert len(well.received) == 2


def test_a_server_that_never_answers_is_told_without_an_end_of_the_child() -> None:
    with http_receiver() as hanging, http_receiver() as well:
        hanging.gate.clear()

        async def body(sender: AppriseSender) -> None:
            await sender.send(f"json://{well.host}/", MESSAGE)  # it takes its time to start
            sender.deadline = 5.0
            with pytest.raises(SendFailed, match=r"no answer in 3\.5 s"):
                await sender.send(f"json://{hanging.host}/", MESSAGE)
            assert len(sender.pids) == 1

        run(body)


def test_others_that_are_under_way_finish_when_one_hangs() -> None:
    with http_receiver() as hanging, http_receiver() as slow:
        hanging.gate.clear()

        async def body(sender: AppriseSender) -> None:
            await sender.send(f"json://{slow.host}/", MESSAGE)
            slow.gate.clear()
            sender.deadline = 5.0
            hangs = asyncio.create_task(sender.send(f"json://{hanging.host}/?rto=60", MESSAGE))
            await wait_for(lambda: hanging.requests == 1)
            sender.deadline = 20.0
            other = asyncio.create_task(sender.send(f"json://{slow.host}/", MESSAGE))
            await wait_for(lambda: slow.requests == 2)
            assert len(sender.pids) == 1
            with pytest.raises(SendFailed, match="no answer"):
                await hangs
            slow.gate.set()
            await other
            await wait_for(lambda: sender.pids == [])

        run(body)
        assert len(slow.received) == 2


def test_a_child_that_is_killed_fails_its_sends_and_the_next_gets_another() -> None:
    with http_receiver() as server:
        server.gate.clear()

        async def body(sender: AppriseSender) -> None:
            send = asyncio.create_task(sender.send(f"json://{server.host}/", MESSAGE))
            await wait_for(lambda: server.requests == 1)
            os.kill(sender.pids[0], signal.SIGKILL)
            with pytest.raises(SendFailed, match="ended \\(SIGKILL\\)"):
                await send
            server.gate.set()
            await sender.send(f"json://{server.host}/", MESSAGE)

        run(body)


def test_the_child_ends_when_idle_and_comes_again() -> None:
    with http_receiver() as server:

        async def body(sender: AppriseSender) -> None:
            assert sender.pids == []
            await sender.send(f"json://{server.host}/", MESSAGE)
            await wait_for(lambda: sender.pids == [])
            await sender.send(f"json://{server.host}/", MESSAGE)

        run(body, idle=0.05)
        assert len(server.received) == 2


PARENT = """
import asyncio, os, sys
from monitor.notify.sender import AppriseSender
from tests.notify.test_sender import MESSAGE

async def main():
    sender = AppriseSender()
    send = asyncio.create_task(sender.send(sys.argv[1], MESSAGE))
    while not sender.pids:
        await asyncio.sleep(0.01)
    print(sender.pids[0], flush=True)
    await send
asyncio.run(main())
"""


def test_the_child_ends_with_its_parent_in_the_middle_of_a_send() -> None:
    with http_receiver() as server:
        server.gate.clear()

        async def main() -> None:
            parent = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                PARENT,
                f"json://{server.host}/",
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            assert parent.stdout is not None
            child = int(await parent.stdout.readline())
            await wait_for(lambda: server.requests == 1)
            parent.kill()
            await parent.wait()
            await wait_for(lambda: not _runs(child))

        asyncio.run(main())


def _of_process(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _runs(pid: int) -> bool:
    try:
        return b"sender_child" in _of_process(pid, "cmdline")
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write(b'nonsense' * 9)", "ended"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write(b'\\0\\0\\0\\2[]')", "ended"),
    ],
)
def test_a_child_that_misbehaves_is_a_failed_attempt(code: str, reason: str) -> None:
    async def body(sender: AppriseSender) -> None:
        with pytest.raises(SendFailed, match=reason):
            await sender.send("json://127.0.0.1:1/", MESSAGE)

    run(body, command=(sys.executable, "-c", code))


def test_a_child_that_cannot_be_started_is_a_failed_attempt() -> None:
    async def body(sender: AppriseSender) -> None:
        with pytest.raises(SendFailed, match="did not start: No such file"):
            await sender.send("json://127.0.0.1:1/", MESSAGE)

    run(body, command=("nonexistent-program",))


@pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")  # of what apprise loads, here and not in its child
@pytest.mark.parametrize(
    ("url", "pause"),
    [
        ("mailto://127.0.0.1:25/?from=a@example.com&to=b@example.com", 0),
        ("pagerduty://INTKEY1234567890@APIKEY1234", 0),
        ("ntfy://127.0.0.1/node7", 0),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alarms", 1.2),
    ],
)
def test_only_a_service_s_own_pause_between_messages_is_kept(url: str, pause: float) -> None:
    """apprise waits 5.5 s where it knows none: in a storm a critical alarm by mail came a minute late."""
    (plugin,) = _service(url, 20)
    assert plugin.request_rate_per_sec == pause
