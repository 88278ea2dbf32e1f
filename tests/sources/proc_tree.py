"""A /proc of a test's own: processes with a parent, a command line, a cgroup, listening sockets."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

BOOT = 1_700_000_000
DOCKER = "ab" * 32
ANYWHERE = "0.0.0.0"  # noqa: S104 - a text of the kernel's
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class ProcTree:
    """Writes the files that are read of /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ours: list[str] = []
        (root / "self/net").mkdir(parents=True)
        (root / "stat").write_text(f"cpu 1 2 3\nbtime {BOOT}\n")
        self._tables(root / "self/net", self._ours)

    def process(
        self,
        pid: int,
        arguments: Sequence[str] | str,
        *,
        parent: int = 1,
        start: int = 1000,
        ticks: int = 0,
        comm: str = "python3",
        uid: int | None = None,
        cgroup: str = "0::/user.slice\n",
        rss_pages: int = 10,
    ) -> None:
        """A process; once more for the same PID changes it. A text as ``arguments`` is a title."""
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True, exist_ok=True)
        # setproctitle leaves the room of the old arguments behind, filled with NULs.
        raw = arguments + "\0" * 40 if isinstance(arguments, str) else "".join(f"{word}\0" for word in arguments)
        (folder / "cmdline").write_text(raw)
        fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 4, "7", "0", str(start), "0", str(rss_pages)]
        fields.append("0")
        (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")
        (folder / "status").write_text(f"Name:\t{comm}\nUid:\t{os.getuid() if uid is None else uid}\t0\t0\t0\n")
        (folder / "cgroup").write_text(cgroup)
        if not (folder / "net").exists():
            (folder / "net").symlink_to(self.root / "self/net")

    def listen(
        self,
        pid: int,
        port: int,
        *,
        address: str = ANYWHERE,
        inode: int,
        uid: int = 0,
        shown: bool = True,
        own_network: bool = False,
        own_addresses: Sequence[str] = (),
    ) -> None:
        """A listening socket of a process. Not ``shown``: its descriptors are another user's, and may not be read.
        ``own_addresses`` are those of its ``own_network``."""
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        # The kernel prints each word of 32 bits as a number of this machine.
        text = "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))
        line = f"   0: {text}:{port:04X} {'0' * len(text)}:0000 0A 0:0 00:0 0 {uid} 0 {inode} 1 0 100 0 0 10 0\n"
        folder = self.root / str(pid)
        if own_network:
            (folder / "net").unlink()
            (folder / "net").mkdir()
            self._tables(folder / "net", [line])
            self._addresses(folder / "net", own_addresses)
        else:
            self._ours.append(line)
            self._tables(self.root / "self/net", self._ours)
        if shown:
            (folder / "fd" / str(inode)).symlink_to(f"socket:[{inode}]")
        else:
            shutil.rmtree(folder / "fd")

    def end(self, pid: int) -> None:
        """The process is gone."""
        shutil.rmtree(self.root / str(pid))

    @staticmethod
    def _addresses(folder: Path, addresses: Sequence[str]) -> None:
        leaf = "           |-- {0}\n              /32 host LOCAL\n"
        four = "".join(leaf.format(one) for one in ("127.0.0.1", *(one for one in addresses if ":" not in one)))
        head = "  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n"
        (folder / "fib_trie").write_text(f"Main:\n{head}{four}Local:\n{head}{four}")
        six = "".join(
            f"{socket.inet_pton(socket.AF_INET6, one).hex()} 02 40 00 80     eth0\n" for one in addresses if ":" in one
        )
        (folder / "if_inet6").write_text(f"fe8000000000000000fc00fffe000001 02 40 20 80     eth0\n{six}")

    @staticmethod
    def _tables(folder: Path, lines: Sequence[str]) -> None:
        four = [line for line in lines if len(line.split()[1]) == 13]
        (folder / "tcp").write_text(HEAD + "".join(four))
        (folder / "tcp6").write_text(HEAD + "".join(line for line in lines if line not in four))


def vllm_node(root: Path) -> ProcTree:
    """A node with ``vllm serve`` on port 8000 of two tensor-parallel ranks."""
    tree = ProcTree(root)
    command = ["/usr/local/v/bin/python3", "/usr/local/v/bin/vllm", "serve", "org/m-7b", "--tensor-parallel-size", "2"]
    tree.process(100, [*command, "--api-key", "sk-verysecret123"], comm="vllm")
    tree.process(
        101, ["/usr/local/v/bin/python3", "-c", "from multiprocessing.resource_tracker import main"], parent=100
    )
    tree.process(102, "VLLM::EngineCore", parent=100, comm="VLLM::EngineCor")
    tree.process(103, "VLLM::Worker_TP0", parent=102, comm="VLLM::Worker_TP")
    tree.process(104, "VLLM::Worker_TP1", parent=102, comm="VLLM::Worker_TP")
    tree.listen(100, 8000, inode=77)
    return tree
