"""The configuration and the rules are replaced by what cannot be used, under a daemon that runs and one that starts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.node import Node

_GARBAGE = b"\x00\xff\x1b]0;owned\x07 receivers: [\n"
_WRONG = b"groups:\n  - name: drill\n    rules:\n      - alert: Drill\n        expr: sum(vllm:drill\n"


def _replaced(nodes: NodeFactory, which: Callable[[Node], Path], spoil: Callable[[Path], None], *words: str) -> Outcome:
    """Replace a file, reload, kill the daemon, and put the file right. The words are of the log."""
    outcome = Outcome()
    with nodes() as node:
        path = which(node)
        good = path.read_bytes()
        fires = node.drill()
        node.wait_told("Drill", engine=fires)
        path.unlink()
        spoil(path)
        at = node.signal(signal.SIGHUP)
        node.wait("the log", lambda: _line(node, ("not reloaded", *words)))
        outcome.see("log", _line(node, ("not reloaded", *words)), node.now() - at)
        refused = node.wait("the event", lambda: node.events("config_refused"))
        outcome.see("event", refused[-1]["title"].replace(f"{node.folder}/", ""), node.now() - at)
        outcome.see("webhook", "ConfigRefused", node.wait_told("ConfigRefused", since=at) - at)
        outcome.alarm(node, "with the old one, another crossing")
        _not_started(node, outcome, words)
        healed = node.now()
        _remove(path)
        path.write_bytes(good)
        node.wait("the daemon is ready", node.ready)
        outcome.recovered = node.now() - healed
        ended = node.told("Drill", "resolved", engine=fires)
        outcome.expect(ended is None, "what fired was told as ended")
        outcome.close(node)
    return outcome


def _line(node: Node, words: tuple[str, ...]) -> str:
    """What was said, without the folder."""
    for line in node.log().splitlines():
        if all(each in line for each in words) and line.startswith("{"):
            return str(json.loads(line)["message"]).replace(f"{node.folder}/", "")
    return ""


def _not_started(node: Node, outcome: Outcome, words: tuple[str, ...]) -> None:
    """It does not start with it, says so each time, and loses nothing by it."""
    before = node.log().count(words[0])
    at = node.signal(signal.SIGKILL)
    node.wait("it says so again", lambda: node.log().count(words[0]) > before)
    outcome.see("log, at each start", "the same", node.now() - at)
    outcome.expect(not node.ready(), "it runs with what it refused")


def _remove(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _config(node: Node) -> Path:
    return node.config_path


def _rules(node: Node) -> Path:
    return node.rules_path


@fault("config garbage", group="config", what="gpumon.yaml is replaced by garbage; reload, then `kill -9`")
def garbage(nodes: NodeFactory) -> Outcome:
    return _replaced(nodes, _config, lambda path: _write(path, _GARBAGE), "gpumon.yaml:1:2: is not UTF-8 text")


@fault("config directory", group="config", what="gpumon.yaml is replaced by a directory; reload, then `kill -9`")
def directory(nodes: NodeFactory) -> Outcome:
    return _replaced(nodes, _config, Path.mkdir, "gpumon.yaml:1:1: cannot be read: Is a directory")


@fault("config empty", group="config", what="gpumon.yaml is cut to nothing; reload, then `kill -9`")
def empty(nodes: NodeFactory) -> Outcome:
    return _replaced(nodes, _config, Path.touch, "gpumon.yaml:1:1: is empty")


@fault("config gone", group="config", what="gpumon.yaml is deleted; reload, then `kill -9`")
def gone(nodes: NodeFactory) -> Outcome:
    return _replaced(nodes, _config, lambda path: None, "gpumon.yaml:1:1: cannot be read: No such file")


@fault("rules wrong", group="config", what="a rule file has an expression that is none; reload, then `kill -9`")
def rules_wrong(nodes: NodeFactory) -> Outcome:
    return _replaced(nodes, _rules, lambda path: _write(path, _WRONG), "rules.yaml:5:", "unclosed left parenthesis")


@fault("rules empty", group="config", what="a rule file is cut to nothing; reload, then `kill -9`")
def rules_empty(nodes: NodeFactory) -> Outcome:
    return _replaced(nodes, _rules, Path.touch, "rules.yaml:1:1: is empty")


@fault("rules directory", group="config", what="a rule file is replaced by a directory; reload, then `kill -9`")
def rules_directory(nodes: NodeFactory) -> Outcome:
    return _replaced(nodes, _rules, Path.mkdir, "rules.yaml:1:1: cannot be read: Is a directory")


def _hanging(nodes: NodeFactory, which: Callable[[Node], Path]) -> Outcome:
    """A pipe to which nobody writes takes a file's place: to open it waits, as on a mount whose server is gone."""
    outcome = Outcome()
    with nodes() as node:
        path = which(node)
        good = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        words = (f"{path.name}:1:1: cannot be read: nothing came",)
        at = node.signal(signal.SIGHUP)
        outcome.alarm(node, "a crossing")
        node.wait("the log", lambda: _line(node, ("not reloaded", *words)))
        outcome.see("log", _line(node, ("not reloaded", *words)), node.now() - at)
        refused = node.wait("the event", lambda: node.events("config_refused"))
        outcome.see("event", refused[-1]["title"].replace(f"{node.folder}/", ""), node.now() - at)
        outcome.see("webhook", "ConfigRefused", node.wait_told("ConfigRefused", since=at) - at)
        path.unlink()
        path.write_bytes(good)
        healed = node.signal(signal.SIGHUP)
        node.wait("the reload", lambda: node.events("config_reloaded"))
        outcome.recovered = node.now() - healed
        outcome.close(node)
    return outcome


@fault("config hangs", group="config", what="gpumon.yaml's disk does not answer (a pipe that nobody fills); reload")
def config_hangs(nodes: NodeFactory) -> Outcome:
    return _hanging(nodes, _config)


@fault("rules hang", group="config", what="a rule file's disk does not answer (a pipe that nobody fills); reload")
def rules_hang(nodes: NodeFactory) -> Outcome:
    return _hanging(nodes, _rules)


@fault("secret gone", group="config", what="the file with a receiver's URL is deleted")
def secret_gone(nodes: NodeFactory) -> Outcome:
    """It is read for each message: the others go on, and what it was needed for waits."""
    from tests.faults.groups.receivers import mailed, wait_reason

    outcome = Outcome()
    with nodes() as node:
        path = node.folder / "mail-url"
        good = path.read_bytes()
        path.unlink()
        at = node.now()
        name = node.drill()
        outcome.see("reason", wait_reason(node, "cannot be read").replace(f"{node.folder}/", ""), node.now() - at)
        told = node.wait_told("Drill", since=at, engine=name)
        outcome.go_on(f"the webhook gets a crossing after {told - at:.1f} s")
        healed = node.now()
        path.write_bytes(good)
        node.wait("the mail of it", lambda: mailed(node, name, healed), 120)
        outcome.recovered = node.now() - healed
        node.drill(name, 0.0)
        node.wait_told("Drill", "resolved", since=healed, engine=name)
        outcome.close(node, mail=True)
    return outcome


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
