"""What the daemon tells of itself, as events: that it began, and after what; that it ended; what another configuration
changed, or why it was refused; who silenced what; that history is not written, and is again. Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from monitor import __version__
from monitor.clock import Leap
from monitor.config import Config
from monitor.notify.silences import Silence
from monitor.probes.schema import RunRow
from monitor.records import fields, replace
from monitor.rules.rule_file import RuleSet
from monitor.samples import Event
from monitor.yaml_reader import Problem

_NAMES = 6
"""Names in a title; the others are in the detail."""
_AWAY_MS = 30_000
"""An earlier run says each ten seconds that it lives: a gap shorter than this is no absence."""
_LEAP_MS = 10_000
"""A shorter leap forward is a correction."""
AT_START = ("hostname", "job", "instance", "state_directory", "api", "history", "probes")
"""What of the configuration holds from the start of the daemon to its end."""
_WORDS = {
    "hostname": "node",
    "job": "node",
    "instance": "node",
    "vllm_servers": "vLLM servers",
    "evaluation_interval_ms": "evaluation_interval",
}


def in_words(milliseconds: int) -> str:
    """A length of time for an event's title: ``12 s``, ``4 min``, ``3 h``, ``2 d``."""
    seconds = max(0, milliseconds) // 1000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def began(now_ms: int, alive_ms: int | None, clean: bool, boot_ms: int | None) -> Event:
    """It began. ``alive_ms`` is when an earlier run was last alive, ``clean`` whether that one ended by itself."""
    title, detail, severity = f"gpumon {__version__} began", "", "info"
    if alive_ms is not None:
        away = in_words(now_ms - alive_ms)
        if clean:
            title += f"; it had been away for {away}"
        elif boot_ms is not None and boot_ms > alive_ms:
            severity = "warning"
            title += f"; the machine had restarted, and nothing was watched for {away}"
        else:
            severity = "warning"
            title += f"; the run before had ended without a word, {away} ago"
            detail = "It was killed, or crashed: its log says what it did last (journalctl -u gpumon)."
        if now_ms - alive_ms >= _AWAY_MS:
            detail = f"{detail} Meanwhile nothing was read, and no alert could fire.".strip()
    return Event(now_ms, "daemon_started", severity, title, {}, detail)


def leapt(now_ms: int, leap: Leap) -> list[Event]:
    """The machine slept, or the clock was set forward: either by so much that it matters."""
    found = []
    if leap.slept_ms >= _LEAP_MS:
        found.append(("slept", f"the machine slept for {in_words(leap.slept_ms)}"))
    if leap.set_ms >= _LEAP_MS:
        found.append(("clock_forward", f"the clock went forward by {leap.set_ms // 1000} s"))
    detail = "Of that time there are no readings. What fires goes on, and silences end when they said."
    return [Event(now_ms, kind, "warning", title, {}, detail) for kind, title in found]


def ended(now_ms: int, why: str, *, failed: bool = False) -> Event:
    """It ends, as it was told to, or because a part of it failed."""
    severity = "critical" if failed else "info"
    return Event(now_ms, "daemon_stopped", severity, f"gpumon ends: {why}" if why else "gpumon ends")


def reloaded(now_ms: int, old: Config, new: Config, before: RuleSet, after: RuleSet) -> Event:
    """Configuration and rules were read again: ``new`` as it stands in the file. Names what differs, and no value: some
    are secrets."""
    differ = [name for name in fields(new) if getattr(old, name) != getattr(new, name)]
    changed = [_WORDS.get(name, name) for name in differ if name not in AT_START]
    waits = dict.fromkeys(_WORDS.get(name, name) for name in differ if name in AT_START)
    known, now = _rules(before), _rules(after)
    parts = [f"{', '.join(changed)} changed"] if changed else []
    details = []
    for word, names in (
        ("new", [name for name in now if name not in known]),
        ("gone", [name for name in known if name not in now]),
        ("changed", [name for name in now if name in known and now[name] != known[name]]),
    ):
        if names:
            more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            parts.append(f"rules {word}: {', '.join(names[:_NAMES])}{more}")
            if more:
                details.append(f"Rules {word}: {', '.join(names)}.")
    if waits:
        parts.append(f"a restart is needed for what changed in: {', '.join(waits)}")
    said = "; ".join(parts) or "nothing differs"
    files = sorted({group.path for group in after.groups if group.path})
    return Event(
        now_ms,
        "config_reloaded",
        "warning" if waits else "info",
        f"configuration read again: {said}",
        {"files": ", ".join(files)} if files else {},
        " ".join(details),
    )


def refused(now_ms: int, problems: Sequence[Problem]) -> Event:
    """A configuration was refused whole; the old one stays. What stands in its place may be a secret, and events are
    read by anybody: nothing is quoted."""
    said = [_unquoted(one) for one in problems]
    first = said[0] if said else "it cannot be read"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Event(
        now_ms,
        "config_refused",
        "warning",
        f"configuration not read again: {first}{more}",
        {"file": problems[0].path} if problems else {},
        "The old one stays. `gpumon check` and the log say what stands there. " + " · ".join(said[:20]),
    )


def _unquoted(problem: Problem) -> str:
    message, quote, _ = problem.message.partition('"')
    return str(replace(problem, message=f'{message}"…"' if quote else message))


def history_turned(now_ms: int, ok: bool, problem: str, lost_samples: int) -> Event:
    """History is not written any more, or is again."""
    if ok:
        lost = f"; {lost_samples} samples were lost" if lost_samples else ""
        return Event(now_ms, "history_ok", "info", f"history is written again{lost}")
    detail = "What comes in is in memory only."
    return Event(now_ms, "history_problem", "warning", f"history is not written: {problem}", {}, detail)


def silenced(now_ms: int, silence: Silence) -> Event:
    """Somebody silenced alerts, or changed how."""
    title = f"silenced for {in_words(silence.ends_at_ms - now_ms)}: {_about(silence)}"
    until = datetime.fromtimestamp(silence.ends_at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Event(now_ms, "silence_set", "info", title, {"id": silence.id, "until": until}, _why(silence))


def silence_over(silence: Silence, *, by_hand: bool = False) -> Event:
    """A silence has ended, when it said or because somebody ended it."""
    title = f"silence {'ended by hand' if by_hand else 'over'}: {_about(silence)}"
    return Event(silence.ends_at_ms, "silence_ended", "info", title, {"id": silence.id}, _why(silence))


def silences_over(silences: Iterable[Silence], since_ms: int, now_ms: int) -> list[Event]:
    """Those that ended by themselves between two times."""
    return [
        silence_over(one)
        for one in silences
        if since_ms < one.ends_at_ms <= now_ms and one.updated_at_ms < one.ends_at_ms  # not by hand
    ]


def probe_started(now_ms: int, row: RunRow) -> Event:
    """A probe began."""
    by = f", for {_shown(row.by)}" if row.by else ""
    return Event(now_ms, "probe_started", "info", f"{_probe(row)} against {row.server} began{by}", _of_probe(row))


def probe_over(now_ms: int, row: RunRow) -> Event:
    """A probe is over. That it sent nothing is no failure."""
    title = f"{_probe(row)} against {row.server}"
    if row.state in ("failed", "lost"):
        words = "failed" if row.state == "failed" else "was lost"
        return Event(now_ms, "probe_failed", "warning", f"{title} {words}: {_line(row.error)}", _of_probe(row))
    said = {"cancelled": "was cancelled", "busy": "sent nothing", "refused": "sent nothing"}.get(row.state, "is done")
    if row.state in ("busy", "refused") and row.error:
        said += f": {_line(row.error)}"
    elif not row.valid:
        said += ", and does not count"
    return Event(now_ms, "probe_ended", "info", f"{title} {said}", _of_probe(row))


def _probe(row: RunRow) -> str:
    return row.workload if row.name in ("", row.workload) else f"{row.workload} ({_shown(row.name)})"


def _of_probe(row: RunRow) -> dict[str, str]:
    return {"server": row.server, "probe": row.workload, "run": row.id}


def _line(text: str) -> str:
    return _shown(" ".join(text.split()))[:200]


def _about(silence: Silence) -> str:
    """What it silences, in a line."""
    name = next((m.value for m in silence.matchers if m.name == "alertname" and m.op == "="), "")
    others = ", ".join(str(m) for m in silence.matchers if not name or m.name != "alertname")
    return _shown(f"{name} ({others})" if name and others else name or others)


def _why(silence: Silence) -> str:
    return _shown(f"{silence.created_by}: {silence.comment}")


def _shown(text: str) -> str:
    """What a client wrote, without what a terminal obeys: events go into logs and other people's programs."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{MIDDLE DOT}" for c in text)


def _rules(rules: RuleSet) -> dict[str, list[object]]:
    """What each rule says, by name, wherever in its file it stands."""
    found: dict[str, list[object]] = {}
    for group in rules.groups:
        for rule in group.rules:
            texts = [sorted((name, text.text) for name, text in one.items()) for one in (rule.labels, rule.annotations)]
            said = (group.interval_ms, rule.records, rule.expr, rule.for_ms, rule.keep_firing_for_ms, texts)
            found.setdefault(rule.name, []).append(said)
    return found
