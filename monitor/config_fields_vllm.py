"""The fields of ``gpumon.yaml`` that say which vLLM servers are watched, and what their latencies are to be.
``config_fields`` says how one is added."""

from __future__ import annotations

from monitor.field_kinds import Duration, Either, Field, Inside, ListOf, Section, Text, Truth
from monitor.shared_fields import CA_FILE, PATH, SECRET, SKIP_VERIFY

HTTP_SERVER = Text(
    pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+(/metrics)?/*$",
    told="an http or https URL that ends after the port, such as http://127.0.0.1:8000",
    bare=False,
)
SERVER = Section(
    "servers",
    "A server that is named.",
    (
        Field(
            "url",
            HTTP_SERVER,
            "scheme, host and port, such as `http://127.0.0.1:8000`",
            required=True,
            examples=("http://127.0.0.1:8000",),
        ),
        Field(
            "server",
            Text(),
            "the label `server`; never a loopback name",
            without="`<host>:<port>`",
            examples=("gpu-node-1:8000",),
        ),
        Field(
            "api_key",
            SECRET,
            "what vLLM was started with as `--api-key`",
            without="none",
            examples=({"file": "/etc/gpumon/vllm-key"},),
        ),
        Field(
            "gpus",
            ListOf(
                Text(
                    pattern=r"^([0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+)$",
                    told="the index of a GPU or its UUID, as nvidia-smi -L lists them",
                    whole=(0, 999),
                ),
                unique=True,
            ),
            "the GPUs of its engine, in the order of its ranks",
            without="seen by gpumon",
            examples=([0, 1],),
            type_said="list of indices or UUIDs",
        ),
        CA_FILE,
        SKIP_VERIFY,
        Field("log", Inside("log"), "where it logs, so that errors are counted and shown", without="none"),
        Field(
            "canary",
            Either((Truth(), Inside("canary"))),
            "whether one token is asked for where its engine stands still",
            default=False,
        ),
    ),
)

LOG = Section(
    "log",
    "Where a server logs: one of the two.",
    (
        Field("file", PATH, "the file that it logs to", examples=("/var/log/vllm.log",)),
        Field("unit", Text(filled=True), "the systemd unit whose journal has it", examples=("vllm.service",)),
    ),
    one_of=("file", "unit"),
)

CANARY = Section(
    "canary",
    "One token is asked for, only where the engine has made no step for a while: one that is busy proves itself alive, "
    "and pays nothing.",
    (
        Field("deadline", Duration(100, 300_000), "how long the token may take", default="10s", examples=("5s",)),
        Field(
            "still",
            Duration(5_000, 3_600_000),
            "how long the engine has to have made no step",
            default="30s",
            examples=("1m",),
        ),
        Field(
            "model",
            Text(),
            "the model to ask for",
            without="the first that the server names",
            examples=("Qwen/Qwen3-32B",),
        ),
    ),
    may_be_null=False,
)

TARGETS = Section(
    "targets",
    "What latencies are to stay under. A metric that is named has the targets that are named and no other, `{}` none.",
    (
        Field("ttft", Inside("percentiles"), "time to first token", default={"p95": "2s", "p99": "5s"}),
        Field("itl", Inside("percentiles"), "time between two tokens", default={"p50": "50ms", "p99": "100ms"}),
        Field(
            "e2e",
            Inside("percentiles"),
            "time from a request to its last token; the terminal alone shows it, no shipped rule asks for it",
            without="none",
            examples=({"p95": "30s"},),
        ),
    ),
)

_TARGET = Duration(1, 3_600_000)
PERCENTILES = Section(
    "percentiles",
    "A latency that a percentile is to stay under.",
    tuple(
        Field(f"p{number}", _TARGET, f"what {said} of 100 are to stay under", without="none")
        for number, said in ((50, "50"), (95, "95"), (99, "99"))
    ),
)

SECTIONS = (SERVER, LOG, CANARY, TARGETS, PERCENTILES)
