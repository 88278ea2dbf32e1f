"""The kinds of panels of the dashboards: a graph, a number, states over time, a table."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from monitor.dashboards.build import GRID, SOURCE, Json, Panel

Steps = tuple[tuple[float | None, str], ...]
"""Where colors begin: ``(None, "green"), (80, "red")``."""
ABSENT = "–"
"""In place of a value that is not there."""
PLAIN: Steps = ((None, "text"),)
NONE_GOOD: Steps = ((None, "green"), (1, "red"))


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. ``instant``: of the end of the time range alone."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: what is asked for, and how it is shown. ``mappings``: words for values."""

    title: str
    expr: str
    unit: str = "short"
    steps: Steps = ()
    decimals: int | None = None
    mappings: tuple[tuple[float, str, str], ...] = ()
    """Value, words, color."""
    width: int = 0


@dataclass(frozen=True, slots=True)
class Key:
    """A label whose values tell a table's rows apart. ``link``: where a click on it leads."""

    label: str
    title: str
    link: str = ""
    width: int = 0


def graph(
    title: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    height: int = 8,
    description: str = "",
    top: float | None = None,
    bottom: float | None = 0,
    stacked: bool = False,
    bars: bool = False,
    dashed: str = "",
    steps: Steps = (),
) -> Panel:
    """Lines over time. ``dashed``: the legends, as a regular expression, of lines that are a limit. ``steps``: colored
    areas."""
    custom: Json = {"drawStyle": "bars" if bars else "line", "fillOpacity": 30 if stacked or bars else 8}
    custom |= {"lineWidth": 1, "showPoints": "never", "spanNulls": 120_000}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults: Json = {"unit": unit, "custom": custom, "color": {"mode": "palette-classic"}}
    if bottom is not None:
        defaults["min"] = bottom
    if top is not None:
        defaults["max"] = top
    if steps:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        defaults["thresholds"] = _thresholds(steps)
    overrides = []
    if dashed:
        overrides.append(
            _override(
                "byRegexp",
                f"/{dashed}/",
                {"custom.lineStyle": {"fill": "dash", "dash": [10, 10]}, "custom.fillOpacity": 0},
            )
        )
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, description, width, height, queries, defaults, overrides, options)


def stat(
    title: str,
    unit: str,
    expr: str,
    *,
    width: int = 3,
    height: int = 4,
    description: str = "",
    steps: Steps = PLAIN,
    legend: str = "",
    empty: str = "",
    trend: bool = False,
    decimals: int | None = None,
    mappings: tuple[tuple[float, str, str], ...] = (),
    colored: str = "value",
) -> Panel:
    """One large number, of now; with ``trend`` the time range as a line behind it. ``empty``: what is said where there
    is nothing. ``colored``: value, or background."""
    defaults: Json = {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": _thresholds(steps)}
    if empty:
        defaults["noValue"] = empty
    if decimals is not None:
        defaults["decimals"] = decimals
    defaults["mappings"] = _mappings(mappings)
    options = {
        "colorMode": colored,
        "graphMode": "area" if trend else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "name" if legend else "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    query = Query(expr, legend, instant=not trend)
    return _panel("stat", title, description, width, height, (query,), defaults, [], options)


def timeline(
    title: str,
    unit: str,
    *queries: Query,
    mappings: tuple[tuple[float, str, str], ...],
    width: int = 12,
    height: int = 8,
    description: str = "",
) -> Panel:
    """States over time, a bar for each series."""
    defaults: Json = {
        "unit": unit,
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "color": {"mode": "thresholds"},
        "mappings": _mappings(mappings),
        "thresholds": _thresholds(((None, "text"),)),
    }
    options = {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return _panel("state-timeline", title, description, width, height, queries, defaults, [], options)


def table(
    title: str,
    keys: Sequence[Key],
    columns: Sequence[Column],
    *,
    width: int = GRID,
    height: int = 9,
    description: str = "",
    sort: Sequence[tuple[str, bool]] = (),
    empty: str = "",
) -> Panel:
    """A row for each set of the keys' values, a column for each query. ``sort``: a column's title, and whether the
    highest comes first. ``empty``: what is said in place of the table where it has no rows; Grafana would say it in
    each empty cell, too. Of several queries ``Value #A`` is a column's field; of one alone it is ``Value``."""
    letters = string.ascii_uppercase
    fields = [f"Value #{letters[at]}" for at in range(len(columns))] if len(columns) > 1 else ["Value"]
    titles = [key.title for key in keys] + [column.title for column in columns]
    names = [key.label for key in keys] + fields
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": {name: at for at, name in enumerate(names)},
        "renameByName": dict(zip(names, titles, strict=True)),
    }
    overrides = []
    for key in keys:
        set_to: Json = {}
        if key.link:
            set_to["links"] = [{"title": f"{key.title} in full", "url": key.link}]
        if key.width:
            set_to["custom.width"] = key.width
        if empty:
            set_to["noValue"] = ABSENT
        if set_to:
            overrides.append(_override("byName", key.title, set_to))
    for column in columns:
        set_to = {"unit": column.unit}
        if column.decimals is not None:
            set_to["decimals"] = column.decimals
        if column.width:
            set_to["custom.width"] = column.width
        if empty:
            set_to["noValue"] = ABSENT
        set_to["mappings"] = _mappings(column.mappings)
        if column.steps:
            set_to["thresholds"] = _thresholds(column.steps)
        if column.steps or column.mappings:
            set_to["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
            set_to["color"] = {"mode": "thresholds"}
        overrides.append(_override("byName", column.title, set_to))
    defaults: Json = {"custom": {"align": "auto", "filterable": True, "minWidth": 70}}
    defaults["thresholds"] = _thresholds(((None, "transparent"),))
    if empty:
        defaults["noValue"] = empty
    options: Json = {"cellHeight": "sm", "showHeader": True}
    if sort:
        options["sortBy"] = [{"displayName": name, "desc": desc} for name, desc in sort]
    queries = tuple(Query(column.expr, instant=True) for column in columns)
    panel = _panel("table", title, description, width, height, queries, defaults, overrides, options)
    for target in panel.body["targets"]:
        target["format"] = "table"
    panel.body["transformations"] = [
        *([{"id": "merge", "options": {}}] if len(columns) > 1 else []),
        {"id": "organize", "options": organize},
    ]
    return panel


def _panel(
    kind: str,
    title: str,
    description: str,
    width: int,
    height: int,
    queries: Sequence[Query],
    defaults: Json,
    overrides: list[Json],
    options: Json,
) -> Panel:
    body: Json = {"type": kind, "title": title}
    if description:
        body["description"] = description
    body |= {
        "datasource": SOURCE,
        "targets": [_target(query, string.ascii_uppercase[at]) for at, query in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
    }
    return Panel(width, height, body)


def _target(query: Query, letter: str) -> Json:
    target: Json = {"refId": letter, "datasource": SOURCE, "editorMode": "code", "expr": query.expr}
    target |= {"instant": query.instant, "range": not query.instant}
    target["legendFormat"] = query.legend or "__auto"
    return target


def _override(matcher: str, what: str, properties: Json) -> Json:
    return {
        "matcher": {"id": matcher, "options": what},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]}


def _mappings(mappings: Sequence[tuple[float, str, str]]) -> list[Json]:
    """Words for values; NaN, such as the percentile of no requests, is nothing to show."""
    options = {
        f"{value:g}": {"text": words, "color": color, "index": at} for at, (value, words, color) in enumerate(mappings)
    }
    nothing = {"type": "special", "options": {"match": "nan", "result": {"text": ABSENT, "index": len(mappings)}}}
    return [*([{"type": "value", "options": options}] if mappings else []), nothing]
