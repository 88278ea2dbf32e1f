"""The daemon as a process: it begins, ends, reloads, notifies, and keeps out of its memory what has no place there."""

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from monitor.samples import Scrape, Shape, make_labels
from monitor.store.head import Head
from monitor.store.history import History
from tests.daemons import PATIENCE, RunningDaemon, daemon, wait_for

HEAVY = ("textual", "aiohttp", "apprise", "numpy", "pynvml", "pydantic")

RULES = """
groups:
- name: test
  interval: 1s
  rules:
  - alert: Loaded
    expr: node_load1 >= 0
    labels: {severity: warning}
    annotations: {summary: "load is {{ $value }}"}
  - record: gpus:count
    expr: count(DCGM_FI_DEV_GPU_TEMP)
"""


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that keeps the JSON that it is sent; its address for apprise."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_serves_a_simulated_node_and_ends_cleanly(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate", "--past", "600", "--listen", "127.0.0.1:0") as one:
        gpus = wait_for(lambda: one.query("DCGM_FI_DEV_GPU_TEMP"), "GPUs")
        assert sorted(labels["gpu"] for labels, _ in gpus) == [str(i) for i in range(8)]
        assert one.query("gpumon_simulated")[0][1] == 1
        assert one.query("count_over_time(DCGM_FI_DEV_GPU_TEMP{gpu='0'}[10m])")[0][1] > 50
        rows = one.get("/api/gpumon/v1/processes")["processes"]
        assert len([row for row in rows if row["gpu"]]) == 8
        assert {row["parent"] for row in rows} - {1} < {row["pid"] for row in rows}, "each is some other's child"
        up = wait_for(lambda: one.query("gpumon_source_up == 1"), "sources that are up")
        assert {labels["source"] for labels, _ in up} == {"nvml", "host", "vllm", "engine"}
        assert "gpumon_simulated 1.0" in one.text("/metrics")
        assert one.end() == 0
        assert not one.socket.exists()
        assert "Traceback" not in one.log()


def test_a_node_without_a_driver_says_so_and_watches_the_rest(tmp_path: Path) -> None:
    # An empty library path with a broken library in it: no driver, whatever this machine has.
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    with daemon(tmp_path, env={"LD_LIBRARY_PATH": str(tmp_path)}) as one:
        load = wait_for(lambda: one.query("node_load1"), "the host")
        assert len(load) == 1

        def nvml() -> dict[str, Any] | None:
            rows = one.get("/api/gpumon/v1/sources")["sources"]
            found: dict[str, Any] = next(row for row in rows if row["source"] == "nvml")
            return found if found["reason"] != "not asked yet" else None

        state = wait_for(nvml, "a word on the driver")
        assert not state["up"]
        assert state["absent"]
        assert "driver" in state["reason"]
        assert not one.query("gpumon_simulated")
        assert not one.query("DCGM_FI_DEV_GPU_TEMP")


def test_it_loads_nothing_heavy(tmp_path: Path) -> None:
    script = (
        f"import sys; import monitor.daemon, monitor.commands.daemon; print([m for m in {HEAVY} if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
    with daemon(tmp_path, "--simulate") as one:
        wait_for(lambda: one.query("node_load1"), "readings")
        maps = Path(f"/proc/{one.process.pid}/maps").read_text()
        assert not [name for name in ("aiohttp", "numpy", "pydantic") if name in maps]


def test_httpx_comes_without_its_command_line() -> None:
    code = (
        "import sys; from monitor.commands import daemon; from monitor.config import Config\n"
        "def read(): raise SystemExit(0 if 'rich' not in sys.modules and 'httpx' in sys.modules else 1)\n"
        "daemon._run(read, '', 'system', True, 1.0, 0.0, None)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_alert_is_notified_and_so_is_its_end(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    with receiver() as (url, got):
        config = tmp_path / "gpumon.yaml"
        config.write_text(
            "node: {hostname: n1}\n"
            "alerting: {rule_files: [rules.yaml], evaluation_interval: 1s}\n"
            "receivers: [{name: hook, apprise: {env: GPUMON_TEST_HOOK}}]\n"
            "route: {receiver: hook, group_wait: 0s, group_interval: 1s}\n"
        )
        with daemon(tmp_path, "--config", str(config), env={"GPUMON_TEST_HOOK": url}) as one:
            first = wait_for(lambda: got[0] if got else None, "the firing")
            assert "FIRING" in first["title"]
            assert "Loaded" in first["title"]
            assert "load is" in first["message"]
            assert one.get("/api/v1/alerts")["data"]["alerts"][0]["state"] == "firing"
            (tmp_path / "rules.yaml").write_text(RULES.replace("node_load1 >= 0", "node_load1 < 0"))
            one.process.send_signal(signal.SIGHUP)
            second = wait_for(lambda: got[1] if len(got) > 1 else None, "the end")
            assert "RESOLVED" in second["title"] or "ENDED" in second["title"]
            wait_for(lambda: one.query("gpumon_notifications_sent_total == 2"), "the count")
            assert url not in one.log()
            assert url not in one.text("/metrics")
            assert one.end() == 0


def test_a_bad_file_changes_nothing_at_a_reload(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    config = tmp_path / "gpumon.yaml"
    config.write_text("alerting: {rule_files: [rules.yaml]}\n")
    with daemon(tmp_path, "--config", str(config), "--simulate") as one:
        wait_for(lambda: one.query("gpus:count == 8"), "a recorded series")
        rules.write_text(RULES.replace("count(", "cuont("))
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "not reloaded" in one.log(), "the refusal")
        assert "rules.yaml:11:" in one.log()
        groups = one.get("/api/v1/rules")["data"]["groups"]
        assert [rule["name"] for rule in groups[0]["rules"]] == ["Loaded", "gpus:count"]
        config.write_text("alrting: {}\n")
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "gpumon.yaml:1:1: unknown field" in one.log(), "the second refusal")
        config.write_text("alerting: {rule_files: [rules.yaml]}\n")
        rules.write_text(RULES.replace("gpus:count", "gpus:all"))
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: one.query("gpus:all == 8"), "the new rule")


def told_by(one: RunningDaemon) -> list[tuple[str, str]]:
    return [(event["kind"], event["title"]) for event in one.get("/api/gpumon/v1/events")["events"]]


def test_what_it_does_itself_is_among_the_events(tmp_path: Path) -> None:
    config = tmp_path / "gpumon.yaml"
    config.write_text("sources: {nvml: {enabled: false}, kernel_log: {enabled: false}, vllm: {enabled: false}}\n")
    with daemon(tmp_path, "--config", str(config)) as one:
        assert [kind for kind, _ in told_by(one)] == ["daemon_started"]
        good = config.read_text()
        config.write_text("alrting: {}\n")
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "config_refused" in dict(told_by(one)), "the refusal")
        assert "gpumon.yaml:1:1: unknown field" in dict(told_by(one))["config_refused"]
        wait_for(lambda: one.query("gpumon_config_last_reload_successful == 0"), "the series of the refusal")
        config.write_text(good + "alerting: {evaluation_interval: 9s}\n")
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "config_reloaded" in dict(told_by(one)), "the reload")
        assert dict(told_by(one))["config_reloaded"] == "configuration read again: evaluation_interval changed"
        wait_for(lambda: one.query("gpumon_config_last_reload_successful == 1"), "the series of the reload")
        assert one.end() == 0
    with daemon(tmp_path, "--config", str(config)) as one:
        events = told_by(one)
        assert [kind for kind, _ in events[-2:]] == ["daemon_stopped", "daemon_started"]
        assert events[-2][1] == "gpumon ends: SIGTERM"
        assert "it had been away for" in events[-1][1]
        one.process.kill()
        one.process.wait()
        one.socket.unlink()
    with daemon(tmp_path, "--config", str(config)) as one:
        kind, title = told_by(one)[-1]
        assert kind == "daemon_started"
        assert "ended without a word" in title


def test_a_start_that_fails_is_no_run_that_ended_without_a_word(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate") as one:
        wait_for(lambda: told_by(one), "its beginning")  # before that a signal just ends it
        assert one.end() == 0
    command = [sys.executable, "-m", "monitor", "daemon", "--simulate", "--listen", "none"]
    nowhere = ["--socket", "/proc/no/such.sock", "--state-dir", str(tmp_path / "state")]
    failed = subprocess.run([*command, *nowhere], capture_output=True, text=True, timeout=PATIENCE)
    assert failed.returncode == 1
    with daemon(tmp_path, "--simulate") as one:
        assert "it had been away for" in told_by(one)[-1][1]


def test_state_belongs_to_one_daemon(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate"):
        command = [sys.executable, "-m", "monitor", "daemon", "--simulate", "--listen", "none"]
        for places, words in [
            (["--socket", str(tmp_path / "gpumon.sock"), "--state-dir", str(tmp_path / "other")], "running already"),
            (["--socket", str(tmp_path / "b.sock"), "--state-dir", str(tmp_path / "state")], "keeps its state"),
        ]:
            done = subprocess.run([*command, *places], capture_output=True, text=True, timeout=PATIENCE)
            assert done.returncode == 1
            assert words in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "missing.yaml"], "missing.yaml:1:1: cannot be read: No such file"),
        (["--rules", "missing.yaml"], "missing.yaml:1:1: cannot be read: No such file"),
        (["--listen", "0.0.0.0:9519"], "is not a loopback address"),
        (["--vllm", "ftp://x"], "is not an http or https URL"),
        (["--speed", "10"], "for --simulate"),
    ],
)
def test_a_wrong_command_line_is_told(tmp_path: Path, arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "monitor", "daemon", "--socket", str(tmp_path / "s"), "--state-dir", str(tmp_path)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def recorded(path: Path) -> int:
    """How many transitions are on the disk."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM transitions").fetchone()[0])


def test_alerts_survive_a_kill(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    arguments = ["--simulate", "--rules", str(tmp_path / "rules.yaml")]
    with daemon(tmp_path, *arguments) as one:
        before = wait_for(lambda: one.get("/api/v1/alerts")["data"]["alerts"], "the alert")
        # What was not yet on the disk when it died has not happened: it fires anew.
        wait_for(lambda: recorded(tmp_path / "state" / "gpumon.db"), "the record")
        one.end(signal.SIGKILL)
    (tmp_path / "gpumon.sock").unlink()
    with daemon(tmp_path, *arguments) as one:
        after = one.get("/api/v1/alerts")["data"]["alerts"]
        assert [(a["state"], a["activeAt"]) for a in after] == [(a["state"], a["activeAt"]) for a in before]
        assert one.get("/api/gpumon/v1/alerts")["transitions"]


def test_readings_survive_a_kill(tmp_path: Path) -> None:
    def times(one: RunningDaemon, series: str) -> list[float]:
        rows = one.get("/api/v1/query", query=f"{series}[10m]")["data"]["result"]
        return [at for row in rows for at, _ in row["values"]]

    (tmp_path / "rules.yaml").write_text(RULES)
    arguments = ["--simulate", "--rules", str(tmp_path / "rules.yaml")]
    with daemon(tmp_path, *arguments) as one:
        kept = wait_for(lambda: times(one, "gpus:count"), "a recorded sample")
        wait_for(lambda: one.query("gpumon_history_oldest_timestamp_seconds"), "a commit")
        one.end(signal.SIGKILL)
    (tmp_path / "gpumon.sock").unlink()
    with daemon(tmp_path, *arguments) as one:
        # What was not yet committed may be lost; what was there before the commit is back, and goes on.
        assert set(times(one, "gpus:count")) >= set(kept[:1])
        assert min(times(one, 'DCGM_FI_DEV_GPU_TEMP{gpu="0"}')) <= kept[0] + 1
        last = max(times(one, "gpus:count"))
        wait_for(lambda: max(times(one, "gpus:count")) > last, "it to go on")
        assert one.get("/api/gpumon/v1/capabilities")["oldest_ms"] / 1000 <= kept[0] + 1
        assert one.query("gpumon_history_up")[0][1] == 1
        assert one.query("max(gpumon_history_lost_samples_total)") == [({}, 0.0)]


def test_without_history_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "gpumon.yaml").write_text("history: {enabled: false}\n")
    with daemon(tmp_path, "--simulate", "--config", str(tmp_path / "gpumon.yaml")) as one:
        wait_for(lambda: one.query("node_load1"), "a reading")
        assert one.query("gpumon_history_up") == []
        assert "history" not in one.get("/api/gpumon/v1/capabilities")["features"]
        assert one.get("/api/v1/query", query="node_load1", time="1000")["data"]["result"] == []
    assert not list((tmp_path / "state").glob("history*"))


def test_rules_of_a_reload_look_back_on_what_is_on_disk(tmp_path: Path) -> None:
    # An earlier daemon left two hours of a series, a sample each ten seconds.
    (tmp_path / "state").mkdir()
    history = History(tmp_path / "state" / "history.sqlite", flush_seconds=0.05)
    history.open()
    history.start()
    head = Head("gpumon", "n:9519")
    head.journal = history
    now_ms = round(time.time() * 1000)
    shape = Shape([make_labels("old")], {})
    for at_ms in range(now_ms - 7_200_000, now_ms, 10_000):
        head.ingest("s", Scrape(at_ms, shape, [1.0]))
    asyncio.run(history.close())
    config, rules = tmp_path / "gpumon.yaml", tmp_path / "rules.yaml"
    config.write_text("node: {hostname: n}\n")
    rules.write_text(RULES)
    with daemon(tmp_path, "--simulate", "--config", str(config), "--rules", str(rules)) as one:
        assert one.query("count_over_time(old[3h])")[0][1] == 720
        rules.write_text(RULES + "  - record: olds\n    expr: count_over_time(old[100m])\n")
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "look back further: 1 series" in one.log(), "the past")
        counted = wait_for(lambda: [v for _, v in one.query("olds") if v > 400], "the rule to see it")
        assert 590 <= counted[0] <= 600
