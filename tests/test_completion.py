"""What is offered at a TAB: by the answer itself, and in real shells on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.completion import answer, ask, table
from tests.daemons import PATIENCE, RunningDaemon, daemon, wait_for
from tests.docs.tree import kind_of, tree

TOP = Path(__file__).parent.parent


def offered(*words: str) -> list[str]:
    """The values alone."""
    return [value or kind for kind, value, _ in answer.complete(words)]


# -- without a shell -------------------------------------------------------------------------------------------------


def test_commands_and_options() -> None:
    assert {"tui", "daemon", "silence", "probe"} <= set(offered(""))
    assert offered("sil") == ["silence"]
    assert offered("silence", "") == ["add", "list", "expire"]
    assert "--json" in offered("alerts", "--")
    assert "--json" not in offered("alerts", "--json", "--")  # once is enough
    assert "--rules" in offered("daemon", "--rules", "a.yaml", "--")  # and here it is not
    assert offered("daemon", "--log-format", "j") == ["json", "journal"]
    assert offered("daemon", "--log-format=j") == ["--log-format=json", "--log-format=journal"]
    assert offered("probe", "profile", "s") == ["start", "stop"]
    assert offered("query", "up", "--", "--j") == []
    assert offered("no", "such", "thing") == []


def test_files_and_folders() -> None:
    assert offered("check", "x") == ["file"]
    assert offered("check", "a.yaml", "b.yaml", "x") == ["file"]
    assert offered("daemon", "--config", "") == ["file"]
    assert offered("export", "-o", "") == ["file"]
    assert offered("daemon", "--state-dir", "") == ["folder"]
    assert offered("alerts", "--token-file", "") == ["file"]


def test_every_kind_of_value_is_known() -> None:
    kinds = {kind_of(node, param) for node in tree().walk() for param in [*node.options(), *node.arguments()]}
    assert {kind for kind in kinds if not kind.startswith("one:")} == {"", "text", "file", "folder", *ask.KINDS}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gpumon ", ["gpumon", ""]),
        ("gpumon silence add gpu=3", ["gpumon", "silence", "add", "gpu=3"]),
        ("gpumon query 'sum by (gpu) (DC", ["gpumon", "query", "sum by (gpu) (DC"]),
        ('gpumon -c "a b"  x\\ y ', ["gpumon", "-c", "a b", "x y", ""]),
        ("gpumon -c '' ", ["gpumon", "-c", "", ""]),
    ],
)
def test_a_line_is_parted_as_bash_does(line: str, words: list[str]) -> None:
    assert answer.split(line) == words


def test_bash_gets_the_rest_of_what_it_takes_for_the_word_and_marks_where_it_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = [
        ("word", "gpu=3", ""),
        ("word", "the night shift", ""),
        ("part", "max(up", ""),
        ("word", "$(reboot)`\"'", ""),
        ("word", "~root", ""),
    ]

    def values(kind: str, last: str, asked: dict[str, str]) -> list[answer.Answer]:
        return [one for one in known if one[1].startswith(last)]

    monkeypatch.setattr(ask, "values", values)

    def told(line: str, word: str) -> list[str]:
        return [value for _, value, _ in answer.for_bash(line, word)]

    assert told("gpumon silence add gpu=", "") == ["3"]
    assert told("gpumon silence add g", "g") == ["gpu=3"]
    assert told("gpumon notify test the", "the") == ["the\\ night\\ shift"]
    assert told("gpumon notify test 'the", "the") == ["the night shift"]
    assert told("gpumon query 'max(u", "max(u") == ["max(up"]
    # Names come from servers: what is put into a line says nothing else to bash, in no kind of quotes.
    assert told("gpumon notify test \\$", "$") == ["\\$\\(reboot\\)\\`\\\"\\'"]
    assert told('gpumon notify test "$', "$") == ["\\$(reboot)\\`\\\"'"]
    assert told("gpumon notify test '$", "$") == ["$(reboot)`\"'\\''"]
    assert told("gpumon notify test \\~", "~") == ["\\~root"]
    assert told("gpumon daemon --log-format=jo", "jo") == ["journal"]


def test_values_of_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gpumon.yaml"
    config.write_text("receivers: [{name: ops, apprise: ['json://127.0.0.1:9/']}]\nroute: {receiver: ops}\n")
    with daemon(tmp_path, "--simulate", "--config", str(config)) as one:
        wait_for(lambda: one.query("count(DCGM_FI_DEV_GPU_TEMP) == 8"), "GPUs")
        wait_for(lambda: one.query("gpumon_source_up{source='vllm'} == 1"), "servers")
        monkeypatch.setenv("GPUMON_URL", f"unix:{one.socket}")
        assert offered("notify", "test", "") == ["ops"]
        assert "GpuTooHot" in offered("silence", "add", "GpuToo")
        assert offered("silence", "add", "gp") == ["gpu="]
        assert offered("silence", "add", "gpu=") == [f"gpu={n}" for n in range(8)]
        assert "DCGM_FI_DEV_GPU_TEMP" in offered("query", "DCGM_FI_DEV_GPU")
        assert "max(DCGM_FI_DEV_GPU_TEMP" in offered("query", "max(DCGM_FI_DEV_GPU")
        assert offered("query", 'up{gpu="DCGM') == []
        assert len(offered("probe", "latency", "--server", "")) == 2
        done = CliRunner().invoke(cli, ["silence", "add", "GpuTooHot", "-c", "why", "--json"])
        assert done.exit_code == 0, done.output
        (silence,) = answer.complete(["silence", "expire", ""])
        assert silence[0] == "word"
        assert silence[1] in done.output
        assert silence[2] == "why"
        monkeypatch.delenv("GPUMON_URL")
        assert offered("notify", "test", "--url", f"unix:{one.socket}", "") == ["ops"]
        # A daemon that hangs has no values, and does not hold the prompt up.
        one.process.send_signal(signal.SIGSTOP)
        try:
            monkeypatch.setattr(ask, "DEADLINE", 0.05)
            assert offered("notify", "test", "--url", f"unix:{one.socket}", "") == []
        finally:
            one.process.send_signal(signal.SIGCONT)


def test_a_value_that_no_line_can_hold_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["vm", "v\nword\t$(reboot)", "v\x1b]0;x", "v\tb", "vä"]
    monkeypatch.setattr(ask, "_KINDS", {"server": lambda daemon, last: [("word", name, "") for name in names]})
    assert [value for _, value, _ in ask.values("server", "v", {})] == ["vm", "vä"]


def test_it_says_nothing_where_there_is_no_daemon(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "notify", "test", ""],
        env={**os.environ, "_GPUMON_COMPLETE": "zsh", "GPUMON_URL": f"unix:{tmp_path}/none"},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_runbooks_need_no_daemon() -> None:
    assert "GpuTooHot" in offered("runbook", "GpuT")


def test_a_tab_loads_neither_click_nor_a_client() -> None:
    code = (
        "import sys\nfrom monitor.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'click', 'asyncio', 'httpx', 'msgspec', 'yaml', 'subprocess', 'dataclasses'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "probe", "latency", "--"],
        env={**os.environ, "_GPUMON_COMPLETE": "zsh"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "word\t--server\t" in done.stdout
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_the_scripts(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert done.output == (Path(table.PLACE).parent / f"gpumon.{shell}").read_text()
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


# -- in real shells --------------------------------------------------------------------------------------------------


class Shell:
    """A shell on a pseudo-terminal of its own: typed to, and its screen read."""

    def __init__(self, command: Sequence[str], env: dict[str, str], folder: Path) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], list(command), env)  # noqa: S606 - an interactive shell is what is tested
        self._pid = pid
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
        self._screen = pyte.Screen(150, 50)
        self._stream = pyte.ByteStream(self._screen)

    def type(self, text: str) -> None:
        """Type it."""
        os.write(self._fd, text.encode())

    def until(self, pattern: str, words: str) -> str:
        """Wait until the screen matches; the screen."""
        self._wait(lambda: re.search(pattern, self._shown()), words)
        return self._shown()

    def until_line(self, pattern: str, words: str) -> None:
        """Wait until the line that the cursor is in matches."""
        self._wait(lambda: re.search(pattern, self._screen.display[self._screen.cursor.y]), words)

    def _shown(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display if line.strip())

    def _wait(self, holds: Callable[[], object], words: str) -> None:
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            if holds():
                return
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self._stream.feed(os.read(self._fd, 65536))
                except OSError:
                    break
        raise AssertionError(f"waited for {words}:\n{self._shown()}")

    def close(self) -> None:
        """End it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)


@contextmanager
def shell(name: str, folder: Path, url: str) -> Iterator[Shell]:
    """The shell with gpumon's completion and nothing of a user's."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    program = bin_folder / "gpumon"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m monitor "$@"\n')
    program.chmod(0o755)
    (folder / "rules-of-mine.yaml").write_text("groups: []\n")
    script = Path(table.PLACE).parent / f"gpumon.{name}"
    env = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(TOP),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        "GPUMON_URL": url,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    begin = {
        "bash": ["bash", "--norc", "--noprofile", "-i"],
        "zsh": ["zsh", "-f", "-i"],
        "fish": ["fish", "--no-config", "-i"],
    }[name]
    one = Shell(begin, env, folder)
    try:
        sourced = f". {script}"
        if name == "bash":
            sourced = f"PS1='> '; bind 'set show-all-if-ambiguous on'; bind 'set bell-style none'; {sourced}"
        elif name == "zsh":
            sourced = f"PS1='> '; autoload -Uz compinit && compinit -u -D; {sourced}"
        one.type(f"{sourced}; printf 're%sy\\n' ad\r")
        one.until("ready", "a prompt")
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("node")
    config = folder / "gpumon.yaml"
    config.write_text("receivers: [{name: ops-page, apprise: ['json://127.0.0.1:9/']}]\nroute: {receiver: ops-page}\n")
    with daemon(folder, "--simulate", "--config", str(config)) as one:
        wait_for(lambda: one.query("count(DCGM_FI_DEV_GPU_TEMP) == 8"), "GPUs")
        yield one


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_real_shell_completes(name: str, tmp_path: Path, node: RunningDaemon) -> None:
    with shell(name, tmp_path, f"unix:{node.socket}") as at:

        def tab(typed: str, becomes: str) -> None:
            at.type(f"{typed}\t")
            at.until_line(becomes, f"{typed}<TAB>")
            at.type("\x15")  # away with the line
            at.until_line(r"^(\S+ )?\S*[>#] *$", "an empty line")

        tab("gpumon sna", "gpumon snapshot ")
        tab("gpumon daemon --log-format jo", "--log-format journal ")
        tab("gpumon daemon --log-format=jo", "--log-format=journal")
        tab("gpumon check rules-of", r"rules-of-mine\.yaml")
        tab("gpumon notify test o", "notify test ops-page ")
        tab("gpumon silence add gpu=3 GpuTooH", "GpuTooHot")
        tab("gpumon silence add gp", "add gpu=")
        tab("gpumon silence add alertname=GpuTooH", "alertname=GpuTooHot")
        tab("gpumon query DCGM_FI_DEV_GPU_T", "query DCGM_FI_DEV_GPU_TEMP")
        tab("gpumon query 'max(DCGM_FI_DEV_GPU_T", r"query 'max\(DCGM_FI_DEV_GPU_TEMP")
        # Several: they are listed, and nobody is asked twice.
        at.type("gpumon silence \t" + ("\t" if name != "fish" else ""))
        listed = at.until(r"(?s)add.*list.*expire|add.*expire.*list|expire.*list|list.*expire", "a list")
        assert "Traceback" not in listed
