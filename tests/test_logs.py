"""The log as text, as JSON and as the journal's fields: which is taken where; that it repeats and betrays nothing."""

from __future__ import annotations

import array
import io
import json
import logging
import os
import pty
import re
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import journal, logs
from tests.daemons import PATIENCE, daemon, wait_for


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def received(at: socket.socket) -> list[dict[str, str]]:
    """The entries that came in, read as journald does."""
    entries: list[dict[str, str]] = []
    while True:
        try:
            data, ancillary, _, _ = at.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return entries
        for _, _, raw in ancillary:
            fds = array.array("i")
            fds.frombytes(raw[:4])
            with open(fds[0], "rb") as file:
                assert os.readlink(f"/proc/self/fd/{fds[0]}").startswith("/memfd:")
                file.seek(0)
                data = file.read()
        entries.append(fields(data))


def fields(data: bytes) -> dict[str, str]:
    """The fields of an entry in the journal's native form."""
    found: dict[str, str] = {}
    while data:
        head, _, rest = data.partition(b"\n")
        name, is_plain, value = head.partition(b"=")
        if is_plain:
            data = rest
        else:
            (length,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + length], rest[9 + length :]
        assert name.decode() not in found
        assert re.fullmatch("[A-Z][A-Z0-9_]*", name.decode())
        found[name.decode()] = value.decode()
    return found


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as at:
        at.bind(path)
        at.setblocking(False)
        yield at, path


def a_logger(handler: logging.Handler) -> logging.Logger:
    """A logger of its own with nothing but ``handler``."""
    logger = logging.getLogger("tests.logs")
    logger.propagate = False
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
    return logger


def test_the_journal_gets_fields(journald: tuple[socket.socket, str]) -> None:
    at, path = journald
    handler = journal.JournalHandler(path)
    logger = a_logger(handler)
    logger.warning("source %s is down", "vllm", extra=logs.about(source="vllm", server="a:8000", rule=""))
    try:
        raise PermissionError(13, "Permission denied")
    except PermissionError:
        logger.exception("it failed\nin two lines = ü")
    handler.close()
    first, second = received(at)
    assert first["MESSAGE"] == "source vllm is down"
    assert first["PRIORITY"] == "4"
    assert first["SYSLOG_IDENTIFIER"] == "gpumon"
    assert first["LOGGER"] == "tests.logs"
    assert first["CODE_FILE"] == __file__
    assert first["CODE_FUNC"] == "test_the_journal_gets_fields"
    assert int(first["CODE_LINE"]) > 1
    assert (first["GPUMON_SOURCE"], first["GPUMON_SERVER"]) == ("vllm", "a:8000")
    assert "GPUMON_RULE" not in first
    assert second["PRIORITY"] == "3"
    assert second["ERRNO"] == "13"
    assert second["MESSAGE"].startswith("it failed\nin two lines = ü\nTraceback")


def test_what_no_datagram_holds_goes_whole(journald: tuple[socket.socket, str]) -> None:
    at, path = journald
    handler = journal.JournalHandler(path)
    a_logger(handler).error("x" * 3_000_000)
    handler.close()
    (entry,) = received(at)
    assert entry["MESSAGE"] == "x" * 3_000_000


def test_a_journal_that_was_started_anew_is_found_again(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    handler = journal.JournalHandler(path)
    logger = a_logger(handler)
    for n in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as at:
            at.bind(path)
            at.setblocking(False)
            logger.info("start %d", n)
            assert [entry["MESSAGE"] for entry in received(at)] == [f"start {n}"]
        os.unlink(path)
    handler.close()


def test_without_the_socket_the_lines_have_priorities(tmp_path: Path) -> None:
    out = io.StringIO()
    handler = journal.JournalHandler(str(tmp_path / "none"), out)
    a_logger(handler).error("two\nlines")
    handler.close()
    assert out.getvalue() == "<3>two\n<3>lines\n"


def test_a_journal_that_takes_nothing_holds_nobody_up_and_what_is_lost_is_counted(
    journald: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_PATIENCE", 0.01)
    at, path = journald
    handler = journal.JournalHandler(path, io.StringIO())
    logger = a_logger(handler)
    for n in range(1000):
        logger.info("line %d", n)
        if handler._lost == 3:
            break
    taken = len(received(at))
    logger.info("after")
    handler.close()
    (after,) = received(at)
    assert taken == n - 2
    assert after["MESSAGE"] == "after (3 lines before this one were lost: the journal did not take them)"


def test_a_journal_that_hangs_is_waited_for_once_and_not_for_each_line(
    journald: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[bool] = []

    class Watched(socket.socket):
        def send(self, data: object, flags: int = 0) -> int:
            assert self.gettimeout() is None
            waits.append(not flags & socket.MSG_DONTWAIT)
            return super().send(data, flags)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "_PATIENCE", 0.01)
    monkeypatch.setattr(socket, "socket", Watched)
    at, path = journald
    handler = journal.JournalHandler(path, io.StringIO())
    logger = a_logger(handler)
    for n in range(1000):
        logger.info("line %d", n)
        if handler._lost == 5:
            break
    assert waits[-5:] == [True, False, False, False, False]
    received(at)
    logger.info("after")
    logger.info("as before")
    handler.close()
    assert waits[-2:] == [False, True]
    assert [one["MESSAGE"].partition(" (")[0] for one in received(at)] == ["after", "as before"]


def test_what_is_set_up_for_systemd_is_the_journal_with_the_net_before_it(
    journald: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at, path = journald
    monkeypatch.setattr(journal, "SOCKET", path)
    monkeypatch.delenv("GPUMON_LOG_FORMAT", raising=False)
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.set_up("", stream=stream)
        for _ in range(100):
            logging.getLogger("tests.of_logs").info("again", extra=logs.about(source="nvml"))
        logging.getLogger("httpx").info("of no use")
        before = len(received(at))
        logs.set_up("text", stream=stream)  # which ends the one before, with what it held back
    (last,) = received(at)
    assert before == 5
    assert last["MESSAGE"].startswith("again (and 94 more like it in ")
    assert last["GPUMON_SOURCE"] == "nvml"
    assert (tmp_path / "stderr").read_text() == ""


def test_json_lines() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonFormatter())
    logger = a_logger(handler)
    logger.warning("two\nlines", extra=logs.about(source="nvml", message="no"))
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "warning", "logger": "tests.logs", "message": "two\nlines", "source": "nvml"}
    assert second["message"] == "failed"
    assert second["traceback"].endswith("ValueError: why")


def test_which_form_is_taken_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMON_LOG_FORMAT", raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with (tmp_path / "log").open("w") as file:
        assert logs.chosen("", file) == "json"
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert logs.chosen("", file) == "journal"
        monkeypatch.setenv("GPUMON_LOG_FORMAT", "json")
        assert logs.chosen("", file) == "json"
        assert logs.chosen("text", file) == "text"
        assert logs.chosen("auto", file) == "journal"
        # What a child of a service has that writes somewhere else.
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert logs.chosen("auto", file) == "json"
        monkeypatch.setenv("GPUMON_LOG_FORMAT", "xml")
        with pytest.raises(ValueError, match='GPUMON_LOG_FORMAT: "xml" is none of auto, text, json, journal'):
            logs.chosen("", file)
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        assert logs.chosen("auto", terminal) == "text"
    os.close(master)


def test_a_bad_form_in_the_environment_is_a_wrong_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "daemon", "--simulate", "--socket", str(tmp_path / "s"), "--listen", "none"],
        env={**os.environ, "GPUMON_LOG_FORMAT": "xml"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert '"xml" is none of' in done.stderr


SECRETS = ("s3cr3t-token", "s3cr3t-hook", "s3cr3t-key", "s3cr3t-beat", "s3cr3t-pass")


def test_a_daemon_that_everything_fails_says_each_thing_once_and_no_secret(tmp_path: Path) -> None:
    """Servers that are not there, a receiver, an Alertmanager and a heartbeat that nobody takes, a rule that fails, and
    a state that cannot be written: 30 times as fast as the world, and at the most detailed."""
    config = tmp_path / "gpumon.yaml"
    config.write_text(
        "receivers:\n"
        "  - {name: ops, apprise: ['json://bot:s3cr3t-pass@127.0.0.1:9/s3cr3t-hook']}\n"
        "route: {receiver: ops, group_wait: 0s, group_interval: 1s, repeat_interval: 1m}\n"
        "alerting:\n"
        "  evaluation_interval: 1s\n"
        "  alertmanagers: [{url: 'http://127.0.0.1:9', bearer_token: s3cr3t-token}]\n"
        "heartbeat: ['http://127.0.0.1:9/s3cr3t-beat']\n"
        "sources: {vllm: {servers: [{url: 'http://127.0.0.1:9', api_key: s3cr3t-key}]}}\n"
    )
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "groups:\n- name: g\n  interval: 1s\n  rules:\n"
        "  - {alert: Always, expr: 'vector(1)'}\n"
        '  - {record: twice, expr: \'label_replace({__name__=~"DCGM_FI_DEV_.+"}, "gpu", "x", "", "")\'}\n'
    )
    state = tmp_path / "state"
    state.mkdir()
    (state / "gpumon.db").mkdir()  # no file can be there
    (state / "history.sqlite").mkdir()
    options = ("--config", str(config), "--rules", str(rules), "--verbose", "--log-format", "json")
    with daemon(tmp_path, "--simulate", "--speed", "30", *options) as one:
        wait_for(lambda: "rule twice of g fails" in one.log(), "the rule's failure")
        wait_for(lambda: "a message to ops failed" in one.log(), "the receiver's failure")
        wait_for(lambda: "alerts are not recorded" in one.log(), "the outbox's failure")
        wait_for(lambda: "history is not written" in one.log(), "the history's failure")
        wait_for(
            lambda: "Alertmanager http://127.0.0.1:9: connection refused" in one.log(), "the Alertmanager's failure"
        )
        wait_for(lambda: one.query("gpumon_rule_evaluation_failures_total > 60"), "a minute of failures")
        one.end()
        lines = [json.loads(line) for line in one.log().splitlines()]
    assert not [word for word in SECRETS if word in one.log()]
    counts = Counter((line["logger"], line["message"]) for line in lines if line["level"] != "debug")
    assert {message: n for (_, message), n in counts.items() if n > 1} == {}
    alike = Counter((line["logger"], re.sub(r"\d+", "#", line["message"])) for line in lines if "gpu" not in line)
    assert {message: n for (_, message), n in alike.items() if n > 6} == {}
    (rule,) = [line for line in lines if line["message"].startswith("rule twice")]
    assert (rule["level"], rule["rule"], rule["group"]) == ("error", "twice", "g")
