"""A step in the JSON of ``vllm bench serve --save-result --save-detailed``, and such JSON as a step.

Names and units are vLLM's (``vllm/benchmarks/serve.py``): throughput in tokens or requests per second, ``…_ms`` in
milliseconds, ``ttfts``, ``itls``, ``latencies`` and ``start_times`` in seconds, one item for each request that was
sent, 0 or [] for one that failed, whose text is in ``errors``. What was not measured is null here, where vLLM writes 0.

Files of any version are read: where an older one lacks a key, it follows from the others, or is None.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from monitor.probes import statistics
from monitor.probes.figures import concurrency, number
from monitor.probes.json_place import Text
from monitor.probes.schema import METRICS, Facts, Latency, Metrics, Outcome, Record, Result, Spec, Step, WorkloadName

_FIELDS = {"mean": "mean", "median": "median", "std": "std", "p90": "p90", "p95": "p95", "p99": "p99"}
_DIGITS = 7


def to_bench(step: Step, result: Result) -> dict[str, Any]:
    """The step as ``vllm bench serve`` would have written it; without the lists where it has no records."""
    made = step.metrics
    spec, facts = result.spec, result.facts
    rate = number(step, "rate", "request_rate")
    backend = "openai-chat" if spec.endpoint == "chat" else "vllm"
    places = concurrency(step)
    bench: dict[str, Any] = {
        "date": time.strftime("%Y%m%d-%H%M%S", time.localtime(step.ended_ms / 1000)),
        "endpoint_type": backend,
        "backend": backend,
        "label": spec.name or step.workload,
        "model_id": facts.model or spec.model,
        "tokenizer_id": facts.model or spec.model,
        "num_prompts": made.completed + sum(made.failures.values()),
        "request_rate": "inf" if rate is None else rate,
        "burstiness": number(step, "burstiness") or 1.0,
        "max_concurrency": None if places is None else int(places),
        "duration": made.duration_s,
        "completed": made.completed,
        "failed": made.failed,
        "total_input_tokens": made.input_tokens,
        "total_output_tokens": made.output_tokens,
        "request_throughput": made.request_throughput,
        "request_goodput": made.goodput,
        "output_throughput": made.output_throughput,
        "total_token_throughput": made.total_throughput,
    }
    if step.records is not None:
        bench |= _lists(step.records)
    bench |= {
        "max_output_tokens_per_s": made.max_output_per_s,
        "max_concurrent_requests": made.max_concurrent,
        "rtfx": 0.0,
    }
    for metric in METRICS:
        one: Latency = getattr(made, metric)
        bench |= {f"{name}_{metric}_ms": getattr(one, field) for name, field in _FIELDS.items()}
    return bench


def _lists(records: Sequence[Record]) -> dict[str, list[Any]]:
    good = [one.outcome == "ok" for one in records]
    return {
        "input_lens": [one.prompt_tokens or 0 for one in records],
        "output_lens": [(one.output_tokens or 0) if ok else 0 for one, ok in zip(records, good, strict=True)],
        "ttfts": [_seconds(one.ttft_s) for one in records],
        "itls": [[round(gap, _DIGITS) for gap in one.itl_s] for one in records],
        "latencies": [_seconds(one.e2el_s) for one in records],
        "start_times": [_seconds(one.start_s) for one in records],
        "queue_times": [_seconds(one.waited_s) for one in records],
        "generated_texts": [one.text for one in records],
        "errors": ["" if ok else one.error or one.outcome for one, ok in zip(records, good, strict=True)],
    }


def _seconds(value: float | None) -> float:
    return 0.0 if value is None else round(value, _DIGITS)


# -- the other way --------------------------------------------------------------------------------------------------


def is_bench(value: object) -> bool:
    """Whether it looks like what ``vllm bench serve`` writes."""
    return isinstance(value, dict) and "duration" in value and "completed" in value


def from_bench(text: Text, values: Sequence[tuple[int, dict[str, Any]]]) -> Result:
    """One result of all that stands in a file: a step each, repeats where several asked the same.

    Raises ``BadFile``.
    """
    steps: list[Step] = []
    for offset, value in values:
        one = _Bench(text, offset, value).step()
        repeat = sum(before.name == one.name for before in steps)
        steps.append(msgspec.structs.replace(one, repeat=repeat))
    first = values[0][1]
    model = str(first.get("model_id") or "")
    workload: WorkloadName = "rate" if all(step.workload == "rate" for step in steps) else "throughput"
    known = {"endpoint_type", "backend", "label", "tokenizer_id"}
    labels = {name: str(first[name]) for name in sorted(known) if first.get(name)}
    chat = "chat" in str(first.get("backend") or first.get("endpoint_type") or "")
    return Result(
        id=text.path.stem,
        workload=workload,
        state="done",
        began_ms=min(step.began_ms for step in steps),
        ended_ms=max(step.ended_ms for step in steps),
        spec=Spec(
            workload=workload,
            url="",
            model=model,
            name=text.path.stem,
            labels=labels,
            endpoint="chat" if chat else "completions",
        ),
        facts=Facts(model=model),
        steps=tuple(steps),
    )


class _Bench:
    """One object of such a file."""

    def __init__(self, text: Text, offset: int, value: dict[str, Any]) -> None:
        self.text = text
        self.offset = offset
        self.value = value

    def number(self, *names: str) -> float | None:
        """The first that is there, under one of its names over the years. Raises ``BadFile`` for what is no number."""
        for name in names:
            value = self.value.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                self.bad(name, f"{name!r} is to be a number, and is {_short(value)}")
            if not math.isfinite(value):
                return None
            return float(value)
        return None

    def bad(self, name: str, words: str) -> None:
        raise self.text.bad(self.text.place(self.offset, f".{name}"), words)

    def needed(self, *names: str) -> float:
        value = self.number(*names)
        if value is None:
            raise self.text.bad(
                self.offset,
                f"there is no {names[0]!r}: is it from `vllm bench serve`, and of a model that writes text?",
            )
        return value

    def list_of(self, name: str, length: int | None = None) -> list[Any] | None:
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            self.bad(name, f"{name!r} is to be a list, and is {_short(value)}")
        if length is not None and len(value) != length:
            self.bad(
                name, f"{name!r} has {len(value)} items, and 'ttfts' has {length}: each is to have one per request"
            )
        return list(value)

    def step(self) -> Step:
        duration = self.needed("duration")
        completed = int(self.needed("completed"))
        output = self.needed("output_throughput")
        records = self.records()
        own = statistics.metrics(records, duration) if records is not None and duration > 0 else None
        sent = self.number("num_prompts")
        failed = self.number("failed")
        if failed is None:
            failed = max(0.0, sent - completed) if sent is not None else 0.0
        tokens = self.number("total_output_tokens", "total_output")
        prompts = self.number("total_input_tokens", "total_input")
        total = self.number("total_token_throughput")
        made = Metrics(
            duration_s=duration,
            completed=completed,
            failed=int(failed),
            input_tokens=int(prompts or 0),
            output_tokens=int(tokens if tokens is not None else output * duration),
            request_throughput=self.number("request_throughput") or (completed / duration if duration else 0.0),
            output_throughput=output,
            total_throughput=total if total is not None else output + ((prompts or 0) / duration if duration else 0.0),
            goodput=self.number("request_goodput", "request_goodput:"),
            max_concurrent=int(self.number("max_concurrent_requests") or (own.max_concurrent if own else 0)),
            max_output_per_s=self.number("max_output_tokens_per_s") or (own.max_output_per_s if own else None),
            failures=own.failures if own else {},
            errors=own.errors if own else {},
            ttft=self.latency("ttft", own.ttft if own else None),
            tpot=self.latency("tpot", own.tpot if own else None),
            itl=self.latency("itl", own.itl if own else None),
            e2el=self.latency("e2el", own.e2el if own else None),
        )
        ended = self.ended_ms()
        workload, name, parameters = self.load(made)
        places = parameters.get("concurrency")
        steady = None
        if (
            records is not None
            and workload == "throughput"
            and isinstance(places, int)
            and self.value.get("start_times")
        ):
            steady = statistics.steady(records, places, duration)
        return Step(
            workload=workload,
            name=name,
            parameters=parameters,
            began_ms=ended - int(duration * 1000),
            ended_ms=ended,
            metrics=made,
            steady=steady,
            records=tuple(records) if records is not None else None,
        )

    def latency(self, metric: str, own: Latency | None) -> Latency:
        """What the file says, and what follows from its lists where it says nothing."""
        told = {field: self.number(f"{name}_{metric}_ms") for name, field in _FIELDS.items()}
        if told["median"] is None:
            told["median"] = self.number(f"p50_{metric}_ms")
        base = own or Latency()
        completed = int(self.needed("completed"))
        if completed == 0:
            return Latency()
        named = any(value is not None for value in told.values())
        count = base.n or (completed if named and metric != "itl" else 0)
        fields = {name: value if value is not None else getattr(base, name) for name, value in told.items()}
        return Latency(n=count, min=base.min, max=base.max, **fields)

    def records(self) -> list[Record] | None:
        """The requests one by one, where they were kept (``--save-detailed``)."""
        ttfts = self.list_of("ttfts")
        if ttfts is None:
            return None
        count = len(ttfts)
        zeros = [0.0] * count
        columns = {
            "itls": self.list_of("itls", count) or [[] for _ in ttfts],
            "input_lens": self.list_of("input_lens", count) or [None] * count,
            "output_lens": self.list_of("output_lens", count),
            "latencies": self.list_of("latencies", count),
            "start_times": self.list_of("start_times", count) or zeros,
            "queue_times": self.list_of("queue_times", count) or zeros,
            "errors": self.list_of("errors", count) or [""] * count,
        }
        begin = min((value for value in columns["start_times"] or [] if isinstance(value, float)), default=0.0)
        records = []
        for index, ttft in enumerate(ttfts):
            row = {name: column[index] if column is not None else None for name, column in columns.items()}
            try:
                records.append(_record(float(ttft), row, begin))
            except (TypeError, ValueError):
                raise self.text.bad(
                    self.text.place(self.offset, f".ttfts[{index}]"),
                    f"request {index} is not as `vllm bench serve` writes one: "
                    f"ttft {_short(ttft)}, {', '.join(f'{name} {_short(value)}' for name, value in row.items())}",
                ) from None
        return records

    def ended_ms(self) -> int:
        """``date`` is the local time at which it was written; 0 where there is none."""
        told = self.value.get("date")
        if told is None:
            return 0
        try:
            return int(time.mktime(time.strptime(str(told), "%Y%m%d-%H%M%S")) * 1000)
        except (ValueError, OverflowError):
            self.bad("date", f"'date' is to be as 20261121-213000, and is {_short(told)}")
            raise

    def load(self, made: Metrics) -> tuple[WorkloadName, str, dict[str, float | int | str]]:
        """What was asked: a concurrency, a rate, or all at once."""
        parameters: dict[str, float | int | str] = {}
        rate = self.value.get("request_rate")
        places = self.number("max_concurrency")
        workload: WorkloadName = "throughput"
        name = "all at once"
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and math.isfinite(rate):
            workload, name = "rate", f"{rate:g}/s"
            parameters["rate"] = float(rate)
            burstiness = self.number("burstiness")
            if burstiness is not None:
                parameters["burstiness"] = burstiness
        elif places is not None:
            name = f"concurrency {places:g}"
        if places is not None:
            parameters["concurrency"] = int(places)
        if made.completed:
            parameters["input_len"] = round(made.input_tokens / made.completed)
            parameters["output_len"] = round(made.output_tokens / made.completed)
        return workload, name, parameters


def _record(ttft: float, row: dict[str, Any], begin: float) -> Record:
    itl = [float(gap) for gap in row["itls"]]
    error = str(row["errors"] or "").strip()
    tokens = row["output_lens"]
    good = not error and (bool(tokens) if tokens is not None else ttft > 0)
    latency = row["latencies"]
    whole = float(latency) if latency else ttft + math.fsum(itl)
    return Record(
        start_s=float(row["start_times"] or 0.0) - begin,
        outcome="ok" if good else _outcome(error),
        error=error.splitlines()[-1].strip()[:300] if error else "",
        ttft_s=ttft if good or ttft > 0 else None,
        e2el_s=whole if good or whole > 0 else None,
        itl_s=itl,
        prompt_tokens=None if row["input_lens"] is None else int(row["input_lens"]),
        output_tokens=(int(tokens) if tokens is not None else len(itl) + 1) if good else None,
        waited_s=float(row["queue_times"] or 0.0),
    )


def _outcome(error: str) -> Outcome:
    """vLLM keeps the reason of a status, or a whole traceback."""
    last = error.splitlines()[-1] if error else ""
    if "Never received a valid chunk" in error:
        return "empty"
    if "Too Many Requests" in last or "Service Unavailable" in last:
        return "shed"
    if not error.startswith("Traceback"):
        return "http"
    if "Connect" in last and "Disconnected" not in last:
        return "refused"
    return "late" if "Timeout" in last else "broken"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
