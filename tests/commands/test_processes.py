"""``gpumon processes``: a table and JSON of what a daemon lists."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.client.wire import ProcessRow
from monitor.commands.processes import table
from tests.daemons import daemon, wait_for


def test_what_a_node_runs(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate", "--past", "5") as node:
        wait_for(lambda: node.get("/api/gpumon/v1/processes")["processes"], "processes")
        target = f"unix:{node.socket}"
        done = CliRunner().invoke(cli, ["processes", "--url", target])
        assert done.exit_code == 0, done.output
        lines = done.output.splitlines()
        assert lines[0].split() == ["GPU", "PID", "user", "memory", "MiB", "SM", "CPU", "for", "command"]
        assert [line.split()[0] for line in lines[1:9]] == [str(gpu) for gpu in range(8)]
        found = json.loads(CliRunner().invoke(cli, ["processes", "--json", "--url", target]).output)
        assert {one["gpu"] for one in found["processes"]} >= {str(gpu) for gpu in range(8)}
        assert isinstance(found["at_ms"], int)


def test_what_is_not_known_is_a_dash_and_nothing_commands_the_terminal() -> None:
    (head, line) = table([ProcessRow("0", "GPU-x", 7, command="a\x1b[31mb")], terminal=False)
    assert head.startswith("GPU")
    assert "\x1b" not in line
    assert line.split() == ["0", "7", "–", "–", "–", "–", "–", "a·[31mb"]


def test_nobody_to_ask(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["processes", "--url", f"unix:{tmp_path}/none.sock"])
    assert done.exit_code == 1
    assert done.output.startswith("gpumon processes: ")


class _Prometheus(BaseHTTPRequestHandler):
    """What a Prometheus says of paths that it does not have."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("command", [["processes"], ["report", "--list"], ["report", "--send", "chat"]])
def test_a_server_that_is_no_daemon_is_said_to_be_none(command: list[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = CliRunner().invoke(cli, [*command, "--url", f"http://127.0.0.1:{server.server_address[1]}"])
        finally:
            server.shutdown()
            thread.join()
    assert done.exit_code == 1
    assert "this server" in done.output
    assert "A gpumon daemon does" in done.output
