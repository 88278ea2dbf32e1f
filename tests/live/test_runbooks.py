"""The link of each alert, in a real Prometheus and in a node, leads to that alert's runbook on the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor.rules.rule_file import default_rules_path
from tests.live.servers import QueryApi, daemon, get, prometheus, wait_for

pytestmark = pytest.mark.live


def linked(server: QueryApi) -> list[dict[str, Any]] | None:
    """The alerts that there are, once the one of no node and two more are, with their links."""
    found: list[dict[str, Any]] = server.api("alerts")["alerts"]
    names = {one["labels"]["alertname"] for one in found if one["annotations"].get("runbook_url")}
    return found if "Watchdog" in names and len(names) >= 3 else None


def test_every_link_of_both_leads_to_the_alerts_own_page(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, {}, "--simulate", "--speed", "20", "--past", "60") as node,
        prometheus(tmp_path, {"gpumon": [node.instance]}, rule_files=[default_rules_path()]) as fleet,
    ):
        for server in (fleet, node):
            alerts = wait_for("alerts with their links", lambda server=server: linked(server), 60)  # type: ignore[misc]
            for one in alerts:
                name, url = one["labels"]["alertname"], one["annotations"]["runbook_url"]
                assert url == f"http://{node.instance}/runbooks/{name}"
                page = get(url)
                assert page.status_code == 200
                assert f"<h1>{name}</h1>" in page.text
