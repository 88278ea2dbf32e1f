"""The server's torch profiler is started and stopped, whatever happens in between; what another started is left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from monitor.probes import profiler
from monitor.probes.errors import CannotStart
from monitor.probes.profiler import AlreadyRunning, NotSwitchedOn, ProfileFailed, Profiler
from monitor.probes.schema import Level


class Server:
    """vLLM's answers, as 0.32 gives them."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.tracing = False
        self.asked: list[str] = []
        self.folder: Path | None = None
        self.gate: asyncio.Event | None = None
        """Where there is one, answers wait for it."""
        self.entered = asyncio.Event()
        self.answers: dict[str, tuple[int, str]] = {}

    async def post(self, path: str) -> tuple[int, str]:
        self.asked.append(path)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if path in self.answers:
            return self.answers[path]
        if not self.on:
            return 404, '{"detail":"Not Found"}'
        if path == profiler.START:
            if self.tracing:
                return 409, '{"error":{"message":"A profiling session is already active."}}'
            self.tracing = True
        else:
            self.tracing = False
            if self.folder is not None:
                (self.folder / "rank0.1.pt.trace.json.gz").write_bytes(b"x")
        return 200, ""


Said = list[tuple[str, Level]]


def _profiler(server: Server, said: Said, proc: Path, seconds: float = 60.0) -> Profiler:
    return Profiler(
        server.post, seconds, "http://127.0.0.1:8000", said=lambda text, level: said.append((text, level)), proc=proc
    )


def test_it_runs_around_a_block_and_says_where_the_trace_is(tmp_path: Path) -> None:
    server, said, folder = Server(), Said(), tmp_path / "out"
    folder.mkdir()
    (folder / "old.pt.trace.json.gz").write_bytes(b"x")
    os.utime(folder / "old.pt.trace.json.gz", (1, 1))
    server.folder = folder
    home = tmp_path / "proc" / "7"
    home.mkdir(parents=True)
    (home / "cmdline").write_bytes(f"vllm\0serve\0m\0--profiler-config.torch_profiler_dir={folder}\0".encode())

    async def go() -> Profiler:
        async with _profiler(server, said, tmp_path / "proc") as profile:
            assert server.tracing
            assert profile.running
            assert profile.ends_s is not None
            assert profile.began_s is not None
            assert profile.ends_s - profile.began_s == 60.0
            assert profiler.was_left_on(text for text, _ in said)
        assert not profile.running
        assert not profiler.was_left_on(text for text, _ in said)
        return profile

    profile = asyncio.run(go())
    assert server.asked == ["/start_profile", "/stop_profile"]
    assert profile.traces == (f"{folder}/rank0.1.pt.trace.json.gz",)
    assert [level for _, level in said] == ["info", "info"]
    assert f"it is in {folder}/rank0.1.pt.trace.json.gz; open it in" in said[1][0]


def test_it_says_that_it_does_not_know_where_the_trace_is(tmp_path: Path) -> None:
    server, said = Server(), Said()
    server.answers["/stop_profile"] = (200, "Stop profiling. This will take some time.")

    async def go() -> Profiler:
        async with _profiler(server, said, tmp_path) as profile:
            pass
        return profile

    profile = asyncio.run(go())
    assert profile.traces == ()
    assert profile.told == (
        "where it is, the server does not say (no process of this node is seen to serve port 8000): see its "
        "--profiler-config; it says: Stop profiling. This will take some time."
    )


def test_it_ends_by_itself(tmp_path: Path) -> None:
    server, said = Server(), Said()

    async def go() -> None:
        profile = _profiler(server, said, tmp_path, seconds=0.01)
        await profile.begin()
        await profile.wait()
        assert server.asked == ["/start_profile", "/stop_profile"]
        await profile.end()  # and is not stopped twice

    asyncio.run(go())
    assert server.asked == ["/start_profile", "/stop_profile"]


@pytest.mark.parametrize("seconds", [1e9, float("inf")])
def test_it_is_bounded_whatever_is_asked(tmp_path: Path, seconds: float) -> None:
    server = Server()

    async def go() -> None:
        async with _profiler(server, Said(), tmp_path, seconds) as profile:
            assert profile.ends_s is not None
            assert profile.began_s is not None
            assert profile.ends_s - profile.began_s == profiler.MAX_SECONDS

    asyncio.run(go())


def test_it_is_stopped_where_the_block_fails(tmp_path: Path) -> None:
    server = Server()

    async def go() -> None:
        async with _profiler(server, Said(), tmp_path):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(go())
    assert not server.tracing


def test_it_is_stopped_where_the_run_is_cancelled_even_twice(tmp_path: Path) -> None:
    server = Server()

    async def go() -> None:
        async def run() -> None:
            async with _profiler(server, Said(), tmp_path):
                started.set()
                await asyncio.Event().wait()

        started = asyncio.Event()
        task = asyncio.create_task(run())
        await started.wait()
        server.gate = asyncio.Event()  # the server takes its time to write
        server.entered.clear()
        task.cancel()
        await server.entered.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        server.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert server.asked == ["/start_profile", "/stop_profile"]
    assert not server.tracing


def test_who_is_cancelled_does_not_wait_for_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler, "LEAVE_SECONDS", 0.02)
    server = Server()

    async def go() -> Profiler:
        one = _profiler(server, Said(), tmp_path)
        await one.begin()
        server.gate = asyncio.Event()  # never: it writes for minutes
        server.entered.clear()
        task = asyncio.create_task(one.end())
        await server.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert not one.running
        return one

    one = asyncio.run(go())
    assert server.asked == ["/start_profile", "/stop_profile"]
    assert one.told == "the server was told to stop, and writes its trace"


def test_a_start_that_is_cancelled_on_its_way_is_taken_back(tmp_path: Path) -> None:
    server = Server()

    async def go() -> None:
        server.gate = asyncio.Event()
        task = asyncio.create_task(_profiler(server, Said(), tmp_path).begin())
        await server.entered.wait()
        task.cancel()
        await asyncio.sleep(0)
        server.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert server.asked == ["/start_profile", "/stop_profile"]
    assert not server.tracing


def test_a_start_that_hangs_is_taken_back_before_whoever_asked_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "LEAVE_SECONDS", 0.1)
    asked: list[str] = []
    entered = asyncio.Event()

    async def post(path: str) -> tuple[int, str]:
        asked.append(path)
        entered.set()
        if path == "/start_profile":
            await asyncio.Event().wait()
        return 200, ""

    async def go() -> None:
        task = asyncio.create_task(Profiler(post, 10, proc=tmp_path).begin())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert asked == ["/start_profile", "/stop_profile"]


def test_a_server_without_it_is_told_in_clear_words(tmp_path: Path) -> None:
    server = Server(on=False)
    with pytest.raises(NotSwitchedOn, match="no torch profiler switched on: start it with --profiler-config"):
        asyncio.run(_profiler(server, Said(), tmp_path).begin())
    assert server.asked == ["/start_profile"]
    with pytest.raises(NotSwitchedOn):
        asyncio.run(profiler.stop(server.post))


def test_the_profile_of_another_is_left_to_him(tmp_path: Path) -> None:
    server = Server()
    server.tracing = True
    with pytest.raises(AlreadyRunning, match="being profiled already"):
        asyncio.run(_profiler(server, Said(), tmp_path).begin())
    assert server.asked == ["/start_profile"]
    assert server.tracing


def test_a_start_of_which_nothing_is_known_is_taken_back(tmp_path: Path) -> None:
    server = Server()
    server.answers["/start_profile"] = (500, '{"error": {"message": "CUPTI\\n is busy"}}')
    with pytest.raises(ProfileFailed, match="did not start its profiler: HTTP 500: CUPTI is busy"):
        asyncio.run(_profiler(server, Said(), tmp_path).begin())
    assert server.asked == ["/start_profile", "/stop_profile"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_does_not_let_us_in_is_told(status: int) -> None:
    server = Server()
    server.answers["/start_profile"] = (status, "no")
    with pytest.raises(ProfileFailed, match=f"does not let us profile it: HTTP {status}: no"):
        asyncio.run(profiler.start(server.post))


def test_one_that_cannot_be_stopped_is_said_loudly(tmp_path: Path) -> None:
    server, said = Server(), Said()
    server.answers["/stop_profile"] = (500, "")

    async def go() -> Profiler:
        async with _profiler(server, said, tmp_path) as profile:
            pass
        return profile

    profile = asyncio.run(go())
    assert "did not stop its profiler, and may go on tracing: HTTP 500: (no text)" in profile.error
    assert said[-1] == (profile.error, "bad")
    assert profile.traces == ()


def test_a_client_that_raises_is_a_sentence() -> None:
    async def post(path: str) -> tuple[int, str]:
        raise ConnectionResetError("gone")

    with pytest.raises(ProfileFailed, match="/start_profile: ConnectionResetError: gone"):
        asyncio.run(profiler.start(post))


def test_a_start_without_an_answer_is_taken_back(tmp_path: Path) -> None:
    asked = []

    async def post(path: str) -> tuple[int, str]:
        asked.append(path)
        if path == "/start_profile":
            raise CannotStart("the server did not answer /start_profile within 30 s")
        return 200, ""

    with pytest.raises(ProfileFailed, match="/start_profile: the server did not answer /start_profile within 30 s"):
        asyncio.run(Profiler(post, 10, proc=tmp_path).begin())
    assert asked == ["/start_profile", "/stop_profile"]


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler, "START_SECONDS", 0.01)
    server = Server()

    async def go() -> None:
        server.gate = asyncio.Event()
        await profiler.start(server.post)

    with pytest.raises(ProfileFailed, match=r"/start_profile: the server did not answer within 0\.01 s"):
        asyncio.run(go())


def test_a_profiler_is_used_once(tmp_path: Path) -> None:
    server = Server()

    async def go() -> None:
        async with _profiler(server, Said(), tmp_path) as profile:
            with pytest.raises(AlreadyRunning):
                await profile.begin()

    asyncio.run(go())
    assert server.asked == ["/start_profile", "/stop_profile"]
