from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from monitor.found_servers import FoundServer, FoundServers

ONE, OTHER = FoundServer("http://127.0.0.1:8000", "n1:8000", 5), FoundServer("http://10.0.0.2:8001", "10.0.0.2:8001", 7)
FILE = "found-servers.json"


def test_what_was_kept_is_read_by_the_next_run(tmp_path: Path) -> None:
    asyncio.run(FoundServers(tmp_path).keep((ONE, OTHER), 1_000))
    assert FoundServers(tmp_path).read() == (ONE, OTHER)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    asyncio.run(FoundServers(tmp_path).keep((OTHER,), 2_000))
    assert FoundServers(tmp_path).read() == (OTHER,)


def test_it_is_written_where_it_changed_and_once_a_minute(tmp_path: Path) -> None:
    async def main() -> list[bool]:
        kept, written = FoundServers(tmp_path), []
        for servers, at_ms in (((), 0), ((ONE,), 1), ((ONE,), 30_000), ((ONE,), 61_000), ((), 61_500), ((), 200_000)):
            await kept.keep(servers, at_ms)
            written.append((tmp_path / FILE).exists())
            (tmp_path / FILE).unlink(missing_ok=True)
        return written

    assert asyncio.run(main()) == [False, True, False, True, True, False]


def test_nothing_kept_is_no_fault_and_what_is_not_ours_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert FoundServers(tmp_path).read() == ()
    assert not caplog.records
    for data in (b"{", b"\xff", b"[1]", b"null"):
        (tmp_path / FILE).write_bytes(data)
        assert FoundServers(tmp_path).read() == ()
    assert len([one for one in caplog.records if FILE in one.getMessage()]) == 4


def test_a_disk_that_takes_nothing_is_told_and_not_tried_each_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "found-servers.new").mkdir()  # so that even root cannot write there

    async def main() -> None:
        kept = FoundServers(tmp_path)
        await kept.keep((ONE,), 1_000)
        assert "cannot be kept over a restart: Is a directory" in caplog.text
        (tmp_path / "found-servers.new").rmdir()
        await kept.keep((ONE,), 2_000)
        assert not (tmp_path / FILE).exists()
        await kept.keep((ONE,), 12_000)
        assert (tmp_path / FILE).exists()

    asyncio.run(main())


def test_a_disk_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(FoundServers, "_write", lambda self, data: answers.wait(60))
    monkeypatch.setattr("monitor.found_servers._PATIENCE", 0.05)

    async def main() -> None:
        kept = FoundServers(tmp_path)
        await kept.keep((ONE,), 1_000)
        assert "the disk does not answer" in caplog.text
        assert not answers.is_set()
        await kept.keep((ONE,), 12_000)  # the call before still hangs
        assert "calls wait already" in caplog.text

    with caplog.at_level(logging.WARNING):
        try:
            asyncio.run(main())
        finally:
            answers.set()
