"""What a probe is asked to be, what it says while it runs, and what comes of it: the types that its process, the
daemon, the command line and the screens share.

Only data: no I/O, and nothing but msgspec and the standard library. Times of the world are ``…_ms`` (milliseconds since
1970), durations are ``…_s`` (seconds) or, in ``Latency``, milliseconds, as ``vllm bench serve`` has them. What was not
measured is None, never 0.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

VERSION = 1
"""Of ``Result``; raised when a field changes its meaning."""

WorkloadName: TypeAlias = Literal["latency", "throughput", "lengths", "prefix", "rate", "priority", "soak", "suite"]
WORKLOADS: tuple[WorkloadName, ...] = (
    "latency", "throughput", "lengths", "prefix", "rate", "priority", "soak", "suite",
)  # fmt: skip

RunState: TypeAlias = Literal["starting", "running", "done", "cancelled", "failed", "busy", "refused", "lost"]
"""``cancelled``: by a person, with what it had until then. ``failed``: the server or the probe could not go on; what it
had until then is kept. ``busy``: it sent nothing, since the server has other work and ``Spec.yes`` was not given.
``refused``: it sent nothing, since this cannot be asked of this server. ``lost``: its process ended without a word."""

ENDED: tuple[RunState, ...] = ("done", "cancelled", "failed", "busy", "refused", "lost")

Outcome: TypeAlias = Literal[
    "ok", "hung_up", "cancelled", "refused", "http", "shed", "broken", "stalled", "late", "empty", "malformed"
]
"""What came of a request. ``hung_up``: we did, on purpose, as the workload says; ``cancelled``: the run ended first;
``refused``: no connection; ``http``: a status that is not 200; ``shed``: 429 or 503; ``broken``: the connection ended
in the middle; ``stalled``: no byte for too long; ``late``: not done within the request's limit; ``empty``: it ended
without a token; ``malformed``: an event that is no JSON, or an error in the stream. All but the first three are
failures."""

FAILURES: tuple[Outcome, ...] = ("refused", "http", "shed", "broken", "stalled", "late", "empty", "malformed")

Metric: TypeAlias = Literal["ttft", "tpot", "itl", "e2el"]
METRICS: tuple[Metric, ...] = ("ttft", "tpot", "itl", "e2el")


# -- what is asked --------------------------------------------------------------------------------------------------


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A target: ``metric`` is to be at most ``limit_ms`` at ``percentile``, which is 50 to 100 (100: every request)."""

    metric: Metric
    limit_ms: float
    percentile: float = 99.0


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is asked to be. ``options`` are the workload's own, typed by it (``monitor.probes.workloads``)."""

    workload: WorkloadName
    url: str
    """The server's address, without a path: ``http://127.0.0.1:8000``."""
    server: str = ""
    """Its label on this node, ``host:port``; "" for what the URL says."""
    model: str = ""
    """"" for the server's first."""
    name: str = ""
    """What the result is kept as; "" for the workload's name."""
    options: dict[str, Any] = {}
    slos: tuple[Slo, ...] = ()
    repeats: int | None = None
    """How often each step is measured; None for the workload's own habit."""
    max_seconds: float | None = None
    """After so long it ends by itself, with what it has; None for the workload's own limit."""
    seed: int | None = None
    """Of prompts and arrivals; None for another one each time. What it was is in the result."""
    request_timeout_s: float = 600.0
    stall_s: float = 60.0
    """A stream without a byte for so long is given up."""
    endpoint: Literal["completions", "chat"] = "completions"
    yes: bool = False
    """Load the server even if it has other work."""
    gpus: tuple[str, ...] = ()
    """UUIDs or indices of the server's GPUs; () for those that the daemon knows of, or all."""
    price_per_hour: float | None = None
    """What the server's GPUs cost together, in ``currency``."""
    currency: str = "$"
    profile: bool = False
    """Have the server's torch profiler run with it."""
    profile_seconds: float = 30.0
    """The profiler is stopped after so long at the latest."""
    accuracy: bool = False
    """Ask for the perplexity of a fixed text too."""
    labels: dict[str, str] = {}
    """Kept with the result: ``{"quantization": "fp8"}``."""
    simulated: bool = False
    """Against a simulated server, which the run starts for itself; ``url`` is not asked."""


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lets one in. Never stored, never shown, never an argument of a process."""

    api_key: str | None = None
    headers: dict[str, str] = {}
    ca_file: str | None = None
    insecure_skip_verify: bool = False


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line on the standard input of a run's process. The lines after it are commands: ``cancel``. Its end is
    one too: whoever started the run is gone."""

    spec: Spec
    id: str
    """Also the name of its folder: ``20261121-213000-throughput``."""
    folder: str
    """Where results go; it is made by the run."""
    secrets: Secrets = Secrets()
    socket: str = ""
    """The daemon's unix socket, to read GPUs, host and server from; "" where there is none."""


# -- one request ----------------------------------------------------------------------------------------------------


class Record(msgspec.Struct):
    """One request. Times are of ``time.perf_counter``; ``start_s`` counts from the beginning of its step."""

    start_s: float
    """Just before the POST."""
    outcome: Outcome = "ok"
    error: str = ""
    """One line: ``HTTP 500: …``."""
    status: int | None = None
    ttft_s: float | None = None
    """POST to the first chunk with ``choices`` (chat: the first with content, reasoning or tool calls)."""
    e2el_s: float | None = None
    """POST to the last chunk with a token; not the one with usage, not [DONE]."""
    itl_s: list[float] = []
    """Gaps between chunks, without the first: one less than chunks."""
    prompt_tokens: int | None = None
    """By ``usage``; else what was sent."""
    output_tokens: int | None = None
    """By ``usage.completion_tokens``; else the number of chunks."""
    cached_tokens: int | None = None
    """By ``usage.prompt_tokens_details``, where the server gives it."""
    waited_s: float = 0.0
    """For a free place under the concurrency limit, after the moment at which it was due."""
    ended_s: float | None = None
    """When it was over and its place free, from the beginning of its step: after usage and [DONE], or as it failed."""
    group: str = ""
    """What sort of request it is in this workload: ``priority 1``, ``warm``, ``cold``."""
    text: str = ""
    """What the server wrote, where the workload asked to keep it."""


# -- numbers --------------------------------------------------------------------------------------------------------


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds, over ``n`` values; linear percentiles, as numpy's. All None where n is 0."""

    n: int = 0
    mean: float | None = None
    median: float | None = None
    std: float | None = None
    """Of the population, as ``numpy.std``."""
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    min: float | None = None
    max: float | None = None


class Metrics(msgspec.Struct, frozen=True):
    """What ``vllm bench serve`` prints of a run, with its meanings. Failures count in none of the latencies."""

    duration_s: float
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    request_throughput: float
    """Completed per second."""
    output_throughput: float
    """Tokens generated per second."""
    total_throughput: float
    """Tokens per second, prompts with it."""
    ttft: Latency = Latency()
    tpot: Latency = Latency()
    itl: Latency = Latency()
    e2el: Latency = Latency()
    goodput: float | None = None
    """Requests per second that met every target; None where there is none."""
    slo_met: bool | None = None
    """Whether every target is met at its percentile; None where there is none."""
    max_concurrent: int = 0
    max_output_per_s: float | None = None
    """Chunks in the best second, as vLLM counts it."""
    cached_tokens: int | None = None
    """Of all prompts; None where the server does not say."""
    failures: dict[str, int] = {}
    """By outcome; those that were ``hung_up`` or ``cancelled`` stand here too, and are no failures."""
    errors: dict[str, int] = {}
    """The commonest texts, ten at most."""


class GpuReading(msgspec.Struct, frozen=True):
    """One GPU during one step."""

    gpu: str
    uuid: str = ""
    name: str = ""
    samples: int = 0
    interval_s: float | None = None
    """Between samples of utilization, power and clocks."""
    util: float | None = None
    """Mean, 0–1."""
    idle_share: float | None = None
    """Of the samples, those in which nothing ran: 0–1."""
    tensor_active: float | None = None
    """By GPM, mean, 0–1."""
    dram_active: float | None = None
    sm_active: float | None = None
    power_w: float | None = None
    power_max_w: float | None = None
    energy_j: float | None = None
    """By the energy counter where there is one, else power × time."""
    sm_clock_mhz: float | None = None
    sm_clock_min_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    """What the GPU can."""
    memory_used_bytes: float | None = None
    """The most."""
    memory_total_bytes: float | None = None
    temperature_c: float | None = None
    """The highest."""
    throttled: dict[str, float] = {}
    """Share of the samples by reason, as ``power cap``, ``thermal``; reasons that are no fault are not here."""


class ServerReading(msgspec.Struct, frozen=True):
    """The server by its own ``/metrics`` during one step: gauges each second, counters from end to end."""

    running: float | None = None
    running_max: float | None = None
    waiting: float | None = None
    waiting_max: float | None = None
    kv_usage: float | None = None
    kv_usage_max: float | None = None
    """0–1."""
    preemptions: float | None = None
    steps: float | None = None
    tokens_per_step: float | None = None
    batch: float | None = None
    """Sequences in a step, mean: generated tokens by steps, where it is known."""
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    requests: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    other_tokens: float | None = None
    """Generated for others than this probe."""
    other_requests: float | None = None
    queue_s: float | None = None
    """Mean, by the server's own histogram; so are the next two."""
    prefill_s: float | None = None
    decode_s: float | None = None
    restarted: bool = False
    flops_per_s: float | None = None
    """Of each GPU, as the server itself estimates it (``--enable-mfu-metrics``); None where it does not."""
    memory_bytes_per_s: float | None = None
    """Read and written by each GPU, in the same way."""


class HostReading(msgspec.Struct, frozen=True):
    """The machine that the probe runs on, and the probe's own process."""

    cpu: float | None = None
    """Of all cores, 0–1; so is the highest second."""
    cpu_max: float | None = None
    client_cpu: float | None = None
    """Cores that the probe itself took: 1.0 is its limit."""
    loop_lag_ms: float | None = None
    """How late the probe's own timers were: p99."""
    loop_lag_max_ms: float | None = None
    network_bytes_per_s: float | None = None
    """Over all links but loopback, in the direction that has more."""
    link_bytes_per_s: float | None = None
    """What the fastest of these links can, as the machine says; None where it does not."""


class Readings(msgspec.Struct, frozen=True):
    """What was read while a step ran."""

    gpus: tuple[GpuReading, ...] = ()
    server: ServerReading | None = None
    host: HostReading | None = None
    notes: tuple[str, ...] = ()
    """What could not be had, and why: ``tensor activity is not measurable: no GPM on this GPU``."""


class Window(msgspec.Struct, frozen=True):
    """A part of a step, in seconds from its beginning, in which the load was steady."""

    begin_s: float
    end_s: float
    metrics: Metrics
    long_enough: bool
    """At least 10 s and a tenth of the step."""


class Step(msgspec.Struct, frozen=True):
    """One load, measured: a concurrency, a pair of lengths, a share of prefix."""

    workload: WorkloadName
    name: str
    """``concurrency 8``, ``1000 in, 50 out``: unique within its workload and repeat."""
    parameters: dict[str, float | int | str]
    """``{"concurrency": 8}``, ``{"input_len": 1000, "output_len": 50}``."""
    began_ms: int
    ended_ms: int
    metrics: Metrics
    repeat: int = 0
    steady: Window | None = None
    readings: Readings = Readings()
    groups: dict[str, Metrics] = {}
    """By ``Record.group``, where there are several."""
    invalid: tuple[str, ...] = ()
    """Why it does not count: ``cached tokens: 512``."""
    records: tuple[Record, ...] | None = None
    """Only in files; what is sent to screens has none."""


Level: TypeAlias = Literal["good", "info", "warning", "bad"]


class Finding(msgspec.Struct, frozen=True):
    """One answer of the report, in a sentence."""

    topic: Literal[
        "knee", "target", "limit", "idle", "doubling", "energy", "cost", "prefix", "priority", "drift", "disturbed",
        "trust", "memory", "failures", "accuracy", "saturated",
    ]  # fmt: skip
    level: Level
    text: str
    """As it stands in the report."""
    values: dict[str, float | int | str] = {}
    """The numbers in it, for programs."""


class Facts(msgspec.Struct, frozen=True):
    """What the server and the node are."""

    server: str = ""
    url: str = ""
    model: str = ""
    server_version: str = ""
    """``vLLM 0.32.0``, where it says."""
    max_model_len: int | None = None
    vocabulary: int | None = None
    block_size: int | None = None
    kv_cache_tokens: int | None = None
    cache_config: dict[str, str] = {}
    """The labels of ``vllm:cache_config_info``."""
    prefix_caching: bool | None = None
    usage_details: bool | None = None
    """Whether usage says what was cached."""
    weights_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    """Their names."""
    driver: str = ""
    hostname: str = ""
    gpumon: str = ""
    simulated: bool = False


class Accuracy(msgspec.Struct, frozen=True):
    """Perplexity of the text that gpumon carries, by ``prompt_logprobs``."""

    perplexity: float | None = None
    tokens: int = 0
    token_logprobs: tuple[float, ...] = ()
    text_id: str = ""
    why_not: str = ""


class Result(msgspec.Struct, frozen=True):
    """All that came of a run; ``baseline_metrics.json`` holds it under ``gpumon``."""

    id: str
    workload: WorkloadName
    state: RunState
    began_ms: int
    ended_ms: int
    spec: Spec
    facts: Facts = Facts()
    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    headline: dict[str, float] = {}
    """The figures that a list shows and that a baseline is compared by: ``ttft_p99_ms``, ``output_throughput``, …"""
    error: str = ""
    """Why it is not ``done``."""
    invalid: tuple[str, ...] = ()
    """Why it does not count, gathered from the steps."""
    accuracy: Accuracy | None = None
    traces: tuple[str, ...] = ()
    """Where torch profiles are, as far as the server says."""
    notes: tuple[Note, ...] = ()
    """What was said while it ran."""
    seed: int = 0
    version: int = VERSION


class Change(msgspec.Struct, frozen=True):
    """One figure of one step, before and after."""

    workload: str
    step: str
    """"" for a figure of the whole run."""
    figure: str
    """``ttft_p99``, ``output_throughput``, ``memory_used_bytes``, ``perplexity``, …"""
    unit: str
    """``ms``, ``tok/s``, ``J/tok``, ``B``, ``"``, ``""``."""
    better: Literal["lower", "higher", ""]
    before: float | None
    after: float | None
    change: float | None = None
    """(after - before) / before."""
    low: float | None = None
    """The interval of ``change`` that holds with 95 %; None where it cannot be had."""
    high: float | None = None
    verdict: Literal["better", "worse", "noise", "unknown", "missing"] = "unknown"
    """``noise``: the interval holds 0; ``unknown``: there is no interval; ``missing``: one side has it alone."""
    n_before: int = 0
    n_after: int = 0


class Comparison(msgspec.Struct, frozen=True):
    """Two results beside each other."""

    before: str
    """Their names, as they are shown."""
    after: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    """What makes them unlike: another model, another GPU, one that is not valid."""
    differences: dict[str, tuple[str, str]] = {}
    """What is different of what was asked, and of server and node, by name: before, after."""


# -- what a run says while it runs ----------------------------------------------------------------------------------


class Live(msgspec.Struct, frozen=True):
    """The last second or two."""

    running: int = 0
    """Requests in flight, ours."""
    completed: int = 0
    failed: int = 0
    output_per_s: float | None = None
    ttft_ms: float | None = None
    """Median of those that came."""
    itl_ms: float | None = None
    kv_usage: float | None = None
    waiting: float | None = None
    gpu_util: float | None = None
    power_w: float | None = None


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Where it is; about twice a second."""

    at_ms: int
    phase: Literal["preparing", "warming up", "measuring", "pausing", "writing"]
    step: str = ""
    step_index: int = 0
    """0 for the first."""
    steps: int | None = None
    """All, where it is known before."""
    fraction: float | None = None
    """Of the whole run, 0–1."""
    seconds_left: float | None = None
    live: Live = Live()


class StepDone(msgspec.Struct, frozen=True, tag="step"):
    """A step was measured. ``step.records`` is None."""

    step: Step


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Something worth a line."""

    at_ms: int
    text: str
    level: Level = "info"


class Known(msgspec.Struct, frozen=True, tag="facts"):
    """What the server is, once it is known."""

    facts: Facts


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The last line. ``result`` has no records; it is in the folder, with all files, where ``folder`` says so."""

    result: Result
    files: tuple[str, ...] = ()


Message: TypeAlias = Progress | StepDone | Note | Known | Done
"""A line of JSON each on the standard output of the run's process."""


# -- what the daemon tells of runs ----------------------------------------------------------------------------------


class RunRow(msgspec.Struct, frozen=True):
    """A run in the list, those that were kept too."""

    id: str
    name: str
    workload: WorkloadName
    server: str
    model: str
    state: RunState
    began_ms: int
    ended_ms: int | None = None
    error: str = ""
    headline: dict[str, float] = {}
    valid: bool = True
    baseline: str = ""
    """The name under which it is a baseline; "" for none."""
    labels: dict[str, str] = {}
    progress: Progress | None = None
    by: str = ""
    """Who began it, as far as it is known."""


class RunDetail(msgspec.Struct, frozen=True):
    """One run: all but its records."""

    row: RunRow
    spec: Spec
    facts: Facts = Facts()
    steps: tuple[Step, ...] = ()
    notes: tuple[Note, ...] = ()
    findings: tuple[Finding, ...] = ()
    invalid: tuple[str, ...] = ()
    accuracy: Accuracy | None = None
    files: tuple[str, ...] = ()
    folder: str = ""
    """Where they are, on the machine of the daemon."""
