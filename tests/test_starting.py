"""A start looks for garbage seldom, and hours later it is looked for as always, but not in what the start made."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc
from monitor import starting

usual = gc.get_threshold()
starting.over()
assert (gc.get_threshold(), gc.get_freeze_count()) == (usual, 0), "nothing began"
starting.begin()
starting.begin()
assert gc.get_threshold()[0] > 100 * usual[0]
starting.over()
frozen = gc.get_freeze_count()
assert gc.get_threshold() == usual and frozen > 1000
kept = [[] for _ in range(1000)]
starting.over()
assert gc.get_freeze_count() <= frozen, "what came later is looked at"
"""


def test_garbage_is_looked_for_as_always_when_the_start_is_over() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr


def test_a_daemon_starts_without_what_few_ever_need() -> None:
    program = "import sys, monitor.daemon; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    assert not {"prometheus_client", "wsgiref"} & set(done.stdout.split())


_DATACLASSES = """
import dataclasses, sys, monitor.cli, monitor.commands.daemon, monitor.daemon

for name, module in list(sys.modules.items()):
    for one in vars(module).values() if name.startswith("monitor") else ():
        if isinstance(one, type) and one.__module__ == name and dataclasses.is_dataclass(one):
            print(f"{name.removeprefix('monitor.')}.{one.__name__}")
"""


def test_what_a_start_loads_has_a_dataclass_only_where_a_struct_would_not_do() -> None:
    # Each takes a quarter of a millisecond of every start: `monitor.records` says why.
    done = subprocess.run([sys.executable, "-c", _DATACLASSES], capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    compares_not_all = {
        "config_values.Secret",
        "config_values.Tls",
        "field_kinds.Section",
        "promql.frame.Frame",
        "promql.tree.Binary",
        "promql.tree.Selector",
        "rules.rule_file.Rule",
    }
    is_filled_in_later = {"api.node.Node", "matchers.LabelMatcher", "notify.alertmanagers._Outlet", "selector.Matcher"}
    hides_a_field, is_generic = {"field_kinds.Book"}, {"api.queries.Answer"}
    assert set(done.stdout.split()) == compares_not_all | is_filled_in_later | hides_a_field | is_generic
