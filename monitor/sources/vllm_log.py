"""A server's log, where the configuration names it: its errors as events and a counter, and how evenly the experts of a
mixture are loaded, which vLLM tells nowhere else.

What stood in the log before the daemon watched it is not new. All is bounded: bytes a poll, length of a line, events.
"""

from __future__ import annotations

import re

import msgspec

from monitor.samples import Event, Scrape, ScrapeBuilder
from monitor.sources.vllm_log_lines import FileLines, JournalLines, Lines

FAMILIES = (
    ("gpumon_engine_log_errors_total", "counter", "Errors that the server wrote into its log, by level."),
    ("gpumon_engine_log_lines_total", "counter", "Lines of the server's log that were read."),
    ("gpumon_engine_log_skipped_bytes_total", "counter", "Bytes of the server's log that came too fast to be read."),
    (
        "gpumon_engine_expert_balancedness_ratio",
        "gauge",
        "Mean load of the experts' ranks over the highest, as the server last wrote it; 1 is even.",
    ),
)
UNEVEN = 0.5
"""A balancedness below this is an event: the busiest rank then has twice the mean."""
_EVEN_AGAIN = 0.6
_BALANCE_MS = 600_000
_EVENTS = 10
_MS_AN_EVENT = 6_000
_REPEAT_MS = 60_000
_TITLE = 200
_MODELS = 16

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# vLLM: "(EngineCore pid=7) ERROR 11-20 20:30:31 [core.py:400] text", once without the process; uvicorn: "ERROR:".
_ERROR = re.compile(
    r"^(?P<process>(?:\([^)]{1,80}\)\s*)*)(?P<level>ERROR|CRITICAL|FATAL)"
    r"(?::\s+|\s+(?P<time>[\d-]+ [\d:.,]+)\s+(?P<place>\[[^\]]{1,80}\])\s?)(?P<text>.*)$"
)
_BALANCE = re.compile(r"EPLB step: \d+(?: for model (?P<model>\S+?))?:? .*?\bbalancedness=(?P<ratio>\d+(?:\.\d+)?)")
_FATAL = re.compile(
    r"EngineDeadError|fatal error|out of memory|CUDA error|NCCL error|engine core .*died", re.IGNORECASE
)
_SECRET = re.compile(r"(?i)(bearer\s+|api[-_]?key\W{1,4}|token\W{1,4}|\bhf_|\bsk-)[^\s'\",)]{4,}")


class _Error(msgspec.Struct):
    """One error: vLLM writes each line of a traceback as an error of its own, at the same place and time."""

    key: tuple[str, str, str]
    level: str
    title: str
    last: str = ""


class _Found(msgspec.Struct):
    errors: list[_Error] = msgspec.field(default_factory=list)
    ratios: dict[str, float] = msgspec.field(default_factory=dict)


class ServerLog:
    """Implements ``monitor.sources.source.Source`` for the log of ``server``: a file at ``path``, whose rotation is
    followed, or the journal of the systemd unit ``unit``. One of the two is given."""

    name = "server_log"

    def __init__(
        self,
        server: str,
        *,
        path: str | None = None,
        unit: str | None = None,
        interval: float = 2.0,
        deadline: float = 2.0,
    ) -> None:
        if (path is None) == (unit is None):
            raise ValueError("a server's log is a file or the journal of a unit")
        self.server = server
        self.interval = interval
        self.deadline = deadline
        self._where = path if path is not None else f"journal of {unit}"
        self._lines: Lines = FileLines(path) if path is not None else JournalLines(unit or "")
        self._count = 0
        self._errors = {"error": 0, "critical": 0}
        self._last_key = ("", "", "")
        self._ratios: dict[str, tuple[float, int]] = {}
        self._uneven: set[str] = set()
        self._recent: dict[str, int] = {}
        self._allowed = float(_EVENTS)
        self._allowed_ms: int | None = None
        self._left_out = 0
        self._builder = ScrapeBuilder()
        for family in FAMILIES:
            self._builder.family(*family)

    async def open(self) -> None:
        """Nothing to prepare: the log is opened with the first poll."""

    async def close(self) -> None:
        """Let go of the file, or end the journal's reader."""
        await self._lines.close()

    async def poll(self, now_ms: int) -> Scrape:
        """Read what was written since the last poll. Raises ``SourceDown`` where the log cannot be read."""
        lines = await self._lines.read(self.deadline)
        self._count += len(lines)
        found = self._understand(lines)
        events = self._events(found, now_ms)
        mine = (("server", self.server),)
        add = self._builder.add
        for level, count in self._errors.items():
            add("gpumon_engine_log_errors_total", count, (*mine, ("level", level)))
        add("gpumon_engine_log_lines_total", self._count, mine)
        add("gpumon_engine_log_skipped_bytes_total", self._lines.skipped, mine)
        for model, (ratio, at_ms) in self._ratios.items():
            if now_ms - at_ms < _BALANCE_MS:
                add("gpumon_engine_expert_balancedness_ratio", ratio, (*mine, ("model_name", model)))
        facts = {"log": self._where}
        if self._left_out:
            facts["left_out"] = f"{self._left_out} errors that came too fast to be events; they are counted"
        return self._builder.build(now_ms, facts=facts, events=tuple(events))

    def _understand(self, lines: list[str]) -> _Found:
        found = _Found()
        for raw in lines:
            line = _COLOUR.sub("", raw)
            if error := _ERROR.match(line):
                text = _printable(error["text"])
                key = (error["process"] or "", error["time"] or "", error["place"] or "")
                if error["time"] and key == self._last_key:
                    if found.errors and text:
                        found.errors[-1].last = text
                        if _FATAL.search(text):  # the exception stands at a traceback's end
                            found.errors[-1].level = "critical"
                    continue
                self._last_key = key
                level = "critical" if error["level"] != "ERROR" or _FATAL.search(text) else "error"
                found.errors.append(_Error(key, level, text))
            elif balance := _BALANCE.search(line):
                found.ratios[balance["model"] or ""] = float(balance["ratio"])
        for one in found.errors:
            self._errors[one.level] += 1
        return found

    def _events(self, found: _Found, now_ms: int) -> list[Event]:
        events = []
        labels = {"server": self.server}
        self._recent = {title: at_ms for title, at_ms in self._recent.items() if now_ms - at_ms < _REPEAT_MS}
        for error in found.errors:
            title = f"{self.server}: {error.title}"[:_TITLE]
            if title not in self._recent and self._may(now_ms):
                self._recent[title] = now_ms
                severity = "critical" if error.level == "critical" else "warning"
                events.append(Event(now_ms, "server_log", severity, title, labels, error.last[:_TITLE]))
        for model, ratio in found.ratios.items():
            if model not in self._ratios and len(self._ratios) >= _MODELS:
                continue
            self._ratios[model] = (ratio, now_ms)
            if ratio < UNEVEN and model not in self._uneven and self._may(now_ms):
                self._uneven.add(model)
                title = f"{self.server}: its experts are loaded unevenly (balancedness {ratio:.2f})"
                detail = "the busiest rank has more than twice the mean: let vLLM rebalance more often (--eplb-config)"
                events.append(Event(now_ms, "server_log", "warning", title, labels, detail))
            elif ratio > _EVEN_AGAIN:
                self._uneven.discard(model)
        return events

    def _may(self, now_ms: int) -> bool:
        """A few events at once, and one every few seconds for long."""
        if self._allowed_ms is not None:
            self._allowed = min(_EVENTS, self._allowed + (now_ms - self._allowed_ms) / _MS_AN_EVENT)
        self._allowed_ms = now_ms
        if self._allowed < 1:
            self._left_out += 1
            return False
        self._allowed -= 1
        return True


def _printable(text: str) -> str:
    """What may be shown of a line: no control characters, no keys, not all of it."""
    shown = "".join(c if c.isprintable() else " " for c in text[: 4 * _TITLE])
    return _SECRET.sub(r"\1***", shown).strip()[:_TITLE]
