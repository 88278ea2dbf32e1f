"""``docs/commands.md``, made from the click tree."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import click

from monitor.commands.exit_codes import EXIT_CODES
from tests.docs.tree import Node, meaning, signature

_REACHING = ("--token-file", "--user", "--password-file", "--ca", "--cert", "--key", "--insecure", "--header")
_LATER = "--help"
_HEAD = """\
# Every command

Made from the code by `python3 -m tests.docs.reference`; a test keeps it current. The same stands in each command's
`--help` and, where gpumon is installed from a wheel, in the manual: `man gpumon`, `man gpumon-silence`.
"""
_JSON = """\
## For scripts

What a command prints for people may change. For programs there is JSON: {commands}. Fields are added, and none is
renamed or removed within a `schema`; what is absent is `null` or not there, never 0. `gpumon query` and `gpumon silence
list` print what the APIs of Prometheus and Alertmanager have; `gpumon dmon --json` prints an object a line, for as long
as it runs. `gpumon export` writes OpenMetrics or CSV, `gpumon test rules --junit FILE` JUnit's XML.

Data goes to standard output, and all that is said about it to standard error; errors are text, also with `--json`.
"""
_EXITS = """\
## How a command ends

| code | meaning |
|---|---|
{rows}
Where a command has more to say about its codes, it says so below. `gpumon daemon` ends with 0 when it is told to, by
SIGTERM or Ctrl-C.
"""
_COMPLETION = """\
## Completion

Commands, options and values, among them what the daemon knows: receivers, alerts, silences, runs, servers, series.
The daemon is asked within 0.4 s, over a unix socket or plain HTTP; where it does not answer, or over HTTPS, those
values are missing and the rest is there. A wheel installs the scripts below `share/`, where a shell finds them if that
is the system's or the user's own; for an environment of its own, write them where your shell looks:

```sh
gpumon completion bash > ~/.local/share/bash-completion/completions/gpumon
gpumon completion zsh > ~/.local/share/zsh/site-functions/_gpumon    # a directory of $fpath
gpumon completion fish > ~/.config/fish/completions/gpumon.fish
```
"""
_LOGS = """\
## What the daemon logs

On a terminal text; under systemd the journal's own fields; elsewhere, as in a container or a file, JSON, an object a
line. `--log-format` or `$GPUMON_LOG_FORMAT` says otherwise: `text`, `json`, `journal`, or `auto` for this.

| in the journal | in JSON | what |
|---|---|---|
| `MESSAGE`, `PRIORITY` | `message`, `level` | the line, and how grave it is |
| `LOGGER`, `CODE_FILE`, `CODE_LINE`, `CODE_FUNC` | `logger` | where in gpumon it comes from |
| `GPUMON_SOURCE`, `GPUMON_SERVER`, `GPUMON_GPU` | `source`, `server`, `gpu` | what it concerns |
| `GPUMON_ALERT`, `GPUMON_RULE`, `GPUMON_GROUP` | `alert`, `rule`, `group` | the alert, its rule, the rule's group |
| `GPUMON_RECEIVER`, `GPUMON_ALERTMANAGER`, `GPUMON_FILE` | `receiver`, `alertmanager`, `file` | who or what failed |
| `ERRNO` | `errno` | the system's number of an error |
| the lines after the first of `MESSAGE` | `traceback` | where a fault of gpumon's own happened |

```sh
journalctl -u gpumon -p warning --since today
journalctl -u gpumon GPUMON_SOURCE=vllm -o json
```

What lasts is said once, not at each poll: a source that is down, a receiver that takes nothing, a rule that fails, a
full disk. It is said again after 5 minutes with a count, then half as often each time, and at least once an hour; and
when it is over. Any other line that comes more than five times in five minutes is counted, and told with the count.
Secrets are in no line. Where the journal's socket does not answer, the lines go to standard error with systemd's
priorities.
"""


def page(top: Node) -> str:
    """The whole page."""
    nodes = list(top.walk())
    with_json = [
        f"`{node.name}`" for node in nodes if not node.children and any("--json" in one.opts for one in node.options())
    ]
    rows = "".join(f"| {code} | {text} |\n" for code, text in EXIT_CODES.items())
    parts = [
        _HEAD,
        _listing(top),
        _EXITS.format(rows=rows),
        _filled(_JSON.format(commands=", ".join(with_json))),
        _COMPLETION,
        _LOGS,
        _reaching(nodes),
        _of_probes(top),
    ]
    shared = _shared(top)
    parts += [_section(node, shared) for node in nodes if node.path]
    return "\n".join(part for part in parts if part)


def _listing(top: Node) -> str:
    lines = [f"[`{one.name}`](#{one.name.replace(' ', '-')}): {_cell(one.short)}" for one in top.children]
    return "\n".join(_item(line) for line in lines) + "\n"


def _reaching(nodes: list[Node]) -> str:
    node = next(one for one in nodes if one.path == ("snapshot",))
    options = [one for one in node.options() if one.opts[0] in ("--url", *_REACHING)]
    return "## Options that reach a server\n\n" + _options(node, options)


def _shared(top: Node) -> set[str]:
    """The names of options that every workload of ``gpumon probe`` has."""
    probes = next(one for one in top.children if one.path == ("probe",))
    runs = [one for one in probes.children if any("--detach" in option.opts for option in one.options())]
    return set.intersection(*({option.opts[0] for option in one.options()} for one in runs)) - {_LATER}


def _of_probes(top: Node) -> str:
    shared = _shared(top)
    node = next(one for one in top.walk() if one.path == ("probe", "latency"))
    return "## Options of every probe\n\n" + _options(node, [one for one in node.options() if one.opts[0] in shared])


def _section(node: Node, shared: set[str]) -> str:
    level = "#" * (len(node.path) + 1)
    parts = [f"{level} {node.name}\n"]
    if not node.children:
        parts.append(f"```text\n{node.usage()}\n```\n")
    for text, kept in node.paragraphs():
        parts.append(f"```text\n{text}\n```\n" if kept else _wrapped(text))
    options = [one for one in node.options() if one.opts[0] != _LATER]
    names = {one.opts[0] for one in options}
    more = []
    if set(_REACHING) <= names:
        options = [one for one in options if one.opts[0] not in ("--url", *_REACHING)]
        more.append("[those that reach a server](#options-that-reach-a-server)")
    if node.path[:1] == ("probe",) and shared <= names:
        options = [one for one in options if one.opts[0] not in shared]
        more.append("[those of every probe](#options-of-every-probe)")
    if options:
        parts.append(_options(node, options))
    if more:
        parts.append(f"{'And' if options else 'Options:'} {', '.join(more)}.\n")
    return "\n".join(parts)


def _options(node: Node, options: Iterable[click.Option]) -> str:
    lines = []
    for option in options:
        text = f"`{signature(node, option)}`: {_cell(meaning(node, option)) or '–'}"
        lines.append(_item(text))
    return "\n".join(lines) + "\n"


def _wrapped(text: str, first: str = "", later: str = "") -> str:
    whole = textwrap.TextWrapper(120, initial_indent=first, subsequent_indent=later, break_long_words=False)
    whole.break_on_hyphens = False
    return whole.fill(text) + "\n"


def _item(text: str) -> str:
    return _wrapped(text, "- ", "  ").rstrip("\n")


def _filled(text: str) -> str:
    return (
        "\n\n".join(
            part if part.startswith("#") else _wrapped(" ".join(part.split())).strip() for part in text.split("\n\n")
        )
        + "\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")
