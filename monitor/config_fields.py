"""Every field of ``gpumon.yaml``: name, type, default, limits and meaning, once. What follows from it: the names and
limits that the readers take (``config*.py``), the tables of docs/configuration.md, `gpumon config reference`, and
schemas/gpumon.schema.json.

To add a field:

1. Add a ``Field`` to its ``Section``, here or in one of the modules ``config_fields_*``.
   ``monitor.field_kinds`` says what a value may be. ``default`` is the value as one would write it, ``examples`` are
   good values other than it.
2. Read it where its section is read. Names come from ``SECTION.names``, limits from ``SECTION.limits("field")``.
3. `python -m tests.write_reference` writes the tables and the schemas again.

For a new section also name it in ``GPUMON_YAML`` below, give docs/configuration.md a heading with the marks
``<!-- fields: KEY -->`` and ``<!-- end -->`` under it, and let a field hold it: ``Inside("KEY")``, or ``ListOf`` and
``OneOrMore`` of that. tests/test_config_fields.py then tries the field's default, its limits and its examples on the
reader, and tests/test_config_schema.py holds reader and schema against each other.
"""

from __future__ import annotations

from monitor import config_fields_reports as reports
from monitor import config_fields_routes as routes
from monitor import config_fields_told as told
from monitor import config_fields_vllm as vllm
from monitor.config_values import DEFAULT_PORT, SYSTEM_SOCKET, SYSTEM_STATE
from monitor.field_kinds import (
    YEAR_MS,
    Duration,
    Either,
    Field,
    Inside,
    ListOf,
    OneOrMore,
    Section,
    Size,
    Text,
    Truth,
    Whole,
    book,
)
from monitor.shared_fields import PATH, SECRET, WEB_SECRET

_INTERVAL = Duration(100, 3_600_000)
_DEADLINE = Duration(100, 60_000)
_KEPT = Size(16 << 20)


def _polling(key: str, about: str, watched: str, read: str, interval: str, *others: Field) -> Section:
    return Section(
        key,
        about,
        (
            Field("enabled", Truth(), f"whether {watched}", default=True),
            Field("interval", _INTERVAL, f"how often {read} is read", default=interval, examples=("5s",)),
            Field("deadline", _DEADLINE, "after how long a reading is given up", default="2s", examples=("5s",)),
            *others,
        ),
    )


TOP = Section(
    "gpumon.yaml",
    "How this node is watched, and who is told.",
    (
        Field("node", Inside("node"), "how this node is called"),
        Field(
            "state_directory",
            PATH,
            "where alerts, silences and what is still to be sent are kept over a restart; not taken over by a reload",
            default=str(SYSTEM_STATE),
            examples=("/srv/gpumon",),
        ),
        Field("history", Inside("history"), "what is kept on disk beyond the last hour"),
        Field("probes", Inside("probes"), "which results of load tests are kept"),
        Field("api", Inside("api"), "where the daemon answers"),
        Field("sources", Inside("sources"), "what is watched"),
        Field("alerting", Inside("alerting"), "rules, and where else alerts go"),
        Field("receivers", ListOf(Inside("receivers")), "who is told", without="none"),
        Field(
            "route",
            Inside("route"),
            "which alert goes to whom",
            without="the one receiver; with several, *required*",
        ),
        Field(
            "inhibit_rules",
            ListOf(Inside("inhibit_rules")),
            "which alerts keep others quiet",
            without="gpumon's own",
        ),
        Field(
            "time_intervals",
            ListOf(Inside("time_intervals")),
            "times in which routes are mute",
            without="none",
        ),
        Field(
            "mute_time_intervals",
            ListOf(Inside("time_intervals")),
            "the older name of the same; both may stand here",
            without="none",
        ),
        Field("reports", ListOf(Inside("reports")), "what is told of a day or a week, and to whom", without="none"),
        Field(
            "heartbeat",
            OneOrMore(WEB_SECRET),
            "URLs that get a GET once a minute while all is well here: what is watched is read, rules are evaluated, "
            "alerts are recorded. Whoever has the URL tells you when the calls end",
            without="none",
            examples=({"file": "/etc/gpumon/heartbeat-url"},),
        ),
    ),
    also={
        "if": {"required": ["receivers"], "properties": {"receivers": {"type": "array", "minItems": 2}}},
        "then": {"required": ["route"]},
    },
)

NODE = Section(
    "node",
    "How this node is called. Not taken over by a reload.",
    (
        Field(
            "hostname",
            Text(),
            "stands in messages, and in `server` labels in place of a loopback name",
            without="the machine's",
            examples=("gpu-node-1",),
        ),
        Field("job", Text(), "the label `job` of every series", default="gpumon", examples=("gpus",)),
        Field(
            "instance",
            Text(),
            "the label `instance` of every series",
            without=f"`<hostname>:{DEFAULT_PORT}`",
            examples=(f"gpu-node-1:{DEFAULT_PORT}",),
        ),
    ),
)

HISTORY = Section(
    "history",
    "Readings beyond the last hour, in `history.sqlite` in the state directory. Not taken over by a reload.",
    (
        Field(
            "enabled",
            Truth(),
            "whether anything is kept; without it there is the last hour, and a restart forgets it",
            default=True,
        ),
        Field(
            "retention", Duration(3_600_000, 10 * YEAR_MS), "what is older is deleted", default="7d", examples=("30d",)
        ),
        Field(
            "max_size",
            _KEPT,
            "where the file would be larger, the oldest is deleted",
            default="2GiB",
            examples=("500MB", "10GiB"),
        ),
    ),
)

PROBES = Section(
    "probes",
    "Results of `gpumon probe`, in `results/` in the state directory. Not taken over by a reload.",
    (
        Field("keep", Whole(1, 10_000), "how many are kept", default=100, examples=(500,)),
        Field(
            "max_size",
            _KEPT,
            "where they take more together, the oldest are deleted",
            default="2GiB",
            examples=("500MB",),
        ),
    ),
)

API = Section(
    "api",
    "Where the daemon answers, and what has to be shown there. Not taken over by a reload.",
    (
        Field(
            "socket",
            PATH,
            "the unix socket; who may open it may silence alerts, too",
            default=str(SYSTEM_SOCKET),
            examples=("/run/user/1000/gpumon.sock",),
        ),
        Field(
            "listen",
            Text(
                pattern=r"^(none|off|.+:[0-9]{1,5})$",
                told=f"HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}, or none",
                bare=False,
                may_be_null=True,
            ),
            "`HOST:PORT` of `/metrics` and Prometheus' API; `none` for none. On loopback everybody reads. Beyond it "
            "every client shows `token`, `read_token` or a certificate; with none of the three set nothing is served",
            default=f"127.0.0.1:{DEFAULT_PORT}",
            examples=("none", f"0.0.0.0:{DEFAULT_PORT}"),
        ),
        Field(
            "token",
            SECRET,
            "with `Authorization: Bearer <token>`, a client over TCP reads and changes: silences, probes, tests of "
            "receivers; without one, only the socket changes",
            without="none",
            examples=({"file": "/etc/gpumon/api-token"},),
        ),
        Field(
            "read_token",
            SECRET,
            "with this one a client only reads: what a Prometheus gets",
            without="none",
            examples=({"file": "/etc/gpumon/read-token"},),
        ),
        Field(
            "tls",
            Inside("tls"),
            "the certificate that the TCP listener shows, and whose it takes",
            without="none",
        ),
    ),
)

TLS = Section(
    "tls",
    "The TLS of the TCP listener, from files in PEM form. They are looked at every 30 seconds and at a reload.",
    (
        Field(
            "cert_file",
            PATH,
            "the certificate, and after it those between it and one that clients know",
            required=True,
            examples=("/etc/gpumon/tls.crt",),
        ),
        Field(
            "key_file",
            PATH,
            "its private key, without a password",
            required=True,
            examples=("/etc/gpumon/tls.key",),
        ),
        Field(
            "client_ca_file",
            PATH,
            "who shows a certificate from one of these may read, without a token",
            without="none",
            examples=("/etc/gpumon/clients.pem",),
        ),
    ),
)

SOURCES = Section(
    "sources",
    "What is watched, and how often.",
    (
        Field("nvml", Inside("nvml"), "the GPUs"),
        Field("host", Inside("host"), "CPU, memory, disks, network"),
        Field("kernel_log", Inside("kernel_log"), "XID errors and OOM kills"),
        Field("vllm", Inside("vllm"), "the servers"),
    ),
)

NVML = _polling("nvml", "The GPUs.", "it is watched", "it", "1s")
KERNEL_LOG = _polling("kernel_log", "XID errors and OOM kills.", "it is watched", "it", "1s")
HOST = _polling(
    "host",
    "CPU, memory, disks, network.",
    "it is watched",
    "it",
    "2s",
    Field(
        "model_caches",
        ListOf(PATH),
        "directories of models: the disks that they are on are watched as such",
        without="where Hugging Face keeps models",
        examples=(["/srv/models"],),
    ),
    Field(
        "rootfs",
        PATH,
        "in a container, where the node's own root is mounted: the disks are those below it, and not the container's",
        examples=("/host",),
    ),
)
VLLM = _polling(
    "vllm",
    "The servers, and what their latencies are to be.",
    "servers are watched",
    "`/metrics`",
    "1s",
    Field(
        "discover",
        Truth(),
        "whether servers that run on this node are found and watched without being named",
        default=True,
    ),
    Field(
        "servers",
        ListOf(Either((vllm.HTTP_SERVER, Inside("servers")))),
        "servers that are named, each with its URL or as a mapping",
        without="none",
        examples=(["http://127.0.0.1:8000"],),
    ),
    Field("targets", Inside("targets"), "what latencies are to be"),
)

GPUMON_YAML = book(
    "gpumon.yaml",
    TOP,
    NODE,
    HISTORY,
    PROBES,
    API,
    TLS,
    SOURCES,
    NVML,
    KERNEL_LOG,
    HOST,
    VLLM,
    *vllm.SECTIONS,
    *told.SECTIONS,
    *routes.SECTIONS,
    *reports.SECTIONS,
)
