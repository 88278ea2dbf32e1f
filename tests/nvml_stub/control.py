"""Sets what the stub library answers, and how it fails, while a program uses it.

    stub = Stub(tmp_path, compile_library(tmp_path_factory.mktemp("nvml")))
    stub.gpus(8)
    stub.set(3, "temperature", 91)
    stub.fault(3, "hang:nvmlDeviceGetPowerUsage")
    run(..., env=stub.env())
    stub.clear(3)

Faults are written ``kind`` or ``kind:call``; without a call they hold for every call of that GPU. ``layout.py`` has the
names of readings and functions.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from pathlib import Path

from tests.nvml_stub import layout

ERRORS = {
    "invalid_argument": 2,
    "not_supported": 3,
    "no_permission": 4,
    "driver_not_loaded": 9,
    "timeout": 10,
    "library_not_found": 12,
    "function_not_found": 13,
    "lost": 15,
    "reset_required": 16,
    "version_mismatch": 18,
    "memory": 20,
    "unknown": 999,
}
"""Faults that are an error code of NVML's, returned in place of an answer."""

_NOT_AVAILABLE = -1  # as unsigned: NVML's value for memory that it does not know
_LIBRARY = "libnvidia-ml.so.1"


def compile_library(directory: Path) -> Path:
    """Compile the stub into ``directory``: the path of the library. Needs gcc."""
    (directory / "layout.h").write_text(layout.header())
    library = directory / _LIBRARY
    source = Path(__file__).with_name("nvml_stub.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{directory}"]
    subprocess.run([*command, f"-Wl,-soname,{_LIBRARY}", "-o", str(library), str(source)], check=True)
    return library


class Stub:
    """One pretended driver: a directory for the loader and a control file, both under ``directory``."""

    def __init__(self, directory: Path, library: Path) -> None:
        self._library = library
        self._loaded = directory / "nvml_stub" / _LIBRARY
        self._loaded.parent.mkdir()
        self._control = directory / "nvml_stub" / "control"
        self._control.write_bytes(bytes(layout.FILE_BYTES))
        with self._control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), layout.FILE_BYTES)
        self._slots = memoryview(self._map).cast("q")
        self._slots[layout.HEADER.index("magic")] = layout.MAGIC
        self._slots[layout.HEADER.index("cuda_version")] = 13_000
        self._put_text(layout.SYSTEM_TEXTS_AT, "580.159.04")
        self.driver_present()
        self.gpus(2)

    def close(self) -> None:
        """Let go of the control file; programs that use it keep theirs. What still hangs goes on, and can end."""
        for gpu in (None, *range(layout.MAX_GPUS)):
            self.clear(gpu)
        self._slots.release()
        self._map.close()

    def env(self) -> dict[str, str]:
        """The environment of a program that is to find this driver."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self._loaded.parent), "NVML_STUB_CONTROL": str(self._control)}

    # -- the driver --------------------------------------------------------------------------------------------------

    def driver_absent(self, *, library: bool = True) -> None:
        """No driver: no library, or, where ``library`` is False, a library whose kernel module is not loaded."""
        if library:
            # A broken file, and not none: the loader would go on to a real driver on a machine that has one.
            self._loaded.unlink()
            self._loaded.write_bytes(b"")
        else:
            self.fault(None, "driver_not_loaded:nvmlInitWithFlags")

    def driver_present(self) -> None:
        """The driver is back."""
        self._loaded.unlink(missing_ok=True)
        shutil.copy(self._library, self._loaded)
        self.clear(None)

    def gpus(self, count: int) -> None:
        """So many idle H200. A program sees another number when it opens the driver anew."""
        if not 0 <= count <= layout.MAX_GPUS:
            raise ValueError(f"the stub has at most {layout.MAX_GPUS} GPUs")
        for gpu in range(count):
            for name, value in layout.GPU_VALUES.items():
                self.set(gpu, name, value)
            self.set(gpu, "minor", gpu)
            self.set_text(gpu, "uuid", f"GPU-00000000-0000-0000-0000-{gpu:012}")
            self.set_text(gpu, "name", "NVIDIA H200")
            self.set_text(gpu, "bus_id", f"00000000:00:{6 + gpu:02X}.0")
        self._slots[layout.HEADER.index("gpus")] = count

    # -- readings ----------------------------------------------------------------------------------------------------

    def set(self, gpu: int, name: str, value: int) -> None:
        """Set a reading of ``layout.GPU_VALUES``; -1 makes it not supported."""
        self._slots[layout.VALUES_AT + gpu * len(layout.GPU_VALUES) + list(layout.GPU_VALUES).index(name)] = value

    def load(self, gpu: int) -> None:
        """Put a GPU under load."""
        for name, value in layout.UNDER_LOAD.items():
            self.set(gpu, name, value)

    def set_text(self, gpu: int, name: str, value: str) -> None:
        """Set a text of ``layout.GPU_TEXTS``."""
        at = gpu * len(layout.GPU_TEXTS) + layout.GPU_TEXTS.index(name)
        self._put_text(layout.TEXTS_AT + at * layout.TEXT_BYTES, value)

    def processes(self, gpu: int, *processes: tuple[int, int | None, str]) -> None:
        """Set the processes of a GPU: PID, bytes (None: the driver does not know), kind of ``layout.KINDS``."""
        for number, (pid, memory, kind) in enumerate(processes):
            at = layout.PROCESSES_AT + (gpu * layout.MAX_PROCESSES + number) * len(layout.PROCESS)
            row = (pid, _NOT_AVAILABLE if memory is None else memory, layout.KINDS.index(kind), -1, -1)
            for slot, value in enumerate(row):
                self._slots[at + slot] = value
        self.set(gpu, "processes", len(processes))

    def shares(self, gpu: int, *shares: tuple[int, int]) -> None:
        """Set what each process of a GPU takes of its multiprocessors and of its memory, in %; in the order of
        ``processes``."""
        for number, share in enumerate(shares):
            at = layout.PROCESSES_AT + (gpu * layout.MAX_PROCESSES + number) * len(layout.PROCESS)
            for name, value in zip(("sm", "mem"), share, strict=True):
                self._slots[at + layout.PROCESS.index(name)] = value

    # -- faults ------------------------------------------------------------------------------------------------------

    def fault(self, gpu: int | None, fault: str) -> None:
        """Make calls fail: ``lost``, ``unknown`` or another of ``ERRORS``; ``hang``, ``crash``, ``exit:CALL:STATUS``,
        ``sleep:CALL:MILLISECONDS``. A GPU that a program saw lost stays so for it until it opens the driver anew.
        ``gpu`` None is the system's own calls, of which ``nvmlInitWithFlags`` is one."""
        kind, call, argument = (*fault.split(":"), "", "")[:3]
        if kind in ERRORS:
            action, number = "return", ERRORS[kind]
        else:
            action, number = kind, int(argument or 0)
        for function in (call,) if call else layout.FUNCTIONS:
            at = self._fault_at(gpu, function)
            self._slots[at + 1] = number
            self._slots[at] = layout.ACTIONS.index(action)  # last: the library looks at it first

    def clear(self, gpu: int | None) -> None:
        """Take the faults of a GPU, or of the system, away. What hangs goes on."""
        for function in layout.FUNCTIONS:
            self._slots[self._fault_at(gpu, function)] = 0

    def calls(self, gpu: int | None, function: str) -> int:
        """How often a function was called since the stub was made."""
        return self._slots[self._fault_at(gpu, function) + layout.FAULT.index("count")]

    def _fault_at(self, gpu: int | None, function: str) -> int:
        row = layout.SYSTEM if gpu is None else gpu
        number = row * len(layout.FUNCTIONS) + layout.FUNCTIONS.index(function)
        return layout.FAULTS_AT + number * len(layout.FAULT)

    def _put_text(self, at: int, value: str) -> None:
        data = value.encode()
        if len(data) >= layout.TEXT_BYTES:
            raise ValueError(f"a text of the stub has less than {layout.TEXT_BYTES} bytes: {value}")
        self._map[at : at + layout.TEXT_BYTES] = data.ljust(layout.TEXT_BYTES, b"\0")
