"""What systemd hears of a real daemon: ready, alive, reloading, stopping."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import sd_notify
from monitor.sd_notify import notify, watchdog_seconds
from tests.daemons import PATIENCE, daemon, wait_for


def heard(listener: socket.socket, said: list[str]) -> list[str]:
    """Everything that came in so far."""
    while True:
        try:
            said += listener.recv(4096).decode().splitlines()
        except BlockingIOError:
            return said


def test_a_daemon_tells_systemd_how_it_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        said: list[str] = []
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        with daemon(tmp_path, "--simulate", env=env) as one:
            wait_for(lambda: heard(listener, said).count("WATCHDOG=1") >= 3, "the watchdog to be fed", PATIENCE)
            assert "READY=1" in said
            one.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "RELOADING=1" in heard(listener, said), "the reload")
            wait_for(lambda: heard(listener, said).count("READY=1") == 2, "its end")
            one.end()
            assert "STOPPING=1" in heard(listener, said)


def test_nothing_is_sent_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")


@pytest.fixture
def _no_sender() -> Iterator[None]:
    yield
    for sender in sd_notify._senders.values():
        sender.close()
    sd_notify._senders.clear()


@pytest.mark.usefixtures("_no_sender")
def test_it_is_fed_where_no_file_can_be_opened_any_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        notify("READY=1")
        monkeypatch.setattr(socket, "socket", none)
        notify("WATCHDOG=1")
        assert heard(listener, []) == ["READY=1", "WATCHDOG=1"]


@pytest.mark.usefixtures("_no_sender")
def test_a_service_manager_that_began_anew_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    for number in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(tmp_path / "notify"))
            listener.setblocking(False)
            notify(f"STATUS={number}")
            assert heard(listener, []) == [f"STATUS={number}"]
        (tmp_path / "notify").unlink()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("30000000", "", 15.0), ("0", "", None), ("30000000", "1", None), ("many", "", None), ("", "", None)],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_bites(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec or "0")
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    assert watchdog_seconds() == seconds
