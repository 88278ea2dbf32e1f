"""Reports as users get them: a scheduled one through a real mail server, one that is sent by hand, and one of a fleet
from a real Prometheus that scrapes two nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.live.receivers import json_receiver, mail_server
from tests.live.servers import PROJECT, daemon, prometheus, wait_for

pytestmark = pytest.mark.live

SPEED = 60
AHEAD = timedelta(minutes=9)
"""Of the node's time, which begins with the daemon."""


def gpumon(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def part(mail: EmailMessage, kind: str) -> EmailMessage:
    return next(one for one in mail.walk() if one.get_content_type() == kind)


def test_a_scheduled_report_reaches_a_mail_server_once_and_one_by_hand_a_chat(tmp_path: Path) -> None:
    due = datetime.now(UTC) + AHEAD
    with mail_server() as mails, json_receiver() as chat:
        url = tmp_path / "mail-url"
        url.write_text(f"mailto://127.0.0.1:{mails.port}?from=gpumon@node1.example&to=ops@ops.example\n")
        config = {
            "receivers": [
                {"name": "ops", "apprise": {"file": str(url)}},
                {"name": "chat", "apprise": f"json://127.0.0.1:{chat.port}/"},
            ],
            "route": {"receiver": "chat", "matchers": []} | {"group_wait": "1h"},
            "reports": [
                {
                    "name": "morning",
                    "schedule": f"daily {due:%H:%M}",
                    "since": "1h",
                    "receiver": "ops",
                    "price": "0.30 EUR/kWh",
                }
            ],
        }
        simulated = ("--simulate", "--speed", str(SPEED), "--past", "3600")
        with daemon(tmp_path, config, *simulated) as node:
            socket = f"unix:{tmp_path / 'node1' / 'gpumon.sock'}"
            (mail,) = wait_for("the mail", lambda: mails.with_subject("gpumon report"), 90, node.process)
            assert "morning: node1, 60 min" in str(mail["Subject"])
            text = part(mail, "text/plain").get_content()
            assert "generated" in text
            assert "Cost: " in text
            html = part(mail, "text/html").get_content()
            assert "<h2" in html
            assert "meta-llama" in html
            pictures = [one for one in mail.walk() if one.get_content_type() == "image/png"]
            assert len(pictures) == 5
            assert all(f'src="cid:{str(one["Content-ID"]).strip("<>")}"' in html for one in pictures)
            (listed,) = json.loads(gpumon("report", "--list", "--json", "--url", socket).stdout)
            assert listed["name"] == "morning"
            assert listed["last_sent_ms"] is not None
            assert not listed["waiting"]

            sent = gpumon("report", "--since", "30m", "--send", "chat", "--url", socket)
            assert sent.returncode == 0, sent.stderr
            (body,) = chat.with_title("gpumon report")
            lines = body["message"].splitlines()
            assert len(lines) <= 26
            assert lines[-1].startswith("Report: ")
            refused = gpumon("report", "--since", "30m", "--send", "chat", "--url", node.url)
            assert refused.returncode == 1
            assert "unix socket" in refused.stderr
            # What was sent is not sent again: a day of the node's is far.
            assert len(mails.with_subject("gpumon report")) == 1


def test_a_report_of_a_fleet_from_a_real_prometheus(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, {}, "--simulate", name="node1") as one,
        daemon(tmp_path, {}, "--simulate", "--hardware", "4xL40S", name="node2") as other,
        prometheus(tmp_path, {"gpumon": [one.instance, other.instance]}, rule_files=[]) as fleet,
    ):
        energy = "count by (instance) (increase(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION[5m]) > 0)"  # it is read seldom
        wait_for("both nodes use energy", lambda: len(fleet.query(energy)) == 2, 90, fleet.process)
        # A report ends with a whole minute: with this one, that its end need not be waited for.
        until = datetime.fromtimestamp(time.time() // 60 * 60 + 60, UTC).isoformat()
        found = gpumon("report", "--since", "4m", "--until", until, "--json", "--url", fleet.url)
        assert found.returncode == 0, found.stderr
        report = json.loads(found.stdout)
        assert report["fleet"]
        assert report["source"] == "2 nodes"
        nodes = {row["node"]: row["figures"] for row in report["nodes"]}
        assert sorted(node["gpus"] for node in nodes.values()) == [4, 8]
        assert report["figures"]["gpus"] == 12
        assert all(node["generation_tokens"] > 0 and node["energy_kwh"] > 0 for node in nodes.values())
        assert report["figures"]["energy_kwh"] == pytest.approx(sum(node["energy_kwh"] for node in nodes.values()))
        assert report["before"] is None
        assert report["simulated"]
        nothing = gpumon("report", "--since", "4m", "--until", "2020-01-01T00:00:00Z", "--url", fleet.url)
        assert nothing.returncode == 1
        assert "There are no readings in this period" in nothing.stdout
