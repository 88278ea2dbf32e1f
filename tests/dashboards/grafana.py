"""What Grafana does with a dashboard before it asks: which queries there are, and what the variables in them become.

After the front end of its Prometheus data source (npm @grafana/prometheus 13.1): escaping.mjs, variableMigration.mjs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Chosen = str | Sequence[str]

_LABEL_VALUES = re.compile(r"^label_values\((?:(.+),\s*)?([a-zA-Z_$][a-zA-Z0-9_]*)\)\s*$")
_QUERY_RESULT = re.compile(r"^query_result\((.+)\)\s*$")
_SPECIAL = re.compile(r"[$^*{}\[\]+?.()|]")
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")


@dataclass(frozen=True)
class Asked:
    """A panel's query."""

    panel: str
    letter: str
    expr: str
    instant: bool

    @property
    def name(self) -> str:
        """``Panel title`` or, of several queries, ``Panel title/B``."""
        return f"{self.panel}/{self.letter}"


def panels(dashboard: Json) -> Iterator[Json]:
    """All of them, those in folded rows too, without the rows' headings."""
    for panel in dashboard["panels"]:
        if panel.get("type") == "row":
            yield from panel["panels"]
        else:
            yield panel


def asked(dashboard: Json) -> Iterator[Asked]:
    """The queries of all panels."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Asked(panel["title"], target["refId"], target["expr"], bool(target.get("instant")))


def escaped(value: str, *, several: bool) -> str:
    """A chosen value, as it comes into a query: one that may be of several is a regular expression."""
    if not several:
        return value.replace("\\", "\\\\").replace("'", "\\\\'")
    return _SPECIAL.sub(r"\\\\\g<0>", value.replace("\\", "\\\\\\\\"))


def written(chosen: Chosen, variable: Json) -> str:
    """What stands for a variable. ``chosen``: a value, some of them, or ``$__all``'s, which are all there are."""
    several = bool(variable.get("multi") or variable.get("includeAll"))
    if isinstance(chosen, str):
        return escaped(chosen, several=several)
    texts = [escaped(each, several=True) for each in chosen]
    return texts[0] if len(texts) == 1 else f"({'|'.join(texts)})"


def filled(text: str, values: Mapping[str, str], *, step_s: int = 15, scrape_s: int = 15, range_s: int = 600) -> str:
    """A query with every variable in its place; ``values`` as ``written`` gives them. Fails where one is not known."""
    rate = max(step_s + scrape_s, 4 * scrape_s)
    known = {
        "__rate_interval": f"{rate}s",
        "__interval": f"{step_s}s",
        "__interval_ms": str(1000 * step_s),
        "__range": f"{range_s}s",
        "__range_s": str(range_s),
        "__range_ms": str(1000 * range_s),
        **values,
    }
    return _VARIABLE.sub(lambda found: known[found[1] or found[2]], text)


def label_values(query: str) -> tuple[str, str]:
    """The selector, "" for none, and the label of a variable's ``label_values``. Fails where it is none."""
    found = _LABEL_VALUES.match(query)
    assert found, query
    return found[1] or "", found[2]


def query_result(query: str) -> str:
    """The expression of a variable's ``query_result``, "" where it is none."""
    found = _QUERY_RESULT.match(query)
    return found[1] if found else ""


def text_of(variable: Json) -> str:
    """A variable's query: older dashboards have a plain text, newer ones an object."""
    query = variable["query"]
    return str(query["query"] if isinstance(query, dict) else query)
