"""What a daemon watches without being told: a server that runs on the node."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.daemons import RunningDaemon, daemon, wait_for
from tests.nvml_stub.control import Stub, compile_library

STORM = Path(__file__).parent / "data" / "preemption-storm-2.prom"

# Started as `python …/vllm serve tiny --port N --api-key hush`: what a node's process list shows of a real one.
SERVER = """
import http.server, pathlib, sys
pages = {"/metrics": pathlib.Path(%r).read_bytes(), "/version": b'{"version":"0.32.0"}', "/health": b""}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in pages else 404)
        self.send_header("Content-Length", str(len(pages.get(self.path, b""))))
        self.end_headers()
        self.wfile.write(pages.get(self.path, b""))
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def vllm(folder: Path, port: int = 0) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A process that looks like a vLLM server, and its port."""
    script = folder / "bin" / "vllm"
    script.parent.mkdir(exist_ok=True)
    script.write_text(SERVER % str(STORM))
    command = [sys.executable, str(script), "serve", "tiny", "--port", str(port), "--api-key", "hush"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def server_row(one: RunningDaemon, port: int) -> dict[str, Any] | None:
    rows = one.get("/api/gpumon/v1/sources")["sources"]
    return next((row for row in rows if row["source"] == "vllm" and row["server"].endswith(f":{port}")), None)


def test_a_server_on_the_node_is_found_and_its_end_is_seen(tmp_path: Path) -> None:
    with vllm(tmp_path) as (port, process), daemon(tmp_path) as one:

        def up() -> dict[str, Any] | None:
            row = server_row(one, port)
            return row if row and row["up"] else None

        wait_for(up, "the server to be found")
        waiting = wait_for(lambda: one.query(f"vllm:num_requests_waiting{{server=~'.*:{port}'}}"), "its readings")
        assert waiting[0][1] == 12
        listed = [row for row in one.get("/api/gpumon/v1/processes")["processes"] if row["pid"] == process.pid]
        assert "hush" not in str(listed)
        assert "hush" not in one.text("/metrics") + one.log()
        process.kill()
        process.wait()

        def down() -> dict[str, Any] | None:
            row = server_row(one, port)
            return row if row and not row["up"] else None

        assert "refused" in wait_for(down, "its end")["reason"]
        wait_for(lambda: not one.query(f"vllm:num_requests_waiting{{server=~'.*:{port}'}}"), "its series to end")

        def told() -> list[str]:
            events = one.get("/api/gpumon/v1/events")["events"]
            return [event["kind"] for event in events if event["labels"].get("server", "").endswith(f":{port}")]

        wait_for(lambda: "source_down" in told(), "the event of its end")
        assert told() == ["server_found", "source_down"]


def test_a_configuration_may_say_not_to_look(tmp_path: Path) -> None:
    config = tmp_path / "gpumon.yaml"
    with vllm(tmp_path) as (port, _), vllm(tmp_path) as (other, _):
        config.write_text(f"sources: {{vllm: {{discover: false, servers: ['http://127.0.0.1:{port}']}}}}\n")
        with daemon(tmp_path, "--config", str(config)) as one:
            wait_for(lambda: one.query("node_load1"), "the host")
            wait_for(lambda: one.query("vllm:num_requests_waiting"), "the configured server")
            assert server_row(one, other) is None
            assert len([r for r in one.get("/api/gpumon/v1/sources")["sources"] if r["source"] == "vllm"]) == 1


def test_a_lost_gpu_is_seen_by_a_shipped_rule_while_the_others_go_on(tmp_path: Path) -> None:
    stub = Stub(tmp_path, compile_library(tmp_path))
    try:
        stub.gpus(3)
        with daemon(tmp_path, env=stub.env()) as one:
            wait_for(lambda: one.query("count(DCGM_FI_DEV_GPU_TEMP) == 3"), "three GPUs")
            assert [gpu["index"] for gpu in one.get("/api/gpumon/v1/topology")["gpus"]] == [0, 1, 2]
            stub.fault(1, "lost")
            wait_for(lambda: one.query("gpumon_gpu_up == 0"), "the loss")
            assert sorted(labels["gpu"] for labels, _ in one.query("DCGM_FI_DEV_GPU_TEMP")) == ["0", "2"]
            alerts = wait_for(lambda: one.query("ALERTS{alertname='GpuLost'}"), "the alert")
            assert [labels["gpu"] for labels, _ in alerts] == ["1"]
            rows = one.get("/api/gpumon/v1/sources")["sources"]
            (nvml,) = [row for row in rows if row["source"] == "nvml"]
            assert nvml["up"]
            assert "lost" in nvml["facts"]["gpu 1"]
    finally:
        stub.close()


CANARY = "sources: {vllm: {discover: false, servers: [{url: 'http://127.0.0.1:%d', canary: true}]}}\n"


def sources(one: RunningDaemon) -> set[str]:
    return {row["source"] for row in one.get("/api/gpumon/v1/sources")["sources"]}


def test_a_server_gets_a_canary_where_the_configuration_says_so(tmp_path: Path) -> None:
    config = tmp_path / "gpumon.yaml"
    with vllm(tmp_path) as (port, _):
        config.write_text(CANARY % port)
        with daemon(tmp_path, "--config", str(config)) as one:
            # The page names no model's list: nothing is asked, and the reason is said.
            found = wait_for(lambda: one.query('gpumon_canary_state{state="unreadable"} == 1'), "the canary's state")
            assert found[0][0]["server"].endswith(f":{port}")

            def reason() -> str:
                rows = one.get("/api/gpumon/v1/sources")["sources"]
                return str(next(row["facts"].get("reason", "") for row in rows if row["source"] == "canary"))

            wait_for(lambda: "its model is not known /v1/models: HTTP 404" in reason(), "the reason")
            assert 'gpumon_canary_failures{server="' in one.text("/metrics")
            config.write_text(CANARY.replace("true", "false") % port)
            one.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "canary" not in sources(one), "the canary to go")


def test_a_private_daemon_sends_no_canary(tmp_path: Path) -> None:
    config = tmp_path / "gpumon.yaml"
    with vllm(tmp_path) as (port, _):
        config.write_text(CANARY % port)
        with daemon(tmp_path, "--config", str(config), "--mode", "private") as one:
            wait_for(lambda: one.query("vllm:num_requests_waiting"), "the configured server")
            assert sources(one) >= {"vllm", "engine"}
            assert "canary" not in sources(one)


DOWN = """groups:
- name: down
  interval: 1s
  rules:
  - {alert: Down, expr: 'gpumon_source_up{source="vllm"} == 0'}
  - {alert: Waits, expr: 'vllm:num_requests_waiting > 5'}
  - {alert: Loaded, expr: 'node_load1 >= 0'}
"""


def firing(one: RunningDaemon) -> set[tuple[str, str]]:
    found = one.query('ALERTS{alertstate="firing"}')
    return {(labels["alertname"], labels.get("server", "").rpartition(":")[2]) for labels, _ in found}


def test_a_reload_ends_no_alert_and_forgets_no_server_that_was_found(tmp_path: Path) -> None:
    config, rules = tmp_path / "gpumon.yaml", tmp_path / "rules.yaml"
    rules.write_text(DOWN)
    text = "{alerting: {rule_files: [rules.yaml]}, sources: {host: {interval: %ds}, vllm: {servers: [%s]}}}"
    config.write_text(text % (1, ""))
    for name in "ab":
        (tmp_path / name).mkdir()
    with (
        vllm(tmp_path / "a") as (alive, _),
        vllm(tmp_path / "b") as (dead, process),
        daemon(tmp_path, "--config", str(config)) as one,
    ):
        wait_for(lambda: all((row := server_row(one, port)) and row["up"] for port in (alive, dead)), "both")
        process.kill()
        process.wait()
        told = {("Down", str(dead)), ("Waits", str(alive)), ("Loaded", "")}
        wait_for(lambda: firing(one) == told, "what fires")
        for number, others in enumerate(("", "'http://127.0.0.1:9'", f"'http://127.0.0.1:{dead}'"), 2):
            config.write_text(text % (number, others))
            one.process.send_signal(signal.SIGHUP)
            wait_for(lambda number=number: one.log().count("reloaded") >= number - 1, "the reload")  # type: ignore[misc]
            before = one.query("gpumon_rule_evaluations_total")
            wait_for(lambda before=before: one.query("gpumon_rule_evaluations_total") != before, "an evaluation")  # type: ignore[misc]
            assert firing(one) >= told
            row = server_row(one, dead)
            assert row
            assert not row["up"]
        assert "firing -> inactive" not in one.log()


def test_a_server_that_died_is_missed_by_the_next_run_too(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(DOWN)
    with vllm(tmp_path) as (port, process):
        with daemon(tmp_path, "--rules", str(rules)) as one:
            wait_for(lambda: (row := server_row(one, port)) and row["up"], "the server")
            kept = tmp_path / "state" / "found-servers.json"
            wait_for(lambda: str(port) in kept.read_text() if kept.exists() else False, "the file")
            process.kill()
            process.wait()
            wait_for(lambda: ("Down", str(port)) in firing(one), "the alert")
            one.end()
        with daemon(tmp_path, "--rules", str(rules)) as one:
            row = server_row(one, port)
            assert row
            assert not row["up"]
            wait_for(lambda: ("Down", str(port)) in firing(one), "the alert to go on")
