"""Breaks what a program asks of its kernel, while it runs: steps of the clock, and calls on files below a path that
fail, take long or hang.

    shim = Shim(tmp_path)
    run(..., env={**os.environ, **shim.env()})
    shim.step_clock(-3600)
    slow = shim.fault(state_directory, "write", "sync", delay=3.0)
    shim.heal(slow)

``shim.c`` is compiled with gcc and loaded by LD_PRELOAD into the program and into all that it starts. The real thing is
better where it can be had: a small tmpfs is a full disk, a bind mount a read-only one.
"""

from __future__ import annotations

import errno as numbers
import mmap
import subprocess
from pathlib import Path
from typing import Final

MAGIC: Final = 0x6661756C74
HEADER: Final = ("magic", "realtime_ns", "boottime_ns", "armed")
RULE: Final = ("operations", "errno", "delay_ms", "hangs", "hits")
OPERATIONS: Final = ("open", "create", "read", "write", "sync", "remove", "stat", "statvfs")
"""``create`` is to make a file or a directory; ``write`` is also to cut a file off and to set its times; ``remove`` is
also to rename."""
RULES: Final = 8
PREFIX_BYTES: Final = 512
_RULES_AT: Final = len(HEADER)
_PREFIXES_AT: Final = _RULES_AT + RULES * len(RULE)
_FILE_BYTES: Final = _PREFIXES_AT * 8 + RULES * PREFIX_BYTES


def _header() -> str:
    lines = [f"#define H_{name} {at}" for at, name in enumerate(HEADER)]
    lines += [f"#define R_{name} {at}" for at, name in enumerate(RULE)]
    lines += [f"#define OP_{name} {1 << at}" for at, name in enumerate(OPERATIONS)]
    lines += [
        f"#define MAGIC {MAGIC}LL",
        f"#define RULES {RULES}",
        f"#define RULE_SLOTS {len(RULE)}",
        f"#define RULES_AT {_RULES_AT}",
        f"#define PREFIXES_AT {_PREFIXES_AT}",
        f"#define PREFIX_BYTES {PREFIX_BYTES}",
        f"#define FILE_BYTES {_FILE_BYTES}",
    ]
    return "\n".join(lines) + "\n"


def compile_shim(directory: Path) -> Path:
    """Compile the library into ``directory``: its path. Needs gcc."""
    (directory / "shim_layout.h").write_text(_header())
    library = directory / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{directory}", "-o", str(library)]
    subprocess.run([*command, str(Path(__file__).with_name("shim.c")), "-ldl"], check=True)
    return library


class Shim:
    """One control file, under ``directory``, for all programs that have this environment. ``library`` is a compiled
    one; without it, it is compiled."""

    def __init__(self, directory: Path, library: Path | None = None) -> None:
        self._library = library or compile_shim(directory)
        self._control = directory / "shim.control"
        self._control.write_bytes(bytes(_FILE_BYTES))
        with self._control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FILE_BYTES)
        self._slots = memoryview(self._map).cast("q")
        self._slots[HEADER.index("magic")] = MAGIC

    def close(self) -> None:
        """Heal everything, so that what hangs can end. Programs keep their own map."""
        for rule in range(RULES):
            self.heal(rule)
        self._slots.release()
        self._map.close()

    def env(self) -> dict[str, str]:
        """What is to be added to the environment of a program."""
        return {"LD_PRELOAD": str(self._library), "FAULT_SHIM": str(self._control)}

    # -- the clock ---------------------------------------------------------------------------------------------------

    def step_clock(self, seconds: float) -> None:
        """Step the wall clock, forward or back, from where it is now."""
        self._slots[HEADER.index("realtime_ns")] += int(seconds * 1e9)

    def wake_after(self, seconds: float) -> None:
        """Let it be later by so much, as after a suspend: the wall clock and CLOCK_BOOTTIME went on, CLOCK_MONOTONIC
        did not. Stop the programs meanwhile."""
        self.step_clock(seconds)
        self._slots[HEADER.index("boottime_ns")] += int(seconds * 1e9)

    @property
    def clock_shift(self) -> float:
        """Seconds by which the programs' wall clock is ahead of ours."""
        return self._slots[HEADER.index("realtime_ns")] / 1e9

    # -- files -------------------------------------------------------------------------------------------------------

    def fault(self, path: Path | str, *operations: str, error: int = 0, delay: float = 0.0, hang: bool = False) -> int:
        """Make calls on what is at ``path``, or whose path begins so, take ``delay`` seconds, hang until it is healed,
        or fail with ``error``, a number of ``errno``; the fault's number, for ``heal``. ``operations`` are of
        ``OPERATIONS``. Raises ``ValueError``."""
        unknown = set(operations) - set(OPERATIONS)
        prefix = str(path).encode()
        if unknown or not operations:
            raise ValueError(f"not operations: {unknown or 'none'}")
        if len(prefix) >= PREFIX_BYTES:
            raise ValueError(f"a path of the shim has less than {PREFIX_BYTES} bytes: {path}")
        if error and error not in numbers.errorcode:
            raise ValueError(f"not an errno: {error}")
        mask = sum(1 << OPERATIONS.index(each) for each in set(operations))
        number = next((n for n in range(RULES) if not self._slots[self._at(n, "operations")]), None)
        if number is None:
            raise ValueError(f"the shim has at most {RULES} faults at a time")
        at = _PREFIXES_AT * 8 + number * PREFIX_BYTES
        self._map[at : at + PREFIX_BYTES] = prefix.ljust(PREFIX_BYTES, b"\0")
        for name, value in (("errno", error), ("delay_ms", round(delay * 1000)), ("hangs", int(hang)), ("hits", 0)):
            self._slots[self._at(number, name)] = value
        self._slots[self._at(number, "operations")] = mask  # last: the library looks at it first
        self._arm()
        return number

    def heal(self, number: int) -> None:
        """Take a fault away; what hangs in it goes on."""
        self._slots[self._at(number, "operations")] = 0
        self._slots[self._at(number, "hangs")] = 0
        self._arm()

    def hits(self, number: int) -> int:
        """How many calls a fault has struck."""
        return self._slots[self._at(number, "hits")]

    def _arm(self) -> None:
        armed = any(self._slots[self._at(number, "operations")] for number in range(RULES))
        self._slots[HEADER.index("armed")] = int(armed)

    def _at(self, number: int, name: str) -> int:
        return _RULES_AT + number * len(RULE) + RULE.index(name)
