"""What a Grafana dashboard is made of, and its JSON: rows, variables, places on the grid. ``panels`` has the panels.

The JSON is Grafana's classic model, which Grafana 11 and later read: ``SCHEMA_VERSION`` is that of Grafana 11, and
later ones bring it up to date when they load it. Only what differs from Grafana's defaults is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SCHEMA_VERSION = 39
GRID = 24
"""Columns of Grafana's grid."""
TAG = "gpumon"
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: its size on the grid, and its JSON without place and id."""

    width: int
    height: int
    body: Json


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, from left to right. ``folded`` hides them until they are asked for."""

    title: str
    panels: tuple[Panel, ...]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard, from ``label_values(selector, label)``."""

    name: str
    title: str
    selector: str
    multi: bool = True
    all_value: str = ".*"
    """What All stands for; "" for every value there is, by name."""

    @property
    def query(self) -> str:
        """The query, as Grafana's Prometheus data source reads it."""
        return f"label_values({self.selector}, {self.name})"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard. ``uid`` is what links and a Grafana know it by: it never changes."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    top: tuple[Panel, ...]
    """Above the first heading."""
    rows: tuple[Row, ...]
    alerts: str
    """The matchers of the alerts that are marked in all graphs."""
    span: str = "now-1h"
    tags: tuple[str, ...] = field(default=(TAG,))


def to_json(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana reads it. The same one gives the same JSON."""
    panels: list[Json] = []
    ids = iter(range(1, 1000))
    y = _place(dashboard.top, 0, ids, panels)
    for row in dashboard.rows:
        heading: Json = {"id": next(ids), "type": "row", "title": row.title, "collapsed": row.folded, "panels": []}
        heading["gridPos"] = {"x": 0, "y": y, "w": GRID, "h": 1}
        panels.append(heading)
        inside = heading["panels"] if row.folded else panels
        bottom = _place(row.panels, y + 1, ids, inside)
        # What is folded away takes no room.
        y = y + 1 if row.folded else bottom
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": list(dashboard.tags),
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": dashboard.span, "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "title": "gpumon",
                "tags": [TAG],
                "icon": "external link",
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "annotations": {"list": [_alert_marks(dashboard.alerts)]},
        "templating": {"list": [_source_variable(), *(_variable(each) for each in dashboard.variables)]},
        "panels": panels,
    }


def _place(panels: Sequence[Panel], y: int, ids: Any, into: list[Json]) -> int:
    """Give each its place from left to right, and return where the next row begins."""
    x = tallest = 0
    for panel in panels:
        if x + panel.width > GRID:
            x, y, tallest = 0, y + tallest, 0
        at = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        into.append({"id": next(ids), **panel.body, "gridPos": at})
        x += panel.width
        tallest = max(tallest, panel.height)
    return y + tallest


def _alert_marks(matchers: str) -> Json:
    expr = f'max by (alertname, severity, instance, gpu, server) (ALERTS{{alertstate="firing",{matchers}}})'
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": SOURCE,
        "target": {"refId": "Alerts", "expr": expr, "interval": "60s"},
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}} {{server}} {{gpu}}",
        "tagKeys": "severity,instance,server,gpu",
    }


def _source_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "hide": 0,
    }


def _variable(one: Variable) -> Json:
    found: Json = {
        "name": one.name,
        "label": one.title,
        "type": "query",
        "datasource": SOURCE,
        "definition": one.query,
        "query": {"refId": "StandardVariableQuery", "query": one.query},
        "refresh": 2,
        "regex": "",
        "sort": 3 if one.name == "gpu" else 1,
        "multi": one.multi,
        "includeAll": one.multi,
        "hide": 0,
    }
    if one.multi:
        found["current"] = {"text": ["All"], "value": ["$__all"]}
        if one.all_value:
            found["allValue"] = one.all_value
    return found
