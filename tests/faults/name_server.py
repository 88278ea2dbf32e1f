"""A name server in a process of its own: every name below ``faults.test`` is 127.0.0.1, and no other exists.
``python -m tests.faults.name_server ADDRESS``; ``helper.py`` says how it is spoken to. It needs root: its port is 53.

Commands: ``{"mode": "ok"}``, ``{"mode": "silent"}``, ``{"mode": "servfail"}``. ``{"mode": "count"}`` is answered with
how many questions it got, ``{"asked": …}``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

from tests.faults.helper import Line, obey, tell

ZONE = b"\x06faults\x04test\x00"
_HEADER = struct.Struct(">HHHHHH")
_A, _IN = 1, 1
_SERVFAIL, _NXDOMAIN = 2, 3


def answer(question: bytes, *, failing: bool = False) -> bytes:
    """The answer to a query of one question. RFC 1035, section 4."""
    ident = question[:2]
    end = question.index(b"\0", _HEADER.size) + 5
    asked = question[_HEADER.size : end]
    kind = struct.unpack(">H", asked[-4:-2])[0]
    known = asked[:-4].lower().endswith(ZONE)
    code = _SERVFAIL if failing else 0 if known else _NXDOMAIN
    found = kind == _A and known and not failing
    record = struct.pack(">HHHIH4B", 0xC00C, _A, _IN, 0, 4, 127, 0, 0, 1) if found else b""
    # A response with recursion, as a resolver gives it.
    return ident + _HEADER.pack(0, 0x8180 | code, 1, int(found), 0, 0)[2:] + asked + record


class NameServer:
    """What it answers now."""

    def __init__(self, address: str) -> None:
        self.mode = "ok"
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((address, 53))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        data, asker = self._socket.recvfrom(4096)
        self.asked += 1
        if self.mode != "silent":
            self._socket.sendto(answer(data, failing=self.mode == "servfail"), asker)

    def close(self) -> None:
        """Close its port."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def do(self, command: Line) -> Line | None:
        """A command of the harness."""
        if command["mode"] == "count":
            return {"asked": self.asked}
        self.mode = command["mode"]
        return None


async def main(address: str) -> None:
    """Serve until the harness ends."""
    server = NameServer(address)
    tell("ready")
    await obey(server.do)
    server.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
