"""The Grafana dashboards: what stands in the tree is what the code makes, whole, and asks for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from monitor.commands.series import all_entries
from monitor.dashboards import DEFAULT_PATH
from monitor.dashboards.build import GRID, Dashboard, to_json
from monitor.dashboards.files import ALL, files
from monitor.promql.parse import parse
from monitor.promql.tree import Aggregate
from monitor.records import fields
from monitor.rules.reach import needs
from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.samples import NAME
from monitor.sources.catalogue import Entry
from tests.dashboards.grafana import asked, filled, label_values, panels, query_result, text_of

ROOT = Path(__file__).resolve().parents[2] / "grafana"
HOW = "run `gpumon dashboards -o grafana`"
UIDS = ("gpumon-fleet", "gpumon-node", "gpumon-vllm", "gpumon-probes")
NO_GPUMON = ("up", "ALERTS", "ALERTS_FOR_STATE")
"""Series that whoever scrapes, or evaluates rules, makes."""
OF_ALERTS = ("alertname", "severity", "server", "engine", "gpu", "mountpoint", "device")
"""Labels of alerts, as rules give them."""
CHOICES = {"job": "gpumon", "instance": "(a:1|b:2)", "server": ".*", "gpu": ".*"}

each_dashboard = pytest.mark.parametrize("dashboard", ALL, ids=lambda one: one.uid)


@cache
def entries() -> dict[str, Entry]:
    return {sample: entry for entry in all_entries() for sample in entry.samples}


@cache
def recorded() -> frozenset[str]:
    rules = load_rules([default_rules_path()])
    return frozenset(rule.name for group in rules.groups for rule in group.rules if rule.records)


def expressions(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Every PromQL text, with where it stands."""
    for one in asked(dashboard):
        yield one.name, one.expr
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            text = text_of(variable)
            yield f"${variable['name']}", query_result(text) or label_values(text)[0]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["target"]["expr"]


Json = dict[str, Any]


def test_the_files_in_the_tree_are_what_the_code_makes() -> None:
    made = {str(place): text for place, text in files().items()}
    found = {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in ROOT.rglob("*") if file.is_file()}
    assert found == made, HOW
    assert {str(place): text for place, text in files().items()} == made


def test_uids_stay() -> None:
    # Links, bookmarks and other people's dashboards have them.
    assert tuple(one.uid for one in ALL) == UIDS


@each_dashboard
def test_each_panel_says_what_it_is_and_in_which_unit(dashboard: Dashboard) -> None:
    made = to_json(dashboard)
    titles = [panel["title"] for panel in panels(made)]
    assert len(set(titles)) == len(titles)
    ids = [panel["id"] for panel in (*made["panels"], *panels(made))]
    assert len(set(ids)) == len(set(titles)) + sum(panel["type"] == "row" for panel in made["panels"])
    for panel in panels(made):
        title = panel["title"]
        assert title
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(set(letters)) == len(letters)
        if panel["type"] != "table":
            assert panel["fieldConfig"]["defaults"]["unit"], title
            continue
        (organize,) = (each["options"] for each in panel["transformations"] if each["id"] == "organize")
        units = {
            override["matcher"]["options"]
            for override in panel["fieldConfig"]["overrides"]
            if any(one["id"] == "unit" and one["value"] for one in override["properties"])
        }
        names = organize["renameByName"]
        values = {name for name in names if name.startswith("Value")}
        assert values == ({"Value"} if len(letters) == 1 else {f"Value #{letter}" for letter in letters}), title
        assert {names[value] for value in values} == units, title
        if panel["fieldConfig"]["defaults"].get("noValue"):
            # Grafana says it in place of the panel, and in each cell without a value that has no word of its own.
            own = {
                override["matcher"]["options"]
                for override in panel["fieldConfig"]["overrides"]
                if any(one["id"] == "noValue" for one in override["properties"])
            }
            assert own == set(names.values()), title
        sorted_by = {each["displayName"] for each in panel["options"].get("sortBy", ())}
        assert sorted_by <= set(names.values()), title


@each_dashboard
def test_no_two_panels_overlap(dashboard: Dashboard) -> None:
    made = to_json(dashboard)
    folded = [row["panels"] for row in made["panels"] if row["type"] == "row" and row["panels"]]
    for together in (made["panels"], *folded):
        taken: dict[tuple[int, int], str] = {}
        for panel in together:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= GRID, panel["title"]
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
                taken[cell] = panel["title"]
    for row in made["panels"]:
        for panel in row.get("panels", ()):
            assert panel["gridPos"]["y"] > row["gridPos"]["y"]


@each_dashboard
def test_lines_are_full(dashboard: Dashboard) -> None:
    # A hole in a line is one that was forgotten.
    for together in (dashboard.top, *(row.panels for row in dashboard.rows)):
        x = 0
        for panel in together:
            x = panel.width if x + panel.width > GRID else x + panel.width
            assert x <= GRID
        assert x == GRID, together[-1].body["title"]


@each_dashboard
def test_each_series_exists_and_has_the_labels_that_are_asked_for(dashboard: Dashboard) -> None:
    made = to_json(dashboard)
    seen = 0
    for where, text in expressions(made):
        assert text.count("(") == text.count(")"), where
        for need in needs(parse(filled(text, CHOICES))):
            names = [matcher for matcher in need.matchers if matcher.name == NAME]
            assert len(names) == 1, where
            for name in names[0].value.split("|"):
                seen += 1
                assert name in entries() or name in recorded() or name in NO_GPUMON, f"{where}: no series {name}"
                if name in entries():
                    known = {*entries()[name].labels, NAME, "job", "instance", "GPU_I_ID"}
                    asked_for = {matcher.name for matcher in need.matchers}
                    missing = asked_for - known
                    assert not missing or len(names[0].value.split("|")) > 1, f"{where}: {name} has no {missing}"
    assert seen > 20


def aggregations(expr: Any) -> Iterator[Aggregate]:
    """Every aggregation in a tree."""
    if isinstance(expr, Aggregate):
        yield expr
    for name in fields(expr):
        value = getattr(expr, name)
        for inner in value if isinstance(value, tuple) else (value,):
            yield from aggregations(inner)


@each_dashboard
def test_each_label_that_is_summed_by_is_one_of_the_series(dashboard: Dashboard) -> None:
    # By a label that is misspelt everything is one line, and has data.
    seen = 0
    for where, text in expressions(to_json(dashboard)):
        for one in aggregations(parse(filled(text, CHOICES))):
            known = {"job", "instance"}
            for need in needs(one.inner):
                for name in next(each.value for each in need.matchers if each.name == NAME).split("|"):
                    known |= {*entries()[name].labels} if name in entries() else set(OF_ALERTS)
            seen += len(one.grouping)
            assert {*one.grouping} <= known, f"{where}: {one.grouping}"
    assert seen > 20


@each_dashboard
def test_windows_are_a_minute_at_least(dashboard: Dashboard) -> None:
    in_seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    for where, text in expressions(to_json(dashboard)):
        for window in re.findall(r"\[([^\]]+)\]", re.sub(r'"[^"]*"', "", text)):
            fixed = re.fullmatch(r"(\d+)([smhd])", window)
            assert window in ("$__rate_interval", "$__range") or (
                fixed and int(fixed[1]) * in_seconds[fixed[2]] >= 60
            ), f"{where}: [{window}]"
        # A window by the step alone sees a single sample where the step is short.
        assert "$__interval" not in text, where


@each_dashboard
def test_only_known_variables_are_used_and_all_of_them(dashboard: Dashboard) -> None:
    made = to_json(dashboard)
    names = [variable["name"] for variable in made["templating"]["list"]]
    assert names[:3] == ["datasource", "job", "instance"]
    text = json.dumps(made)
    for name in names:
        assert f"${name}" in text or f"${{{name}" in text
    for position, variable in enumerate(dashboard.variables):
        used = set(re.findall(r"\$(\w+)", variable.selector))
        assert used <= {one.name for one in dashboard.variables[:position]}, variable.name


def test_links_lead_to_dashboards_that_take_what_they_carry() -> None:
    known = {one.uid: {variable.name for variable in one.variables} | {"datasource"} for one in ALL}
    links = 0
    for dashboard in ALL:
        for panel in panels(to_json(dashboard)):
            titles = set()
            for each in panel.get("transformations", ()):
                titles |= set(each["options"].get("renameByName", {}).values())
            for override in panel["fieldConfig"]["overrides"]:
                for one in override["properties"]:
                    for link in one["value"] if one["id"] == "links" else ():
                        links += 1
                        uid, _, given = link["url"].removeprefix("/d/").partition("?")
                        uid = uid.split("/")[0]
                        carried = re.findall(r"var-(\w+)=", given) + re.findall(r"\$\{(\w+):queryparam\}", given)
                        assert set(carried) <= known[uid]
                        assert set(re.findall(r"__data\.fields\.(\w+)", given)) <= titles
    assert links > 3


def test_all_dashboards_lead_to_each_other() -> None:
    for dashboard in ALL:
        (link,) = to_json(dashboard)["links"]
        assert set(link["tags"]) <= set(dashboard.tags)
        assert (link["includeVars"], link["keepTime"]) == (True, True)


def test_provisioning_names_what_grafana_reads() -> None:
    nodes = ("http://node1:9519", "https://node2.example.org:9519/")
    made = {str(place): text for place, text in files("http://prom:9090", nodes, "/srv/it's here").items()}
    (provider,) = yaml.safe_load(made["provisioning/dashboards/gpumon.yaml"])["providers"]
    assert (provider["type"], provider["options"]) == ("file", {"path": "/srv/it's here"})
    sources = yaml.safe_load(made["provisioning/datasources/gpumon.yaml"])["datasources"]
    assert [each["url"] for each in sources] == ["http://prom:9090", *nodes]
    assert {each["type"] for each in sources} == {"prometheus"}
    assert len({each["uid"] for each in sources}) == 3
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,40}", each["uid"]) for each in sources)
    assert "secureJsonData" not in sources[0]
    for node in sources[1:]:
        assert node["jsonData"]["httpHeaderName1"] == "Authorization"
        # The token comes from Grafana's environment: no secret is in the file.
        assert node["secureJsonData"] == {"httpHeaderValue1": "Bearer $GPUMON_READ_TOKEN"}
    own = yaml.safe_load(files("", ["http://127.0.0.1:9519"])[PurePosixPath("provisioning/datasources/gpumon.yaml")])
    assert "secureJsonData" not in own["datasources"][0]
    assert "provisioning/datasources/gpumon.yaml" not in {str(place) for place in files("")}
    assert DEFAULT_PATH in files()[next(each for each in files() if each.match("provisioning/dashboards/*"))]
