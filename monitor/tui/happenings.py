"""What kinds of things happen: how grave one is, what group it is of, how it looks, and what ended it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.style import Style

from monitor.client.snapshot import Happening
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN

Group: TypeAlias = Literal["alerts", "faults", "servers", "sources", "gpumon", "probes"]

GROUPS: tuple[Group, ...] = ("alerts", "faults", "servers", "sources", "gpumon", "probes")
"""In the order in which they are shown."""

_GROUP_OF: Mapping[str, Group] = {
    "firing": "alerts",
    "resolved": "alerts",
    "silence_set": "alerts",
    "silence_ended": "alerts",
    "server_restarted": "servers",
    "server_log": "servers",
    "server_found": "servers",
    "server_gone": "servers",
    "source_down": "sources",
    "source_up": "sources",
    "source_flapping": "sources",
    "daemon_started": "gpumon",
    "daemon_stopped": "gpumon",
    "config_reloaded": "gpumon",
    "config_refused": "gpumon",
    "history_problem": "gpumon",
    "history_ok": "gpumon",
    "report_sent": "gpumon",
    "report_failed": "gpumon",
    "clock_back": "gpumon",
    "clock_forward": "gpumon",
    "slept": "gpumon",
    "kernel_log_flood": "gpumon",
}
_WORDS: Mapping[str, str] = {
    "firing": "alert",
    "resolved": "resolved",
    "silence_set": "silenced",
    "silence_ended": "silence over",
    "xid": "XID",
    "sxid": "SXID",
    "oom_kill": "OOM kill",
    "gpu_lost": "GPU lost",
    "gpu_init_failed": "GPU init",
    "server_restarted": "restart",
    "server_log": "log",
    "server_found": "found",
    "server_gone": "gone",
    "source_down": "down",
    "source_up": "up again",
    "source_flapping": "flapping",
    "daemon_started": "gpumon began",
    "daemon_stopped": "gpumon ends",
    "config_reloaded": "reload",
    "config_refused": "refused",
    "history_problem": "history",
    "history_ok": "history ok",
    "report_sent": "report",
    "report_failed": "no report",
    "clock_back": "clock back",
    "clock_forward": "clock ahead",
    "slept": "slept",
    "kernel_log_flood": "log flood",
    "probe_started": "probe began",
    "probe_ended": "probe over",
    "probe_failed": "probe failed",
}
_GOOD = ("resolved", "passed", "source_up", "history_ok")
"""Kinds that tell of an end."""
_UNMARKED = ("silence_set", "silence_ended", "config_refused", "kernel_log_flood")
"""Kinds that no graph shows anything of."""

Thread: TypeAlias = tuple[object, ...]
"""What a beginning and its end share."""

OVER, NOTE, WARNS, GRAVE = range(4)
"""How grave something is."""
GLYPHS = ("○", "·", "▲", "■")
LEVEL_WORDS = ("over", "note", "warning", "critical")
STYLES: tuple[Style, ...] = (GOOD, DIM, NOTICE, CRITICAL)


def group_of(one: Happening) -> Group:
    """The group of a happening: what the kernel and the driver say is a fault, whatever its kind."""
    if one.kind.startswith("probe"):
        return "probes"
    return _GROUP_OF.get(one.kind, "faults")


def word_of(one: Happening) -> str:
    """Its kind in a word."""
    return _WORDS.get(one.kind, one.kind.replace("_", " "))


def level_of(one: Happening) -> int:
    """``OVER``, ``NOTE``, ``WARNS`` or ``GRAVE``."""
    if one.kind in _GOOD:
        return OVER
    if one.severity in ("critical", "page", "error"):
        return GRAVE
    return WARNS if one.severity == "warning" else NOTE


def style_of(one: Happening) -> Style:
    """How its words look."""
    level = level_of(one)
    return PLAIN if level == NOTE else STYLES[level]


def weight_of(one: Happening) -> int | None:
    """How heavy it is among the marks of a graph; None where it is not marked. What is only noted is marked where it
    can be seen in a graph: a server that came or went, a restart, a probe."""
    if one.kind in _UNMARKED:
        return None
    level = level_of(one)
    if one.kind == "server_log" and level < GRAVE:
        return None  # there are many, and most show in no graph
    if level == NOTE:
        return None if one.kind == "firing" else 1
    return 0 if level == OVER else level


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted: what began it, and what ended it, or None where that is not known."""

    begin: Happening
    end: Happening | None
    end_ms: int | None = None
    """When it ended, where nothing tells of its end but its beginning: a silence."""

    @property
    def until_ms(self) -> int | None:
        """When it was over."""
        return self.end.at_ms if self.end is not None else self.end_ms


def spans(happened: Sequence[Happening]) -> dict[int, Span]:
    """What lasted, by ``id`` of what began and of what ended it. ``happened`` is the newest first."""
    found: dict[int, Span] = {}
    open_: dict[Thread, Happening] = {}
    for one in reversed(happened):
        if one.kind in ("daemon_started", "server_gone"):
            for over in [thread for thread in open_ if _outlives(one, thread)]:
                unended = open_.pop(over)
                found[id(unended)] = Span(unended, one)
        thread = _thread(one)
        if thread is None:
            continue
        begun = open_.pop(thread, None)
        if _begins(one):
            if begun is not None and one.kind in ("source_down", "source_flapping"):
                found[id(begun)] = Span(begun, one)  # it goes on as flapping
            open_[thread] = one
            found[id(one)] = Span(one, None, _own_end(one))
        elif begun is not None:
            found[id(begun)] = found[id(one)] = Span(begun, one)
    return found


def _begins(one: Happening) -> bool:
    return one.kind in (
        "firing",
        "source_down",
        "source_flapping",
        "daemon_stopped",
        "config_refused",
        "history_problem",
        "silence_set",
        "server_gone",
        "probe_started",
    )


def _outlives(one: Happening, thread: Thread) -> bool:
    """Whether nobody will tell of the end of what is open: another run of the daemon looks for itself, and tells anew
    of what it finds; and a server that is no longer watched is no longer down."""
    if one.kind == "daemon_started":
        return thread[0] in ("source", "config", "history", "probe")
    return one.kind == "server_gone" and thread[0] == "source" and thread[2] == one.labels.get("server")


def _thread(one: Happening) -> Thread | None:
    """None for what does not last."""
    labels = one.labels
    match one.kind:
        case "firing" | "resolved":
            return ("alert", name_of(one), tuple(sorted(labels.items())))
        case "source_down" | "source_flapping" | "source_up":
            return ("source", labels.get("source"), labels.get("server"))
        case "daemon_stopped" | "daemon_started":
            return ("daemon",)
        case "config_refused" | "config_reloaded":
            return ("config",)
        case "history_problem" | "history_ok":
            return ("history",)
        case "silence_set" | "silence_ended":
            return ("silence", labels.get("id"))
        case "server_gone" | "server_found":
            return ("server", labels.get("server"))
        case "probe_started" | "probe_ended" | "probe_failed":
            return ("probe", labels.get("run"))
    return None


def _own_end(one: Happening) -> int | None:
    if one.kind != "silence_set":
        return None
    from monitor.client.wire import parse_time

    return parse_time(one.labels.get("until", ""))


def run_of(one: Happening) -> str:
    """The probe run that it tells of; "" for none."""
    return one.labels.get("run", "") if one.kind in ("probe_started", "probe_ended", "probe_failed") else ""


def name_of(one: Happening) -> str:
    """An alert's name."""
    return one.title.partition(": ")[0]


def counted(happened: Iterable[Happening]) -> dict[int, int]:
    """How many there are of each level."""
    found: dict[int, int] = {}
    for one in happened:
        level = level_of(one)
        found[level] = found.get(level, 0) + 1
    return found
