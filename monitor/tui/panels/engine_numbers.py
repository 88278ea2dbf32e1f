"""A server's numbers that are no latency: how requests ended, what they brought, caches, speculation, its GPUs."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.distribution import of
from monitor.client.engine_queries import SIZES
from monitor.client.format import ABSENT, count, number, percent, rate
from monitor.client.results import Answers
from monitor.client.snapshot import Engine
from monitor.digits import is_whole
from monitor.tui.palette import CRITICAL, DIM, NOTICE, PLAIN, WARNING
from monitor.tui.rows import Row, title

_LABEL = 9
_REASONS = ("stop", "length", "abort", "error", "repetition")
_CACHES = ("local", "connector", "multimodal")
_FAULTS = {
    "corrupted": "corrupted answer",
    "transfers": "failed KV transfer",
    "restarts": "restart",
    "logged": "logged error",
}
_SOURCES = {"local_compute": "computed", "local_cache_hit": "cached", "external_kv_transfer": "transferred"}


def numbers(engine: Engine, answers: Answers | None, width: int) -> list[Row]:
    """All of them, each in a line or more with its name."""
    if answers is None:
        return [title("requests").put("  reading …", DIM)]
    rows = [title("requests")]
    for label, parts in (
        ("finished", _finished(answers)),
        ("HTTP", _http(answers)),
        ("waiting", _waiting(answers)),
        ("prompts", _sizes(answers, "prompt_length")),
        ("answers", _sizes(answers, "answer_length")),
        ("asked", _asked(answers)),
        ("batch", _batch(answers)),
        ("preempted", _preempted(engine)),
        ("hits", _hits(answers)),
        ("prompt", _sources(answers)),
        ("cached in", _tiers(answers)),
        ("drafts", _speculation(answers)),
        ("LoRA", _lora(answers)),
        ("faults", _faults(answers)),
        ("GPUs", gpus(engine, answers)),
        ("headroom", _headroom(engine, answers)),
    ):
        if parts:
            rows += _wrapped(label, parts, width)
    return rows


def _wrapped(label: str, parts: Sequence[Row], width: int) -> list[Row]:
    """A name and what there is, in as many lines as it takes."""
    row = Row().put(f"  {label}", DIM).to(_LABEL + 3)
    rows = [row]
    for part in parts:
        if row.width > _LABEL + 3 and row.width + part.width > width:
            row = Row().to(_LABEL + 3)
            rows.append(row)
        row.extend(part).put("  ")
    return rows


def _part(word: str, value: str, *, alarm: bool = False, notice: bool = False) -> Row:
    style = CRITICAL if alarm else NOTICE if notice else PLAIN
    return Row().put(f"{word} " if word else "", DIM).value(value, style, 0, right=False)


def seldom(value: float | None) -> str:
    """What happens now and then: a minute where it is less than one in ten seconds."""
    if value is not None and 0 < value < 0.095:
        return f"{value * 60:.1f} /min" if value * 60 >= 0.05 else f"{value * 3600:.1f} /h"
    return rate(value, "/s")


def _rates(answers: Answers, id: str, label: str) -> dict[str, float]:
    """The newest of each series of a graph, by a label."""
    return {
        labels[label]: history.newest
        for labels, history in answers.histories.get(id, ())
        if label in labels and history.newest is not None
    }


def _finished(answers: Answers) -> list[Row]:
    found = _rates(answers, "finished_h", "finished_reason")
    if not found:
        return [Row().put(ABSENT)]
    order = sorted(found, key=lambda one: (_REASONS.index(one) if one in _REASONS else 9, one))
    return [
        _part(
            one,
            seldom(found[one]),
            alarm=one == "error" and found[one] > 0,
            notice=one == "abort" and found[one] > 0,
        )
        for one in order
        if found[one] or one in ("stop", "length", "abort", "error")
    ]


def _http(answers: Answers) -> list[Row]:
    found = _rates(answers, "http_h", "status")
    if not found:
        return []
    wanted = dict.fromkeys(("2xx", "4xx", "5xx"), 0.0) if all(one.endswith("xx") for one in found) else {}
    return [
        _part(one, seldom(value), alarm=one[0] == "5" and value > 0, notice=one[0] == "4" and value > 0)
        for one, value in sorted((wanted | found).items())
    ]


def _waiting(answers: Answers) -> list[Row]:
    found: dict[str, float] = {}
    for labels, _, value in answers.rows("facts", __name__="vllm:num_requests_waiting_by_reason"):
        reason = labels.get("reason", "")
        found[reason] = found.get(reason, 0.0) + value
    words = {"capacity": "for capacity", "deferred": "deferred"}
    return [_part(words.get(one, one), number(value), notice=value > 0) for one, value in sorted(found.items())]


def _sizes(answers: Answers, id: str) -> list[Row]:
    found = of(answers.rows(id))
    if found is None or found.mean is None:
        return []
    parts = [_part("mean", number(found.mean))]
    for word, q in (("p50", 0.5), ("p95", 0.95)):
        one = found.quantile(q)
        parts.append(_part(word, ABSENT if one is None else f"{one.bound} {number(one.value)}".strip()))
    parts[-1].put(" tokens", DIM)
    return parts


def _asked(answers: Answers) -> list[Row]:
    parts = []
    for one in SIZES:
        if one.id in ("max_tokens", "asked_n"):
            found = of(answers.rows(one.id))
            if found is not None and found.mean is not None:
                parts.append(_part(f"{one.title} mean", number(found.mean)))
    return parts


def _batch(answers: Answers) -> list[Row]:
    step = of(answers.rows("step"))
    if step is None:
        return []
    return [
        _part("", number(step.mean)).put(" tokens a step", DIM),
        _part("", number(step.total)).put(" steps a second", DIM),
    ]


def _preempted(engine: Engine) -> list[Row]:
    if engine.preempted_rate is None:
        return []
    parts = [_part("", seldom(engine.preempted_rate), notice=engine.preempted_rate > 0)]
    if engine.finished_rate and engine.preempted_rate:
        parts.append(_part("", f"{engine.preempted_rate / engine.finished_rate:.2f}").put(" a request", DIM))
    return parts


def _hits(answers: Answers) -> list[Row]:
    found = _rates(answers, "prefix_h", "q")
    return [
        _part(one, percent(found[one]) if one in found else ABSENT) for one in _CACHES if one in found or one == "local"
    ]


def _sources(answers: Answers) -> list[Row]:
    found = {labels.get("source", ""): value for labels, _, value in answers.rows("sources")}
    total = sum(found.values())
    if not total > 0:
        return []
    return [_part(_SOURCES.get(one, one), percent(value / total)) for one, value in sorted(found.items()) if value]


def _tiers(answers: Answers) -> list[Row]:
    """Where cached tokens came from, where that is not the GPU's own memory alone."""
    found = {labels.get("source", ""): value for labels, _, value in answers.rows("tiers") if value > 0}
    total = sum(found.values())
    if not found.keys() - {"device"}:
        return []
    words = {"device": "GPU", "p2p": "another server", "external_unspecified": "elsewhere"}
    return [_part(words.get(one, one), percent(value / total)) for one, value in sorted(found.items())]


def _speculation(answers: Answers) -> list[Row]:
    found = {labels.get("q", ""): value for labels, _, value in answers.rows("speculation")}
    drafted, drafts = found.get("drafted", 0.0), found.get("drafts", 0.0)
    if not (drafted > 0 and drafts > 0):
        return []
    accepted = found.get("accepted", 0.0)
    # Each draft gives the target model's own token, too.
    parts = [_part("accepted", percent(accepted / drafted)), _part("tokens a draft", f"{1 + accepted / drafts:.2f}")]
    places = sorted(
        (int(labels["position"]), value / drafts)
        for labels, _, value in answers.rows("positions")
        if is_whole(labels.get("position", ""))
    )
    if places:
        parts.append(_part("by position", " ".join(f"{share * 100:.0f}" for _, share in places) + " %"))
    return parts


def _lora(answers: Answers) -> list[Row]:
    """The newest of the series: each state of the adapters is a series of its own, whose value is its time."""
    rows = sorted(answers.rows("facts", __name__="vllm:lora_requests_info"), key=lambda row: row[2])
    if not rows:
        return []
    labels = rows[-1][0]
    parts = [_part("running", labels.get("running_lora_adapters") or "none")]
    if labels.get("waiting_lora_adapters"):
        parts.append(_part("waiting", labels["waiting_lora_adapters"], notice=True))
    return [*parts, _part("at most", labels.get("max_lora", ABSENT))]


def _faults(answers: Answers) -> list[Row]:
    found = {labels.get("q", ""): value for labels, _, value in answers.rows("faults")}
    parts = []
    if found.get("rejected"):
        parts.append(Row().put(f"{seldom(found['rejected'])} rejected, the queue is full", CRITICAL))
    for one, noun in _FAULTS.items():
        if (times := round(found.get(one, 0.0))) > 0:
            parts.append(Row().put(f"{count(times, noun)} in an hour", CRITICAL))
    if not parts and found:
        parts.append(Row().put("none in an hour, nothing rejected", DIM))
    return parts


def watts(value: float | None) -> str:
    """``412 W``, ``2.1 kW``."""
    if value is None:
        return ABSENT
    return f"{value:.0f} W" if value < 999.5 else f"{value / 1000:.1f} kW"


def gpus(engine: Engine, answers: Answers) -> list[Row]:
    """How busy the GPUs are that it runs on, in the mean, and what a token costs."""
    if not answers.rows("members"):
        return [Row().put("not known which it runs on", DIM)]
    found = _rates(answers, "profile_h", "q")
    parts = [_part(one, percent(found[one])) for one in ("tensor", "DRAM", "SM") if one in found]
    if not parts:
        parts = [Row().put("tensor and DRAM not measurable on this GPU", DIM)]
    power = _newest(answers, "power_h")
    parts.append(_part("power", watts(power)))
    generation = engine.generation_rate
    each = None if generation is None or not power else generation / power
    parts.append(_part("", ABSENT if each is None else f"{each:.2f} tok/J" if each < 10 else f"{each:.0f} tok/J"))
    return parts


def _newest(answers: Answers, id: str) -> float | None:
    history = answers.history(id)
    return None if history is None else history.newest


def _headroom(engine: Engine, answers: Answers) -> list[Row]:
    capacity = answers.value("facts", __name__="gpumon_probe_capacity_tokens_per_second")
    if not capacity:
        return [Row().put(ABSENT).put("  no probe has measured it", DIM)]
    load = engine.generation_rate
    if load is None:
        return [_part("can", f"{number(capacity)} tok/s")]
    used = load / capacity
    row = Row().put(percent(max(0.0, 1 - used)), WARNING if used > 0.9 else PLAIN)
    return [row, Row().put(f"{number(load)} of the {number(capacity)} tok/s that a probe measured", DIM)]
