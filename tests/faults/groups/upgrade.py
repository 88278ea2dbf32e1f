"""A new gpumon on the state that an old one left, and an old one on the state of a new one.

The states were made by commits of this repository (`tests/faults/old_states.py`). The daemon's clock is set to when
that was: history and silences have an end.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import old_states
from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.node import Node
from tests.faults.shim import Shim

_WORDS = {
    "outbox-1": "the state of the first version with a record (schema 1; neither silences nor history)",
    "outbox-2": "the state of the first version with silences (schema 2)",
    "outbox-3-history-first": "the state of the first version with history (schema 3)",
    "outbox-3": "the state of the last version before reports (schema 3)",
}


def _upgrade(name: str, nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    rules = old_states.RULES
    # The receiver that the old one could not reach is ours now: it has the same name.
    node = nodes(start=False, mail=False, config={"sources": {"nvml": {"enabled": False}, "host": {"enabled": False}}})
    node.folder.mkdir(parents=True, exist_ok=True)
    made = old_states.restored(old_states.STATES / name, node.state)
    owed = _owed(node.state)
    with contextlib.closing(Shim(node.folder)) as shim:
        shim.step_clock(made["at"] + 20 - time.time())
        node.more_environment(shim.env())
        with node:
            (node.folder / "old.yaml").write_text(rules)
            node.write_config(alerting={"rule_files": [str(node.rules_path), str(node.folder / "old.yaml")]})
            at = node.now()
            node.supervisor.send(do="start")
            node.wait("the daemon is ready", node.ready)
            outcome.recovered = node.now() - at
            came = node.wait_told("Fires", since=at)
            outcome.see("webhook", "what the old one still owed", came - at)
            told = {alert["eventId"] for _, _, alert in node.tellings("Fires", since=at)}
            outcome.expect(owed and told == owed, f"owed were {owed}, told was {told}")
            _alerts_are_kept(node, outcome, made["alerts"])
            if made["silence"]:
                kept = [each["id"] for each in node.request("GET", "/api/v2/silences").json()]
                outcome.expect(made["silence"] in kept, "the silence is gone")
                outcome.go_on("its silence is there")
            outcome.lost = "no alert; it had no history"
            if (old_states.STATES / name / "history.sqlite.sql").exists():
                _history_is_kept(node, outcome, made)
                outcome.lost = "nothing"
            outcome.close(node, gap_ends=False)
    return outcome


for _name, _what in _WORDS.items():
    fault(f"upgrade {_name}", group="upgrade", what=f"started on {_what}")(partial(_upgrade, _name))


@fault("newer state", group="upgrade", what="started on the state of a gpumon that is newer")
def newer_state(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        firing = node.drill()
        node.wait_told("Drill", engine=firing)
        node.stop()
        path = node.state / "gpumon.db"
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 99")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = path.read_bytes()
        logged = len(node.log())
        at = node.now()
        node.supervisor.send(do="start")
        line = node.supervisor.wait("its end", lambda line: line["kind"] == "exit" and line["at"] > at)
        said = node.log()[logged:].strip().splitlines()[-1].replace(str(node.folder), "…")
        outcome.see("exit 1, log", f"«{said}»", line["at"] - at)
        outcome.expect(line["status"] == 1, f"exit {line['status']}, not 1")
        outcome.expect("newer" in said and "start that version" in said, f"it does not say what to do: {said}")
        node.supervisor.send(do="hold")
        node.wait("it does not run", lambda: "daemon" not in node.pids())
        outcome.expect(path.read_bytes() == before, "the file of the newer one was changed")
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 4")
        outcome.go_on("the file is as it was, to the byte")
        at = node.now()
        node.start()
        outcome.recovered = node.now() - at
        outcome.by_itself = False
        outcome.close(node)
    return outcome


@fault("newer history", group="upgrade", what="started on the history of a gpumon that is newer")
def newer_history(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        node.stop()
        path = node.state / "history.sqlite"
        with closing(sqlite3.connect(path)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            database.execute("PRAGMA user_version = 99")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = path.read_bytes()
        at = node.now()
        node.start()
        outcome.see("webhook", "HistoryNotWritten", node.wait_told("HistoryNotWritten", since=at, seconds=120) - at)
        outcome.expect(node.value("gpumon_history_up") == 0, "gpumon_history_up is not 0")
        outcome.alarm(node)
        outcome.expect(path.read_bytes() == before, "the file of the newer one was changed")
        outcome.go_on("the file is as it was; alerts are recorded and told")
        node.stop()
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA user_version = {version}")
        at = node.now()
        node.start()
        node.wait("history is written", lambda: node.value("gpumon_history_up") == 1)
        outcome.recovered = node.now() - at
        outcome.by_itself = False
        outcome.close(node)
    return outcome


def _owed(state: Path) -> set[str]:
    with closing(sqlite3.connect(state / "gpumon.db")) as database:
        return {row[0] for row in database.execute("SELECT event_id FROM deliveries WHERE state = 'queued'")}


def _alerts_are_kept(node: Node, outcome: Outcome, old: list[dict[str, str]]) -> None:
    """Each has the state and the age that it had."""

    def now() -> list[tuple[str, str, str]]:
        shown = node.request("GET", "/api/v1/alerts").json()["data"]["alerts"]
        return sorted(_of(each) for each in shown if each["labels"]["alertname"] in ("Fires", "Waits"))

    wanted = sorted(_of(each) for each in old)
    node.wait("the alerts", lambda: len(now()) == len(wanted))
    outcome.expect(now() == wanted, f"alerts were {wanted}, are {now()}")
    outcome.go_on("what fired fires, what waited waits, each since then")


def _of(alert: dict[str, str]) -> tuple[str, str, str]:
    labels: dict[str, str] = alert["labels"]  # type: ignore[assignment]
    return labels["alertname"], alert["state"], alert["activeAt"][:19]


def _history_is_kept(node: Node, outcome: Outcome, made: dict[str, Any]) -> None:
    """What the old one showed of its last seconds is there, each reading at its time."""
    old = made["readings"]
    answer = node.request("GET", "/api/v1/query", query=f"{old_states.READINGS}[1h]").json()
    new = {f"{at} {value}" for row in answer["data"]["result"] for at, value in row["values"]}
    missing = [each for each in old if each not in new]
    outcome.expect(old and not missing, f"of {len(old)} old readings {len(missing)} are missing: {missing[:5]}")
    outcome.go_on(f"{len(old)} old readings are there")
