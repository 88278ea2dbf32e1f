"""A server and a receiver that are hostile, and a configuration full of secrets: nothing of the one commands a
terminal, a browser or a chat, and nothing of the other is shown anywhere."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.daemons import PATIENCE, RunningDaemon, daemon, wait_for
from tests.live.servers import free_port

pytestmark = pytest.mark.live

# A title, a cleared screen, a C1 code, marks of direction and of no width, line breaks, HTML, and what calls people.
EVIL = (
    "e\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202egnp\u200b\u2028\r\x08|<b>x</b>&<!channel> @here [x](http://evil)`\U000e0041"
)
LABEL = EVIL.replace('"', '\\"') + "\\nline2"
PAGE = "".join(
    f'# HELP {name} {EVIL}\n# TYPE {name} gauge\n{name}{{engine="0",model_name="{LABEL}"}} 3\n'
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
)
COMMANDS = ("\x1b]0;PWNED", "\x9b", "\u202e", "\u200b", "\u2028", "\x08", "\U000e0041")
SECRETS = {name: f"{name}-5c1e77aa90" for name in ("hook", "url", "mail", "token", "reader", "key", "beat", "variable")}
RULES = """\
groups:
- name: evil
  interval: 1s
  rules:
  - alert: Evil
    expr: vllm:num_requests_running > 1
    labels: {severity: critical, model: "{{ $labels.model_name }}"}
    annotations: {summary: "model {{ $labels.model_name }}"}
"""
READ = (
    "/metrics", "/api/v1/status/config", "/api/v1/status/flags", "/api/v1/targets", "/api/v1/rules", "/api/v1/alerts",
    "/api/v2/status", "/api/v2/receivers", "/api/v2/alerts", "/api/gpumon/v1/capabilities", "/api/gpumon/v1/sources",
    "/api/gpumon/v1/events", "/api/gpumon/v1/alerts", "/api/gpumon/v1/processes", "/api/v1/query?query={job!=''}",
)  # fmt: skip


@dataclass
class Hostile:
    """The node, and what its receiver got."""

    daemon: RunningDaemon
    url: str
    folder: Path
    got: list[tuple[str, str]] = field(default_factory=list)
    """Path and body of each notification."""
    used: set[str] = field(default_factory=set)
    """The secrets that were sent to where they belong."""

    def gpumon(self, *arguments: str, keys: Sequence[str] = ()) -> str:
        """What a terminal is sent by a command; ``keys`` are pressed one after another."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        there = {"HOME": str(self.folder), "GPUMON_URL": f"unix:{self.daemon.socket}", "TERM": "xterm-256color"}
        process = subprocess.Popen(
            [sys.executable, "-m", "monitor", *arguments],
            stdin=its, stdout=its, stderr=its, env={**os.environ, **there}, start_new_session=True,
        )  # fmt: skip
        os.close(its)
        said, left = b"", list(keys)
        until = time.monotonic() + 60
        try:
            while time.monotonic() < until:
                if not select.select([ours], [], [], 1.0)[0]:
                    if left:  # it has drawn what there is
                        os.write(ours, left.pop(0).encode())
                    continue
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # it has ended
                    break
                said += piece
                if left and len(said) > 2000 and b"\x1b[?25" in piece:
                    os.write(ours, left.pop(0).encode())
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        return said.decode(errors="replace")

    @cached_property
    def screens(self) -> str:
        """What a terminal is sent by the screens, one after another."""
        return self.gpumon("tui", keys=["3", "4", "5", "6", "7", "q"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    folder = tmp_path_factory.mktemp("hostile")
    got: list[tuple[str, str]] = []
    used: set[str] = set()

    def use(text: str) -> None:
        used.update(name for name, secret in SECRETS.items() if secret in text)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            use(f"{self.path} {self.headers.get('Authorization', '')}")
            if self.path == "/metrics":
                self._answer(200, PAGE)
            elif self.path == "/v1/models":
                self._answer(200, json.dumps({"data": [{"id": EVIL, "owned_by": "vllm", "max_model_len": 100}]}))
            else:
                self._answer(404, EVIL)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            got.append((self.path, body))
            kind, _, given = self.headers.get("Authorization", "").partition(" ")
            use(f"{self.path} {base64.b64decode(given).decode() if kind == 'Basic' else given}")
            self._answer(400 if self.path.startswith("/refusing") else 200, EVIL)

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    def log_in(_server: SMTP, _session: Session, _envelope: Envelope, _kind: str, given: object) -> AuthResult:
        assert isinstance(given, LoginPassword)
        use(given.password.decode())
        return AuthResult(success=False, handled=False, message=f"535 5.7.8 {EVIL!a}")

    mail = Controller(
        object(), hostname="127.0.0.1", port=free_port(), authenticator=log_in, auth_require_tls=False, ident="n7"
    )
    mail.start()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    for name in ("token", "reader", "key"):
        (folder / name).write_text(SECRETS[name])
        (folder / name).chmod(0o600)
    (folder / "rules.yaml").write_text(RULES)
    refusing = {"url": f"{base}/refusing/{SECRETS['hook']}", "bearer_token": {"env": "GPUMON_TEST_SECRET"}}
    accepting = f"json://127.0.0.1:{server.server_port}/apprise"
    apprise = [
        f"json://u:{SECRETS['url']}@127.0.0.1:{server.server_port}/refusing",
        f"mailto://u:{SECRETS['mail']}@127.0.0.1:{mail.port}/?from=a@b.example&to=c@b.example",
    ]
    config = {
        "node": {"hostname": "n7"},
        "api": {"token": {"file": str(folder / "token")}, "read_token": {"file": str(folder / "reader")}},
        "sources": {"vllm": {"servers": [{"url": base, "api_key": {"file": str(folder / "key")}}]}},
        "alerting": {"rule_files": [str(folder / "rules.yaml")]},
        "receivers": [
            {"name": "refusing", "webhook": refusing, "apprise": apprise},
            {"name": "accepting", "webhook": f"{base}/webhook", "apprise": [accepting]},
        ],
        "route": {
            "receiver": "accepting",
            "group_wait": "0s",
            "routes": [{"receiver": "refusing", "continue": True}, {"receiver": "accepting"}],
        },
        "heartbeat": f"{base}/{SECRETS['beat']}",
    }
    (folder / "gpumon.yaml").write_text(json.dumps(config))
    listen = f"127.0.0.1:{free_port()}"
    environment = {"GPUMON_TEST_SECRET": SECRETS["variable"]}
    try:
        with daemon(folder, "--config", str(folder / "gpumon.yaml"), "--listen", listen, env=environment) as running:
            told = lambda: {path for path, _ in got} >= {"/webhook", "/apprise", "/refusing"}  # noqa: E731
            wait_for(told, "all receivers")
            wait_for(lambda: "a message to refusing failed" in running.log(), "the refusal in the log")
            yield Hostile(running, f"http://{listen}", folder, got, used)
    finally:
        mail.stop()
        server.shutdown()
        server.server_close()


def commands_in(text: str) -> list[str]:
    return [ascii(one) for one in COMMANDS if one in text]


@pytest.mark.parametrize(
    "command",
    ["alerts", "alerts --json", "query vllm:num_requests_running --csv", "export --since 1m"],
)
def test_no_command_writes_what_a_terminal_obeys(node: Hostile, command: str) -> None:
    said = node.gpumon(*command.split())
    assert "gnp" in said
    assert commands_in(said) == []


def test_no_screen_shows_what_a_terminal_obeys(node: Hostile) -> None:
    said = node.screens
    assert "gnp" in said
    found = set(commands_in(said)) - {ascii("\x08")}  # which Textual may send itself
    assert not found


def test_the_log_and_the_page_have_it_harmless(node: Hostile) -> None:
    assert "gnp" in node.daemon.log()
    assert commands_in(node.daemon.log()) == []
    page = node.daemon.text("/")
    assert "gnp" in page
    assert commands_in(page) == []
    assert "<b>x" not in page


def test_messages_have_it_harmless(node: Hostile) -> None:
    for path in ("/webhook", "/apprise"):
        body = next(body for where, body in node.got if where == path)
        written = json.loads(body)
        text = json.dumps(written, ensure_ascii=False)
        assert "gnp" in text
        assert commands_in(text) == []


def test_no_secret_is_shown_anywhere(node: Hostile) -> None:
    sent = set(SECRETS) - {"token", "reader"}
    wait_for(lambda: node.used >= sent, "each secret where it belongs")
    texts = {path: node.daemon.text(path) for path in READ}
    # What is asked for is no silence: who may make one is told so, and who may not is told that.
    with httpx.Client(base_url=node.url, timeout=PATIENCE, trust_env=False) as client:
        for name, token, words in (
            ("token", SECRETS["token"], "comment in body is required"),
            ("reader", SECRETS["reader"], "what was shown only reads"),
            ("stranger", "another", "the token is another one"),
        ):
            bearer = {"Authorization": f"Bearer {token}"}
            refused = client.post("/api/v2/silences", headers=bearer, json={})
            assert words in refused.text
            for path in READ:
                answer = client.get(path, headers=bearer)
                texts[f"{path} as {name}"] = f"{answer.headers} {answer.text} {refused.headers} {refused.text}"
    family = [psutil.Process(node.daemon.process.pid)]
    family += family[0].children(recursive=True)
    for one in family:
        texts[f"ps {one.pid}"] = " ".join(one.cmdline())
    config = str(node.folder / "gpumon.yaml")
    for command in (["notify", "test"], ["check", "--json", config], ["doctor", "--config", config]):
        texts[" ".join(command)] = node.gpumon(*command)
    texts["tui"] = node.screens
    texts["log"] = node.daemon.log()
    for kept in (node.folder / "state").rglob("*"):
        if kept.is_file():
            texts[str(kept)] = kept.read_bytes().decode("latin-1")
            assert kept.stat().st_mode & 0o077 == 0, kept
    shown = [(where, name) for where, text in texts.items() for name, secret in SECRETS.items() if secret in text]
    assert shown == []
