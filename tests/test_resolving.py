"""Names of hosts, looked up while a name server does not answer."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from monitor import resolving
from monitor.resolving import MOST, Names

ADDRESS = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


class DeadServer:
    """A look-up of names of which all but ``near`` get no answer until ``answers`` is set. ``now`` is its clock."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked: list[str] = []
        self.now = 100.0

    def look_up(self, host: str, *_rest: Any) -> list[Any]:
        self.asked.append(host)
        if host != "near" and not self.answers.wait(60):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return ADDRESS


@contextmanager
def dead() -> Iterator[DeadServer]:
    server = DeadServer()
    try:
        yield server
    finally:
        server.answers.set()


def test_a_name_that_is_known_here_does_not_wait_behind_those_that_are_not() -> None:
    async def run() -> None:
        with dead() as server:
            names = Names(server.look_up, patience=30)
            waiting = [asyncio.create_task(names.find(f"far{i}", 80)) for i in range(MOST - 1)]
            await asyncio.sleep(0)
            assert await names.find("near", 80) == ADDRESS
            server.answers.set()
            assert await asyncio.gather(*waiting) == [ADDRESS] * (MOST - 1)

    asyncio.run(run())


def test_however_often_a_name_is_asked_for_one_thread_looks_it_up() -> None:
    async def run() -> None:
        with dead() as server:
            names = Names(server.look_up, patience=30)
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await names.find("far", 80)
            assert server.asked == ["far"]
            server.answers.set()
            assert await names.find("far", 80) == ADDRESS

    asyncio.run(run())


def test_no_answer_is_said_to_be_the_name_servers_also_to_who_waits_less_than_that() -> None:
    async def run() -> None:
        with dead() as server:
            names = Names(server.look_up, clock=lambda: server.now)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await names.find("far", 80)
            server.now += resolving.PATIENCE + 1
            with pytest.raises(socket.gaierror, match=r"the name server does not answer$"):
                await names.find("far", 80)

    asyncio.run(run())


def test_an_answer_that_came_late_is_for_who_asks_next() -> None:
    async def run() -> None:
        with dead() as server:
            names = Names(server.look_up, clock=lambda: server.now, patience=60)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await names.find("far", 80)
            server.now += 5
            late = asyncio.create_task(names.find("far", 80))
            await asyncio.sleep(0)
            server.answers.set()
            await late
            assert await names.find("far", 80) == ADDRESS
            assert server.asked == ["far"]
            server.now += 60
            assert await names.find("far", 80) == ADDRESS
            assert server.asked == ["far", "far"], "it is not kept for long"

    asyncio.run(run())


def test_who_asks_anew_waits_for_a_slow_server_whole() -> None:
    async def run() -> None:
        with dead() as server:
            names = Names(server.look_up, clock=lambda: server.now, patience=60, glance=0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await names.find("far", 80)
            server.now += 61
            with pytest.raises(socket.gaierror, match=r"the name server does not answer$"):
                await names.find("far", 80)
            server.now -= 30  # there would be time again
            with pytest.raises(socket.gaierror, match=r"the name server does not answer$"):
                await names.find("far", 80)  # somebody has waited for this look-up in vain
            ((_, looking),) = names._running.values()
            server.answers.set()
            await asyncio.wait_for(looking, 60)
            server.now += 20
            assert await names.find("far", 80) == ADDRESS
            assert server.asked == ["far", "far"]

    asyncio.run(run())


def test_more_names_than_that_are_refused_and_not_queued() -> None:
    async def run() -> None:
        with dead() as server:
            names = Names(server.look_up, patience=30)
            waiting = [asyncio.create_task(names.find(f"far{i}", 80)) for i in range(MOST)]
            await asyncio.sleep(0)
            with pytest.raises(socket.gaierror, match=f"{MOST} names wait for it"):
                await names.find("near", 80)
            server.answers.set()
            await asyncio.gather(*waiting)
            assert await names.find("near", 80) == ADDRESS

    asyncio.run(run())


def test_a_name_that_does_not_exist_is_an_error_each_time() -> None:
    def look_up(*_key: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def run() -> None:
        names = Names(look_up)
        for _ in range(2):
            with pytest.raises(socket.gaierror, match="Name or service not known"):
                await names.find("none", 80)

    asyncio.run(run())


def test_a_program_connects_by_it_and_does_not_wait_for_it_to_end() -> None:
    program = """
import asyncio, contextlib, socket, threading
from monitor import resolving
plain = socket.getaddrinfo
def look_up(host, *rest, **more):
    if host == "far":
        threading.Event().wait()
    return plain(host, *rest, **more)
socket.getaddrinfo = look_up
resolving.Names.__init__.__defaults__ = (look_up,)
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    far = [asyncio.create_task(asyncio.open_connection("far", port + i)) for i in range(20)]
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("localhost", port)
    writer.close()
    for one in far:
        one.cancel()
    await asyncio.gather(*far, return_exceptions=True)
    server.close()
    print("connected")
resolving.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "connected\n", done.stderr


def test_a_failure_that_comes_late_is_the_name_servers_silence_in_the_same_words() -> None:
    gate = threading.Event()

    def look_up(*_key: Any) -> list[Any]:
        gate.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async def run() -> None:
        server = DeadServer()
        names = Names(look_up, clock=lambda: server.now)
        asking = asyncio.create_task(names.find("far", 80))
        await asyncio.sleep(0)
        server.now += 5
        gate.set()
        with pytest.raises(socket.gaierror, match=r"the name server does not answer$"):
            await asking

    asyncio.run(run())
