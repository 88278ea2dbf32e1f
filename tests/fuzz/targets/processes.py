"""What other users' processes say of themselves, and the kernel's tables with names that they chose."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from monitor.sources import procfs
from monitor.sources.command_line import launch_of, redact, title_of
from monitor.sources.mounts import device_of_root, parse_mounts, parse_mounts_under
from tests.fuzz.target import Broken, Target, text_of

_FOLDER = tempfile.TemporaryDirectory(prefix="gpumon-fuzz-")  # goes with the process
_ROOT = Path(_FOLDER.name)
_SECRET = "sk-abcdefghijklmnop0123456789"


def run(data: bytes) -> None:
    """As a command line (with a secret behind it), as /proc/PID/stat, as tables of mounts and sockets."""
    arguments = procfs.arguments(data)
    title_of(arguments)
    launch = launch_of(arguments)
    if launch is not None and not 0 < launch.port < 65536:
        raise Broken(f"a port that is none: {launch}")
    for told in (redact(arguments), redact((*arguments, "--api-key", _SECRET)), redact((*arguments, f"--x={_SECRET}"))):
        if _SECRET in told:
            raise Broken(f"a secret is shown: {told!r}")
        if not told.isprintable():
            raise Broken(f"a command line that a terminal would obey: {told!r}")
    text = text_of(data)
    for mount in (*parse_mounts(text), *parse_mounts_under(text, "/host")):
        mount.mountpoint.encode("utf-8", "surrogateescape")
    device_of_root(text)
    if b"\0" not in data:  # no command line
        _tables(data)


def _tables(data: bytes) -> None:
    """The files of /proc, each with these bytes in it."""
    folder = _ROOT / "7"
    (folder / "net").mkdir(parents=True, exist_ok=True)
    for name in ("stat", "cgroup", "status", "net/tcp", "net/fib_trie", "net/if_inet6", "net/route"):
        (folder / name).write_bytes(data)
    procfs.read_stat(7, _ROOT)
    procfs.read_cgroup(7, _ROOT)
    procfs.listeners(_ROOT, 7)
    procfs.own_addresses(7, _ROOT)


def seeds() -> Iterable[bytes]:
    """Servers, workers, shells; the kernel's tables."""
    for line in (
        "python3 -m vllm.entrypoints.openai.api_server --model m --port 8001 --tensor-parallel-size 4 --api-key sk-1",
        "/usr/bin/vllm serve org/model --host 0.0.0.0 --port=8000 --ssl-keyfile k", "VLLM::Worker_DP0_TP1_EP3",
        "python -u -m sglang.launch_server --model-path m --tp 2", "sglang::scheduler_TP0", "bash -c vllm serve m",
        "text-generation-launcher --model-id m --port 80", "python -E serve.py --port 99999999",
    ):  # fmt: skip
        yield line.replace(" ", "\0").encode() + b"\0"
    yield b"7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 5 6 0 0 20 0 3 0 999 1000 50 18446744073709551615 1 1"
    yield b"  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0\n"
    yield b"/dev/sda1 / ext4 rw,relatime 0 0\nnfs:/x /mnt/a\\040b nfs4 ro 0 0\n"
    yield b"36 35 98:0 /mnt1 /host/mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n36 1 8:1 / / rw - ext4 /dev/sda rw\n"
    yield b"  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 300.1\n        /32 host LOCAL\n"
    yield b"00000000000000000000000000000001 01 80 00 80 eth0\nIface Destination\neth0 00000000 0100000A 0003 0 0 100 00000000 0 0 0\n"


TARGET = Target(
    what="other users' command lines and titles, and the kernel's tables",
    promise="no secret is shown, and nothing a terminal obeys",
    modules=("monitor.sources.command_line", "monitor.sources.mounts", "monitor.sources.procfs"),
    run=run,
    seeds=seeds,
    words=("vllm\0serve\0", "--port\0", "--port=", "--host\0", "--api-key\0", "python3\0-m\0", "VLLM::Worker_", "_TP", "--",
           "vllm.entrypoints.openai.api_server\0", " - ", "|-- ", "/32 host LOCAL\n", "0A", "\\040"),
    longest=800,
)  # fmt: skip
