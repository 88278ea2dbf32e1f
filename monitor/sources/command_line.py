"""What a command line says: which server it launches, which part of vLLM a process title names, and what of it may be
shown.

Command lines carry API keys. So nothing is shown but what is known to be harmless: each flag that is shown stands in a
table here together with the form that its value must have. All else becomes ``…``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

HIDDEN = "…"

Kind: TypeAlias = Literal["vllm", "sglang", "tgi"]

_PYTHON = re.compile(r"^(python|pypy)[0-9.]*\Z")
_NAMES: dict[Kind, str] = {"vllm": "vllm serve", "sglang": "sglang serve", "tgi": "text-generation-router"}
_PORTS: dict[Kind, int] = {"vllm": 8000, "sglang": 30000, "tgi": 3000}

_VLLM_MAIN = {"vllm", "vllm.entrypoints.cli.main", "vllm.scripts"}
_VLLM_SERVERS = {"vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server"}
_SGLANG_SERVERS = {"sglang.launch_server", "sglang.srt.entrypoints.http_server"}


class Launch(msgspec.Struct, frozen=True):
    """A command that serves a model."""

    kind: Kind
    port: int
    """As the command says, else the program's default."""
    host: str = ""
    tls: bool = False
    tensor_parallel: int | None = None

    @property
    def name(self) -> str:
        """What to call the process."""
        return _NAMES[self.kind]


class Title(msgspec.Struct, frozen=True):
    """What a process of vLLM or SGLang calls itself: ``VLLM::Worker_DP0_TP1``."""

    text: str
    part: str
    """``EngineCore``, ``Worker``, ``APIServer``, ``DPCoordinator``, or SGLang's ``scheduler``, …"""
    ranks: dict[str, int]
    """``{"DP": 0, "TP": 1}``; a number without letters is under ""."""


_TITLE = re.compile(
    r"^[A-Za-z0-9.-][A-Za-z0-9_.-]{0,31}::(EngineCore|Worker|APIServer|DPCoordinator|scheduler|detokenizer|tokenizer"
    r"|data_parallel_controller)((?:_(?:DP|PP|PCP|TP|DCP|EP|CP|MOE_EP)?[0-9]{1,5})*)\Z"
)
_RANK = re.compile(r"_(DP|PP|PCP|TP|DCP|EP|CP|MOE_EP|)([0-9]+)")


def title_of(arguments: Sequence[str]) -> Title | None:
    """The title of a process, where its whole command line is one. vLLM's prefix can be configured."""
    if len(arguments) != 1:
        return None
    found = _TITLE.match(arguments[0].strip())
    if not found:
        return None
    ranks = {name: int(number) for name, number in _RANK.findall(found.group(2))}
    return Title(found.group(0), found.group(1), ranks)


def launch_of(arguments: Sequence[str]) -> Launch | None:
    """The server that a command line launches, or None. A shell, ``timeout`` or ``docker run`` around such a command
    is none: it does not serve."""
    head = _head(arguments)
    if head.kind is None:
        return None
    flags = _flags(arguments[head.length :])
    if "headless" in flags or "uds" in flags:  # serves no TCP
        return None
    port = flags.get("port") or flags.get("p") or ""
    parallel = flags.get("tensor-parallel-size") or flags.get("tp") or flags.get("tp-size") or ""
    return Launch(
        head.kind,
        int(port) if re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536 else _PORTS[head.kind],
        flags.get("host") or flags.get("hostname") or "",
        tls="ssl-certfile" in flags or "ssl-keyfile" in flags,
        tensor_parallel=int(parallel) if re.fullmatch(r"[1-9][0-9]{0,3}", parallel) else None,
    )


class _Head(msgspec.Struct, frozen=True):
    """The beginning of a command line that names the program."""

    shown: tuple[str, ...]
    length: int
    kind: Kind | None = None
    module: bool = False


def _head(arguments: Sequence[str]) -> _Head:
    """The program, its module or script, and ``serve``."""
    program = _program(arguments[0]) if arguments else ""
    if not _PYTHON.match(program):
        return _serving(program, (), 0, arguments)
    shown, at = [program], 1
    while at < len(arguments) and arguments[at].startswith("-"):
        flag = arguments[at]
        if flag == "-m" and at + 1 < len(arguments):
            return _serving(arguments[at + 1], (*shown, "-m"), at + 1, arguments)
        if flag not in _PYTHON_FLAGS:
            return _Head(tuple(shown), at)
        shown.append(flag)
        at += 1
    if at < len(arguments):
        return _serving(arguments[at], tuple(shown), at, arguments)
    return _Head(tuple(shown), at)


def _serving(name: str, before: tuple[str, ...], at: int, arguments: Sequence[str]) -> _Head:
    """The head whose program, module or script is ``name``, at ``arguments[at]``."""
    module = before[-1:] == ("-m",)
    short = name if module else _program(name)
    following = arguments[at + 1] if at + 1 < len(arguments) else ""
    if (short in _VLLM_MAIN if module else short == "vllm") and following == "serve":
        return _Head((*before, short, "serve"), at + 2, "vllm")
    if (module and name in _VLLM_SERVERS) or name.endswith("vllm/entrypoints/openai/api_server.py"):
        return _Head((*before, short), at + 1, "vllm")
    if module and name in _SGLANG_SERVERS:
        return _Head((*before, short), at + 1, "sglang")
    if short == "sglang" and following == "serve":
        return _Head((*before, short, "serve"), at + 2, "sglang")
    if short == "text-generation-router":
        return _Head((*before, short), at + 1, "tgi")
    harmless = _MODULE.match(short) if module else (not before or _SCRIPT.match(short))
    shown = short if short and harmless and not looks_secret(short) else HIDDEN
    return _Head((*before, shown), at + 1)


def _program(argument: str) -> str:
    """The name of a program without its folder, "" where it has a form that no program's has."""
    name = argument.rsplit("/", 1)[-1]
    return name if _PROGRAM.match(name) else ""


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """Each flag without its dashes, ``_`` as ``-``, and its value, "" where it has none. The first of several counts
    for none: as argparse does, the last wins."""
    found: dict[str, str] = {}
    for at, argument in enumerate(arguments):
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            if not equals and at + 1 < len(arguments) and not arguments[at + 1].startswith("-"):
                value = arguments[at + 1]
            found[name.replace("_", "-")] = value
    return found


# -- what may be shown -------------------------------------------------------------------------------------------------

_PROGRAM = re.compile(r"^[A-Za-z][A-Za-z0-9_.+-]{0,39}\Z")
_SCRIPT = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,39}(\.py)?\Z")
_MODULE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,39}(\.[A-Za-z_][A-Za-z0-9_]{0,39}){0,7}\Z")
_PYTHON_FLAGS = {"-u", "-B", "-E", "-I", "-O", "-OO", "-P", "-S", "-s"}

_SECRET = re.compile(
    r"(?i)(^|[^a-z])(sk|pk|rk|hf|ghp|gho|ghs|ghu|github_pat|glpat|xox[a-z]|nvapi|akia|asia|aiza|eyj|npm|pypi|key|token"
    r"|secret|passw(or)?d|bearer|basic|gsk|r8|api[_-]?key)[_-]?[a-z0-9+/=_-]{5,}"
)
_LONG = re.compile(r"[A-Za-z0-9+=]{25,}|(?=[a-z]*[0-9])(?=[0-9]*[a-z])[0-9a-f]{16,}")
_UUID = re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def looks_secret(text: str) -> bool:
    """Whether a text has the form of a key, wherever it stands: better too often than too seldom."""
    return bool(_SECRET.search(text) or _LONG.search(text) or _UUID.search(text))


_NUMBER = re.compile(r"^-?[0-9]{1,12}(\.[0-9]{1,6})?[kKmMgGtT]?\Z")
_WORD = re.compile(r"^[A-Za-z][A-Za-z0-9_.-]{0,31}\Z")
_HOST = re.compile(r"^[0-9A-Fa-f:.]{2,39}\Z|^localhost\Z")
_MODEL = re.compile(r"^[A-Za-z0-9/~][A-Za-z0-9_.+/-]{0,159}\Z")
_NOTHING = re.compile(r"(?!)")
"""Matches nothing: the flag is shown, its value never."""


def _table() -> dict[str, re.Pattern[str] | None]:
    """Each flag that is shown, and the form of its value; None where it takes none."""
    numbers = """port max-model-len tensor-parallel-size tp tp-size pipeline-parallel-size pp pp-size dp dp-size
        data-parallel-size data-parallel-rank data-parallel-start-rank data-parallel-size-local data-parallel-rpc-port
        prefill-context-parallel-size decode-context-parallel-size dcp gpu-memory-utilization max-num-seqs
        max-num-batched-tokens block-size num-gpu-blocks-override swap-space cpu-offload-gb seed max-loras
        max-lora-rank max-cpu-loras api-server-count nnodes node-rank master-port max-logprobs max-num-partial-prefills
        kv-cache-memory-bytes max-seq-len-to-capture context-length mem-fraction-static max-running-requests
        nproc-per-node master-addr-port ep-size moe-dp-size num-shard max-input-length max-total-tokens
        max-batch-prefill-tokens max-concurrent-requests stream-interval"""
    words = """dtype kv-cache-dtype quantization q load-format tokenizer-mode distributed-executor-backend
        attention-backend scheduling-policy tool-call-parser reasoning-parser runner task convert model-impl
        performance-mode optimization-level uvicorn-log-level data-parallel-backend all2all-backend moe-backend
        prefix-caching-hash-algo schedule-policy"""
    models = "model served-model-name tokenizer model-path model-id"
    alone = """enforce-eager trust-remote-code enable-prefix-caching no-enable-prefix-caching enable-chunked-prefill
        no-enable-chunked-prefill enable-expert-parallel enable-auto-tool-choice disable-log-requests
        disable-log-stats enable-log-requests enable-sleep-mode enable-lora enable-eplb async-scheduling
        enable-metrics enable-mfu-metrics kv-cache-metrics disable-custom-all-reduce headless data-parallel-hybrid-lb
        data-parallel-external-lb enable-server-load-tracking enable-prompt-tokens-details"""
    hidden = """api-key hf-token ssl-keyfile ssl-certfile ssl-ca-certs ssl-keyfile-password chat-template config
        middleware lora-modules speculative-config kv-transfer-config compilation-config hf-overrides
        allowed-origins download-dir root-path otlp-traces-endpoint additional-config admin-api-key"""
    table: dict[str, re.Pattern[str] | None] = {"host": _HOST}
    for names, form in ((numbers, _NUMBER), (words, _WORD), (models, _MODEL), (alone, None), (hidden, _NOTHING)):
        table |= dict.fromkeys(names.split(), form)
    return table


_SHOWN = _table()


def redact(arguments: Sequence[str]) -> str:
    """A command line for a person, with ``…`` for each run of arguments that is not known to be harmless.

    ``python -m vllm.entrypoints.openai.api_server --model m --api-key sk-1`` becomes ``python -m
    vllm.entrypoints.openai.api_server --model m --api-key …``.
    """
    if not arguments:
        return ""
    title = title_of(arguments)
    if title is not None:
        return title.text
    head = _head(arguments)
    out = [HIDDEN if looks_secret(text) and text not in _KNOWN else text or HIDDEN for text in head.shown]
    at = head.length
    if head.kind == "vllm" and out[-1] == "serve" and at < len(arguments) and not arguments[at].startswith("-"):
        out.append(_value(arguments[at], _MODEL))  # `vllm serve MODEL`
        at += 1
    while at < len(arguments):
        at += _redact_one(arguments, at, out, serving=head.kind is not None)
    shown: list[str] = []
    for text in out:
        if text != HIDDEN or shown[-1:] != [HIDDEN]:
            shown.append(text)
    return " ".join(shown)


_KNOWN = _VLLM_MAIN | _VLLM_SERVERS | _SGLANG_SERVERS


def _redact_one(arguments: Sequence[str], at: int, out: list[str], *, serving: bool) -> int:
    """Add what may be shown of the argument at ``at``; how many arguments that took."""
    argument = arguments[at]
    dashes = argument[: len(argument) - len(argument.lstrip("-"))]
    written, equals, value = argument[len(dashes) :].partition("=")
    name = written.replace("_", "-")
    # A program that we do not know may mean something else by the flags that we know.
    if not serving or len(dashes) not in (1, 2) or name not in _SHOWN:
        out.append(HIDDEN)
        return 1
    form = _SHOWN[name]
    if equals:
        out.append(f"{dashes}{name}={HIDDEN if form is None else _value(value, form)}")
        return 1
    out.append(dashes + name)
    if form is None or at + 1 >= len(arguments) or arguments[at + 1].startswith("--"):
        return 1
    out.append(_value(arguments[at + 1], form))
    return 2


def _value(text: str, form: re.Pattern[str]) -> str:
    return text if form.fullmatch(text) and not looks_secret(text) else HIDDEN
