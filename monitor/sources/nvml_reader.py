"""The process of its own in which the driver is asked, so that a hang or a crash is not the daemon's.

``python -m monitor.sources.nvml_reader PARENT_PID OPTIONS`` waits for lines on standard input and answers each with
one frame on standard output: four bytes of length, big-endian, then JSON; ``monitor.sources.nvml_frame`` has its types.
OPTIONS is JSON as well, and ``Options`` below. A line ``poll`` asks for a frame, ``watched`` for one with what is asked
oftener while somebody looks. Lines that came while the driver was slow are answered together, so requests never pile
up. It ends with its parent.

It and the modules that it is made of (``nvml_calls``, ``nvml_gpu``, ``nvml_gpm``, ``nvml_mig``, ``nvml_topology``) are
the only ones that import pynvml, and they import little else: their memory counts against the daemon's.

What is absent is left out of a frame, never 0. A call that this GPU or this driver does not support is not made
again; any other failure costs that reading, this time.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pynvml

from monitor.sources.nvml_calls import Gone, Lost, Values, once, progress
from monitor.sources.nvml_gpu import Cadences, Gpu
from monitor.sources.nvml_topology import topology

ABSENT = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "no NVIDIA driver: the kernel module is not loaded",
}
"""What an error on opening the driver means where there is none."""
MISMATCH = "the driver's library and kernel module differ in version: reload the module, or reboot"
_PR_SET_PDEATHSIG = 1
_MOST_EVENTS = 64


class Options(NamedTuple):
    """What the parent wants of this reader."""

    progress: int = -1
    """A file descriptor for ``nvml_calls.Progress``."""
    skip: tuple[int, ...] = ()
    """GPUs that are not to be touched, while the driver lists ``of`` of them."""
    of: int = 0
    gpm: bool = True
    cadences: dict[str, float] = {}  # noqa: RUF012 - nobody changes it


class Names:
    """Names of processes and of their users. Never a command line: those carry API keys."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}

    def of(self, pid: int) -> tuple[str, str]:
        """The program's name as the kernel has it, at most 15 characters, and its user; "" where the process is not
        to be seen, as from another PID namespace."""
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
            uid = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            return "", ""
        return name, self._user(uid)

    def _user(self, uid: int) -> str:
        if uid not in self._users:
            self._users[uid] = str(uid)
            # The name may come from a directory server that does not answer: the GPUs do not wait for it.
            look = threading.Thread(target=self._look_up, args=(uid,), daemon=True)
            try:
                look.start()
            except RuntimeError:  # no thread can be had now: it is looked up the next time
                return self._users.pop(uid)
            look.join(0.05)
        return self._users[uid]

    def _look_up(self, uid: int) -> None:
        try:
            self._users[uid] = pwd.getpwuid(uid).pw_name
        except (KeyError, OSError):
            return  # the number says it as well


class Driver:
    """NVML, opened once, and its GPUs."""

    def __init__(self, options: Options) -> None:
        progress.gpu(None)
        pynvml.nvmlInit()
        self.driver_version = _text(pynvml.nvmlSystemGetDriverVersion)
        self.cuda_version = _cuda_version()
        self.count = pynvml.nvmlDeviceGetCount()
        skip = options.skip if self.count == options.of else ()
        cadences = Cadences(**options.cadences)
        self.gpus = [
            Gpu(index, cadences, index / self.count, use_gpm=options.gpm)
            for index in range(self.count)
            if index not in skip
        ]
        self._names = Names()
        self._xids = Xids()
        self._topology: Values | None = None
        self._facts_sent: list[Values] | None = None

    def frame(self, watched: bool) -> Values:
        """Ask what is due. Facts are in it when they changed."""
        started = time.perf_counter()
        now = time.monotonic()
        gpus = [gpu.poll(now, watched, self._names.of) for gpu in self.gpus]
        frame: Values = {"gpus": gpus}
        answering = [gpu for gpu in self.gpus if gpu.handle is not None]
        if self._topology is None and answering:
            self._topology = topology(answering)
        progress.gpu(None)
        if xids := self._xids.poll(answering):
            frame["xids"] = xids
        facts = [dict(gpu.facts) for gpu in self.gpus]
        if facts != self._facts_sent:
            self._facts_sent = facts
            frame["facts"] = {
                "driver_version": self.driver_version,
                "cuda_version": self.cuda_version,
                "gpus": [fact for fact in facts if "uuid" in fact],
                "count": self.count,
                "topology": self._topology["rows"] if self._topology else [],
            }
        frame["seconds"] = time.perf_counter() - started
        frame["cpu_seconds"] = time.process_time()
        frame["rss_bytes"] = _resident()
        return frame


class Xids:
    """XID errors that the driver tells its clients about. Which of them it does is its own affair: the kernel's log
    has all."""

    def __init__(self) -> None:
        self._set: Any = None
        self._registered: set[int] = set()
        self._by_handle: dict[int | None, int] = {}
        self._supported = True

    def poll(self, gpus: list[Gpu]) -> list[tuple[int, int]]:
        """Those since the last time, as GPU and code. Never waits."""
        found: list[tuple[int, int]] = []
        if not self._supported:
            return found
        if self._set is None:
            self._set = once("nvmlEventSetCreate", pynvml.nvmlEventSetCreate)
            self._supported = self._set is not None
        for gpu in gpus:
            if self._supported and gpu.index not in self._registered:
                self._register(gpu)
        while self._by_handle and len(found) < _MOST_EVENTS:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._set, 0)
            except pynvml.NVMLError:
                break  # nothing more: NVML calls it a timeout
            index = self._by_handle.get(_address(event.device))
            if event.eventData and index is not None:
                found.append((index, int(event.eventData)))
        return found

    def _register(self, gpu: Gpu) -> None:
        self._registered.add(gpu.index)
        kind = pynvml.nvmlEventTypeXidCriticalError
        if once("nvmlDeviceRegisterEvents", lambda: _none(gpu, kind, self._set)):
            self._by_handle[_address(gpu.handle)] = gpu.index


def _none(gpu: Gpu, kind: int, events: Any) -> bool:
    pynvml.nvmlDeviceRegisterEvents(gpu.handle, kind, events)
    return True


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _text(call: Callable[[], str]) -> str:
    try:
        return call()
    except pynvml.NVMLError:
        return ""  # an empty label is an absent one


def _cuda_version() -> str:
    try:
        version = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    except pynvml.NVMLError:
        return ""
    return f"{version // 1000}.{version % 1000 // 10}"


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _open(options: Options) -> tuple[Driver | None, Values]:
    """The driver, or the frame that says why there is none."""
    try:
        driver = Driver(options)
    except pynvml.NVMLError as error:
        if reason := ABSENT.get(error.value):
            return None, {"absent": reason}
        text = MISMATCH if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH else str(error)
        return None, {"down": f"cannot open the driver: {text}"}
    if not driver.count:
        # GPUs that come later are seen only by a process that opens the driver after them.
        return None, {"down": "the NVIDIA driver is loaded and lists no GPU"}
    return driver, {}


def _send(output: int, frame: Values) -> None:
    body = json.dumps(frame, separators=(",", ":")).encode()
    data = len(body).to_bytes(4, "big") + body
    while data:
        data = data[os.write(output, data) :]


def end_with(parent: int) -> bool:
    """Ask the kernel to kill this process when its parent ends; False where it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return os.getppid() == parent


def main(arguments: list[str]) -> int:
    """Answer until standard input ends. Returns the exit status."""
    if len(arguments) != 2 or not arguments[0].isdigit():
        print("This is the part of gpumon that asks the driver; gpumon starts it itself.", file=sys.stderr)  # noqa: T201
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to answer
    if not end_with(int(arguments[0])):
        return 0
    options = Options(**json.loads(arguments[1]))
    if options.progress >= 0:
        progress.share(options.progress)
    # What a library prints must not come between the frames.
    output = os.dup(1)
    os.dup2(2, 1)
    driver: Driver | None = None
    try:
        while asked := os.read(0, 4096):
            if driver is None:
                driver, excuse = _open(options)
                if driver is None:
                    _send(output, excuse)
                    return 0
            try:
                frame = driver.frame(watched=asked.endswith(b"watched\n"))
            except (Gone, Lost) as error:
                _send(output, {"down": f"the driver went away, or was replaced: {error}"})
                return 0
            _send(output, frame)
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
