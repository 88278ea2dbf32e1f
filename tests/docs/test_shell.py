"""Every command of the documentation is typed: before a simulated node, a server of known pace and files that are
called as in the text. What cannot be run here is in ``NOT_RUN``, with the reason; what of that is gpumon's own is still
held against the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from monitor import cli as command_line
from monitor.probes import results
from tests.daemons import RunningDaemon, daemon, wait_for
from tests.docs.shell import TOP, Command, commands, first_part, inline, pages, required
from tests.planning.models import GQA
from tests.probes.made_results import made

NOT_RUN: tuple[tuple[str, str], ...] = (
    (r"gpumon tui\b", "a terminal's: tests/tui"),
    (r"gpumon daemon\b", "runs until it is ended: tests/test_cli.py, and the daemon of these tests"),
    (r"gpumon demo\b", "a minute: `.ci/run` runs `make demo`"),
    (r"gpumon dmon$", "runs until it is ended"),
    (r"gpumon service (install|uninstall)\b", "root's: tests/commands/test_service.py"),
    (r"gpumon service status\b", "there is no systemd where tests run: tests/commands/test_service.py"),
    (r"gpumon probe (latency|throughput|lengths|prefix|rate|priority|soak|suite|attach|cancel|profile)\b",
     "a load of seconds to minutes: tests/commands/test_probe.py, tests/live/test_probe_workloads.py"),
    (r"gpumon (config init --output|check) /etc/", "root's directory: tests/commands"),
    (r"make\b", "`.ci/run` runs test, lint, demo and test-live; the others are written in the Makefile"),
    (r"(uv|pipx|pip|git)\b", "installs from the package index, or from a repository"),
    (r"python3 -m venv\b|.*pip\"? install\b", "installs from the package index"),
    (r"python3? -m (tests|monitor)\.", "tests, benches and servers of their own"),
    (r"python3? -m grafana\b", "tests/grafana runs it"),
    (r"(systemctl|journalctl|systemd-analyze|useradd|usermod|install|ln|chgrp|openssl)\b", "the machine's"),
    (r"(kubectl|helm|docker|podman|buildah)\b", "needs a cluster or an engine"),
    (r"(nvidia-smi|dcgmi|lspci|dmesg)\b", "needs a GPU or root"),
    (r"(vllm|py-spy|nsys|ssh|kill|ps|ss|ip|nc|top|mpstat|iostat|uptime|lsblk|free|df|du)\b", "the machine's"),
    (r"(prometheus|promtool|amtool|vmalert|victoria-metrics|alertmanager)\b", "real servers: tests/live"),
    (r"(cd|export|echo|tar|apt|apt-get|node|npm)\b", "the system's"),
    (r"(ls|cat|grep|head|tail|man|source|sed|cp|mkdir|chmod|sqlite3|jq)\b", "the system's"),
)  # fmt: skip
"""Patterns of commands, without ``sudo``, and why they are not run here."""
EXITS: dict[str, tuple[int, ...]] = {
    r"gpumon doctor\b": (0, 1),  # what it finds is the machine's
    r"gpumon notify test\b": (1,),  # nobody is behind its receiver
    r"gpumon report .*--send": (1,),  # its receiver is a webhook, which takes none
    r"gpumon probe compare .*--fail-if": (1,),
    r"curl .* \| grep\b": (0, 1),  # nothing of what is looked for, on a node that is well
}
"""Patterns of commands that end with something else than 0, and that."""


SENTENCES = {"gpumon could not reach this receiver for 3h 10m; this is the state now."}
"""What begins with our name and is no command."""


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """Where commands are typed."""

    folder: Path
    node: RunningDaemon
    url: str
    http: str
    """The node's address over TCP."""
    pace: str
    """The server of known pace."""

    def typed(self, text: str) -> str:
        """A command with this sandbox's addresses and names in place of those of the text."""
        for pattern, there in (
            (r"http://(?:127\.0\.0\.1|localhost|node7|h200-07|NODE|node):9519", self.url),
            (r"https?://(?:prometheus|PROMETHEUS|localhost|127\.0\.0\.1)(?:\.example\.com)?:9090", self.url),
            (r"https://[\w.-]+:9519", self.url),
            (r"--url URL\b", f"--url {self.url}"),
            (r"--alertmanager http://[\w.-]+:9093", f"--alertmanager {self.http}"),
            (r"--server http://127\.0\.0\.1:8000", f"--server {self.pace}"),
            (r"--server gpu7:8000", f"--server {socket.gethostname()}:8000"),
            (r"\bRULES\.yaml", "alerts.yaml"),
            (r"(gpumon (?:backtest|export) .*)--since \w+", r"\1--since 10m"),  # of a node that has three minutes
            (r"results/20261121-213000-fp16", "results/A"),
            (r"results/20261121-220000-fp8", "results/B"),
            (r"probe delete RUN\b", "probe delete 20261121-213002-other"),
            (r"\bRUN\b", "fp16"),
            (r"\bBASELINE\b", "results/A"),
        ):
            text = re.sub(pattern, there, text)
        if re.search(silence := r"\b24abaf38\b|\bID\b", text):
            code, said = run(["silence", "add", "GpuTooHot", "gpu=3", "--comment", "a test", "--json"])
            assert code == 0, said
            text = re.sub(silence, json.loads(said)["id"], text)
        return text


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("typed")
    state = folder / "state" / "results"
    for seed, (name, slower, called) in enumerate((("fp16", 1.0, "A"), ("fp8", 1.3, "B"), ("other", 1.0, "C"))):
        one = made("throughput", few=True, seed=seed, name=name, slower=slower)
        for place in (state / one.id, folder / "results" / called, folder / called):
            place.parent.mkdir(parents=True, exist_ok=True)
            results.write(place, one)
    shutil.copytree(folder / "B", folder / "results" / "20261121-220000-candidate")
    shutil.copy(folder / "A" / "baseline_metrics.json", folder / "baseline.json")
    shutil.copy(TOP / "alerts.yaml", folder)
    shutil.copy(folder / "alerts.yaml", folder / "rules.yaml")
    (folder / "tests.yaml").write_text(
        "rule_files: [alerts.yaml]\ntests: [{interval: 1m, name: nothing, input_series: []}]\n"
    )
    (folder / "config.json").write_text(json.dumps(GQA))
    (folder / "gpumon.yaml").write_text("receivers: [{name: chat, webhook: 'http://127.0.0.1:9/nobody'}]\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = ["--simulate", "--past", "180", "--config", str(folder / "gpumon.yaml"), "--listen", listen]
    with daemon(folder, *arguments, env={"HOME": str(folder)}) as node, paced() as pace:
        wait_for(lambda: node.query("count(DCGM_FI_DEV_GPU_UTIL)"), "readings")
        yield Sandbox(folder, node, f"unix:{node.socket}", f"http://{listen}", pace)


@contextlib.contextmanager
def paced() -> Iterator[str]:
    """A server of known pace in a process of its own; its address."""
    command = [sys.executable, "-m", "monitor.probes.pace", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        try:
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


@pytest.fixture
def prepared(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.chdir(sandbox.folder)
    for name, value in (("HOME", str(sandbox.folder)), ("GPUMON_URL", sandbox.url), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "GPUMON_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return sandbox


def run(words: list[str]) -> tuple[int, str]:
    """The command in this process: its exit status, and what it printed."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, write_through=True)
    before = sys.argv
    sys.argv = ["gpumon", *words]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            command_line.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    return (code if isinstance(code, int) else 0 if code is None else 1), raw.getvalue().decode()


def why_not(command: Command) -> str:
    """Why a command is not run here; "" where it is."""
    words = re.sub(r"^\.venv/bin/", "", command.words)
    return next((why for pattern, why in NOT_RUN if re.match(pattern, words)), "")


HABITS = TOP / "docs" / "coming-from.md"
_ROWS = re.findall(r"^\| .*? \| `((?:gpumon|curl) [^`]+)`", HABITS.read_text(), re.M)
ALL = [*commands(), *(Command("docs/coming-from.md", typed) for typed in _ROWS)]
RUN = list({one.text: one for one in reversed(ALL) if not why_not(one)}.values())[::-1]
"""Each once, where it stands first."""
OURS = [one for one in ALL if one.program == "gpumon"]


def test_there_are_commands() -> None:
    assert len(RUN) > 30
    assert {one.program for one in RUN} <= {"gpumon", "curl"}


def test_no_reason_is_left_over() -> None:
    said = [re.sub(r"^\.venv/bin/", "", one.words) for one in ALL]
    for pattern in EXITS:
        assert any(re.match(pattern, one) for one in said), pattern


@pytest.mark.parametrize("command", RUN, ids=lambda one: f"{one.place} {one.text}"[:100])
def test_a_command_does_what_it_should(command: Command, prepared: Sandbox) -> None:
    text = prepared.typed(required(re.sub(r"^(\S*/)?gpumon", "gpumon", command.words)))
    wanted = next((codes for pattern, codes in EXITS.items() if re.match(pattern, text)), (0,))
    if command.program == "curl":
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        line = text.replace(prepared.url, "http://gpumon").replace(
            "curl ", f"curl --unix-socket {prepared.node.socket} "
        )
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
        assert done.returncode in wanted, done.stdout + done.stderr
        return
    words = [
        one
        for word in shlex.split(first_part(text))
        for one in (sorted(map(str, Path().glob(word))) if re.fullmatch(r"[\w./*-]*\*[\w./*-]*", word) else [word])
    ]
    code, said = run(words[1:])
    assert code in wanted, f"{text}\nended with {code} in place of {wanted}:\n{said[-3000:]}"


@pytest.mark.parametrize("command", OURS, ids=lambda one: f"{one.place} {one.text}"[:100])
def test_a_command_is_one(command: Command) -> None:
    assert unknown(command.text) == ""


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(TOP).as_posix())
def test_commands_in_running_text_are_some(page: Path) -> None:
    wrong = [said for one in inline(page.read_text()) if (said := unknown(one))]
    assert not wrong


def unknown(text: str) -> str:
    """What of a command is neither a command nor an option of it; "" where all is known."""
    if text in SENTENCES:
        return ""
    text = re.sub(r"^.*?\bgpumon ", "", first_part(required(text)))
    try:
        words = shlex.split(re.split(r"…|\.\.\. ", text)[0])
    except ValueError as error:
        return f"{text}: {error}"
    found: click.Command = command_line.cli
    while isinstance(found, click.Group) and words and not words[0].startswith("-") and not words[0].isupper():
        if "|" in words[0]:  # add|list|expire
            lacking = [one for one in words[0].split("|") if found.get_command(click.Context(found), one) is None]
            return f"gpumon {text}: there is no {lacking[0]}" if lacking else ""
        inner = found.get_command(click.Context(found), words[0])
        if inner is None:
            return f"gpumon {text}: there is no {words[0]}"
        found, words = inner, words[1:]
    known = {name for option in found.params for name in (*option.opts, *option.secondary_opts)} | {"-h", "--help"}
    for word in words:
        if re.fullmatch(r"-\w|--[\w-]+(=.*)?", word, re.S) and word.partition("=")[0] not in known:
            return f"gpumon {text}: there is no {word}"
    return ""


def test_a_wrong_command_is_found() -> None:
    assert unknown("gpumon snapshto") == "gpumon snapshto: there is no snapshto"
    assert unknown("sudo gpumon service install --dry") == "gpumon service install --dry: there is no --dry"
    assert unknown("gpumon silence add|lost") == "gpumon silence add|lost: there is no lost"
    assert unknown("gpumon query '-up' --graph") == ""
