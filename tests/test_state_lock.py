"""The state directory's lock while its disk misbehaves."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from monitor.state_lock import StateInUse, StateLock, last_alive_ms

_LONG_AGO = (1_000_000_000, 1_000_000_000)


async def touched(lock: StateLock) -> None:
    """Have it touched, and wait for that."""
    lock.touch()
    assert lock._touching is not None
    await lock._touching


def test_a_sign_of_life_moves_the_time(tmp_path: Path) -> None:
    lock = StateLock.take(tmp_path)
    lock.ended_by_itself()  # which writes to the file
    os.utime(tmp_path / "lock", _LONG_AGO)
    before = last_alive_ms(tmp_path)
    asyncio.run(touched(lock))
    after = last_alive_ms(tmp_path)
    assert before is not None
    assert after is not None
    assert after > before
    lock.drop()


def test_a_disk_that_refuses_is_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    async def run() -> None:
        with monkeypatch.context() as broken:
            broken.setattr(os, "utime", refuse)
            await touched(lock)
            await touched(lock)
        await touched(lock)

    lock = StateLock.take(tmp_path)
    asyncio.run(run())
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"no sign of life can be left in {tmp_path}: Read-only file system",
        next(text for text in said if "again (after 2 failures" in text),
    ]
    lock.drop()


def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    calls = []

    def wait(*arguments: object) -> None:
        calls.append(arguments)
        hang.wait()

    async def run() -> None:
        lock.touch()
        await asyncio.sleep(0)
        lock.touch()
        lock.touch()
        await lock.leave()

    monkeypatch.setattr(os, "utime", wait)
    monkeypatch.setattr("monitor.state_lock._PATIENCE", 0.01)
    lock = StateLock.take(tmp_path)
    try:
        asyncio.run(run())
    finally:
        hang.set()
    assert len(calls) == 1, "one thread at a time"
    lock.drop()


def test_a_directory_that_was_deleted_is_taken_anew(tmp_path: Path) -> None:
    state = tmp_path / "state"
    lock = StateLock.take(state)
    shutil.rmtree(state)
    asyncio.run(touched(lock))
    assert last_alive_ms(state) is not None, "it is the file of a run"
    with pytest.raises(StateInUse, match="another gpumon daemon keeps its state in"):
        StateLock.take(state)
    lock.drop()


def test_a_directory_that_another_took_meanwhile_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    lock = StateLock.take(state)
    shutil.rmtree(state)
    other = StateLock.take(state)
    asyncio.run(touched(lock))
    assert "another gpumon daemon keeps its state in" in caplog.text
    other.drop()
    asyncio.run(touched(lock))
    assert "is this daemon's, and takes its signs of life, again" in caplog.text
    lock.drop()


def test_a_directory_that_could_not_be_written_is_taken_when_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    lock = StateLock.take(tmp_path / "state")
    assert "cannot be written" in caplog.text
    assert not lock.ended_by_itself()
    (tmp_path / "state").unlink()
    asyncio.run(touched(lock))
    assert last_alive_ms(tmp_path / "state") is not None
    lock.drop()


def test_a_directory_that_is_open_to_others_is_closed(tmp_path: Path) -> None:
    for name, inside in (("empty", ""), ("used", "gpumon.db")):
        directory = tmp_path / name
        directory.mkdir()
        directory.chmod(0o777)
        if inside:
            (directory / inside).touch()
        StateLock.take(directory).drop()
        assert directory.stat().st_mode & 0o7777 == 0o700


def test_a_file_that_another_daemon_takes_away_meanwhile_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = StateLock.take(tmp_path)
    monkeypatch.setattr(os, "listdir", lambda path: ["gpumon.db-wal", "lock"])
    with pytest.raises(StateInUse, match="another gpumon daemon keeps its state"):
        StateLock.take(tmp_path)
    other.drop()


@pytest.mark.parametrize(("mode", "inside"), [(0o777, "letters"), (0o1777, "gpumon.db")])
def test_a_directory_that_is_not_ours_alone_is_left_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, inside: str
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / inside).touch()
    (tmp_path / "shared").chmod(mode)
    StateLock.take(tmp_path / "shared").drop()
    assert (tmp_path / "shared").stat().st_mode & 0o7777 == mode
    assert "is open to others" in caplog.text


def test_a_mask_that_takes_all_away_leaves_a_directory_that_can_be_used(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        StateLock.take(tmp_path / "state").drop()
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("name", ["lock", "history.sqlite"])
def test_a_pipe_in_the_place_of_a_file_is_told_and_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert last_alive_ms(tmp_path) is None
    with pytest.raises(StateInUse, match=f"{name} is no file: move it away"):
        StateLock.take(tmp_path)
