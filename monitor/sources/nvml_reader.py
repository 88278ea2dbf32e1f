"""The NVML reader: a process of its own in which the driver is asked, so that a hang or a crash is not the daemon's.

``python -m monitor.sources.nvml_reader PARENT_PID`` waits for lines on standard input and answers each with one frame
on standard output: four bytes of length, big-endian, then JSON. ``monitor.sources.nvml_series`` says what is in it.
Lines that came while the driver was slow are answered together, so requests never pile up. It ends with its parent.

The only module that imports pynvml, and it imports little else: its memory counts against the daemon's.

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
from typing import Any, NamedTuple, TypeAlias

import pynvml

Values: TypeAlias = dict[str, Any]

LOST_POLLS = 10
"""A lost GPU is left alone for so many polls: each call to it may cost seconds, or hang."""

_UNSUPPORTED = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
}
_LOST = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}
_ABSENT = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "no NVIDIA driver: the kernel module is not loaded",
}
_MISMATCH = "the driver's library and kernel module differ in version: reload the module, or reboot"
_PSTATE_UNKNOWN = 32
_PR_SET_PDEATHSIG = 1


class Ask(NamedTuple):
    """One call of NVML: its name there, and how to make it. ``read`` takes the GPU's handle."""

    call: str
    read: Callable[[Any], Values]


def _plain(key: str, call: str, *args: int) -> Ask:
    """A call that answers one number, or one text."""
    return Ask(call, lambda handle: {key: getattr(pynvml, call)(handle, *args)})


def _above_zero(key: str, call: str, *args: int) -> Ask:
    """The same where boards without the reading answer 0 in place of an error."""
    return Ask(call, lambda handle: {key: getattr(pynvml, call)(handle, *args) or None})


def _utilization(handle: Any) -> Values:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return {"util": rates.gpu, "mem_util": rates.memory}


def _memory(handle: Any) -> Values:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    if not memory.total:  # a GPU that shares the host's memory
        return {}
    return {"used": memory.used, "free": memory.free, "reserved": memory.reserved, "total": memory.total}


def _memory_temperature(handle: Any) -> Values:
    (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_MEMORY_TEMP])
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.nvmlReturn)
    # Boards without the sensor answer 0, with success.
    return {"mem_temp": int(field.value.uiVal) or None}


def _pstate(handle: Any) -> Values:
    state = pynvml.nvmlDeviceGetPerformanceState(handle)
    return {} if state == _PSTATE_UNKNOWN else {"pstate": state}


def _bus_id(handle: Any) -> Values:
    bus_id = pynvml.nvmlDeviceGetPciInfo_v3(handle).busId
    return {"bus_id": bus_id.decode() if isinstance(bus_id, bytes) else bus_id}


def _processes(kind: str, call: str) -> Ask:
    def read(handle: Any) -> Values:
        return {"found": [(p.pid, p.usedGpuMemory, kind) for p in getattr(pynvml, call)(handle)]}

    return Ask(call, read)


# Each row is one reading, or several of one call: the first way that the driver supports is the way.

_IDENTITY = (
    _plain("uuid", "nvmlDeviceGetUUID"),
    _plain("name", "nvmlDeviceGetName"),
    Ask("nvmlDeviceGetPciInfo_v3", _bus_id),
)
"""Without these a GPU's series would have other labels than before, so it has none."""

_STATIC = (
    (_plain("minor", "nvmlDeviceGetMinorNumber"),),
    (_above_zero("shutdown_temp", "nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),),
    (_above_zero("slowdown_temp", "nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),),
    (_above_zero("mem_max_temp", "nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX),),
    (_above_zero("gpu_max_temp", "nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX),),
    (_above_zero("max_sm_clock", "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),),
    (_above_zero("max_mem_clock", "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM),),
)
"""Asked until answered: some of these cost a millisecond or more."""

_POLLED = (
    (Ask("nvmlDeviceGetUtilizationRates", _utilization),),
    (Ask("nvmlDeviceGetMemoryInfo_v2", _memory),),
    (
        _plain("temp", "nvmlDeviceGetTemperatureV", pynvml.NVML_TEMPERATURE_GPU),
        _plain("temp", "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
    ),
    (Ask("nvmlDeviceGetFieldValues", _memory_temperature),),
    (_plain("power_mw", "nvmlDeviceGetPowerUsage"),),
    (_plain("power_limit_mw", "nvmlDeviceGetEnforcedPowerLimit"),),
    (_plain("sm_clock", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),),
    (_plain("mem_clock", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),),
    (Ask("nvmlDeviceGetPerformanceState", _pstate),),
    (
        _plain("reasons", "nvmlDeviceGetCurrentClocksEventReasons"),
        _plain("reasons", "nvmlDeviceGetCurrentClocksThrottleReasons"),
    ),
    (_plain("fan", "nvmlDeviceGetFanSpeed"),),
    (
        _processes("compute", "nvmlDeviceGetComputeRunningProcesses_v3"),
        _processes("compute", "nvmlDeviceGetComputeRunningProcesses_v2"),
    ),
    # Clients of MPS are in a list of their own, and are compute processes to everybody who looks.
    (
        _processes("compute", "nvmlDeviceGetMPSComputeRunningProcesses_v3"),
        _processes("compute", "nvmlDeviceGetMPSComputeRunningProcesses_v2"),
    ),
    (
        _processes("graphics", "nvmlDeviceGetGraphicsRunningProcesses_v3"),
        _processes("graphics", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
    ),
)


class Lost(Exception):
    """The GPU does not answer any more; the text says which call found out."""


class Gpu:
    """What is known of one GPU, and what is still worth asking."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.facts: Values = {"index": index}
        self._handle: Any = None
        self._static = [list(ways) for ways in _STATIC]
        self._polled = [list(ways) for ways in _POLLED]
        self._skip = 0
        self._why = ""

    def poll(self, names: Names) -> Values:
        """One GPU's part of a frame."""
        if self._skip:
            self._skip -= 1
            return {"index": self.index, "error": self._why}
        errors: list[str] = []
        try:
            if not self._identify(errors):
                return {"index": self.index, "error": errors[0]}
            for ways in list(self._static):
                answer = self._ask(ways, errors)
                if answer is not None:
                    self.facts.update(_present(answer))
                if answer is not None or not ways:
                    self._static.remove(ways)
            values: Values = {"index": self.index}
            found: list[tuple[int, int | None, str]] = []
            for ways in self._polled:
                answer = self._ask(ways, errors) or {}
                found += answer.pop("found", ())
                values.update(_present(answer))
        except Lost as lost:
            # Its handle may be of no use after a reset, so it is asked for again.
            self._handle, self._skip, self._why = None, LOST_POLLS, str(lost)
            return {"index": self.index, "error": self._why}
        values["processes"] = [[pid, memory, kind, *names.of(pid)] for pid, memory, kind in _each_once(found)]
        if errors:
            values["error"] = errors[0]
        return values

    def _identify(self, errors: list[str]) -> bool:
        if self._handle is not None:
            return True

        def take(_: Any) -> Values:
            return {"handle": pynvml.nvmlDeviceGetHandleByIndex(self.index)}

        answer = self._ask([Ask("nvmlDeviceGetHandleByIndex_v2", take)], errors)
        if not answer:
            errors.append("no handle: not supported")
            return False
        self._handle = answer["handle"]
        for ask in _IDENTITY:
            answer = self._ask([ask], errors)
            if not answer:
                errors.append(f"{ask.call}: not supported")
                self._handle = None
                return False
            self.facts.update(answer)
        return True

    def _ask(self, ways: list[Ask], errors: list[str]) -> Values | None:
        """The answer of the first way that is supported; None where there was none. Ways that are not supported are
        taken off the list for good."""
        while ways:
            ask = ways[0]
            try:
                return ask.read(self._handle)
            except AttributeError:  # an older nvidia-ml-py without this call
                del ways[0]
            except pynvml.NVMLError as error:
                if error.value in _UNSUPPORTED:
                    del ways[0]
                    continue
                if error.value in _LOST:
                    raise Lost(f"{error} ({ask.call})") from None
                errors.append(f"{error} ({ask.call})")
                return None
        return None


def _present(values: Values) -> Values:
    return {key: value for key, value in values.items() if value is not None}


def _each_once(found: list[tuple[int, int | None, str]]) -> list[tuple[int, int | None, str]]:
    """A process that computes and draws is in both lists: it counts once, as compute, which comes first."""
    kept: dict[int, tuple[int, int | None, str]] = {}
    for process in found:
        kept.setdefault(process[0], process)
    return list(kept.values())


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
            look.start()
            look.join(0.05)
        return self._users[uid]

    def _look_up(self, uid: int) -> None:
        try:
            self._users[uid] = pwd.getpwuid(uid).pw_name
        except (KeyError, OSError):
            return  # the number says it as well


class Driver:
    """NVML, opened once, and its GPUs."""

    def __init__(self) -> None:
        pynvml.nvmlInit()
        self.driver_version = _text(pynvml.nvmlSystemGetDriverVersion)
        self.cuda_version = _cuda_version()
        self.gpus = [Gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
        self._names = Names()
        self._facts_sent: list[Values] | None = None

    def frame(self) -> Values:
        """Ask everything once. Facts are in it when they changed."""
        started = time.perf_counter()
        gpus = [gpu.poll(self._names) for gpu in self.gpus]
        frame: Values = {"gpus": gpus}
        facts = [dict(gpu.facts) for gpu in self.gpus]
        if facts != self._facts_sent:
            self._facts_sent = facts
            frame["facts"] = {
                "driver_version": self.driver_version,
                "cuda_version": self.cuda_version,
                "gpus": [fact for fact in facts if "uuid" in fact],
            }
        frame["seconds"] = time.perf_counter() - started
        return frame


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


def _open() -> tuple[Driver | None, Values]:
    """The driver, or the frame that says why there is none."""
    try:
        driver = Driver()
    except pynvml.NVMLError as error:
        if reason := _ABSENT.get(error.value):
            return None, {"absent": reason}
        text = _MISMATCH if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH else str(error)
        return None, {"down": f"cannot open the driver: {text}"}
    if not driver.gpus:
        # GPUs that come later are seen only by a process that opens the driver after them.
        return None, {"down": "the NVIDIA driver is loaded and lists no GPU"}
    return driver, {}


def _send(output: int, frame: Values) -> None:
    body = json.dumps(frame, separators=(",", ":")).encode()
    data = len(body).to_bytes(4, "big") + body
    while data:
        data = data[os.write(output, data) :]


def _end_with(parent: int) -> bool:
    """Ask the kernel to kill this process when its parent ends; False where it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return os.getppid() == parent


def main(arguments: list[str]) -> int:
    """Answer until standard input ends. Returns the exit status."""
    if len(arguments) != 1 or not arguments[0].isdigit():
        print("This is the part of gpumon that asks the driver; gpumon starts it itself.", file=sys.stderr)  # noqa: T201
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to answer
    if not _end_with(int(arguments[0])):
        return 0
    # What a library prints must not come between the frames.
    output = os.dup(1)
    os.dup2(2, 1)
    driver: Driver | None = None
    try:
        while os.read(0, 4096):
            if driver is None:
                driver, excuse = _open()
                if driver is None:
                    _send(output, excuse)
                    return 0
            _send(output, driver.frame())
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
