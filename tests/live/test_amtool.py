"""Our `/api/v2` beside a real Alertmanager's: the same requests get the same answers, and a real amtool works."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.live import install_prometheus
from tests.live.receivers import json_receiver
from tests.live.servers import Daemon, alertmanager, daemon, wait_for

pytestmark = pytest.mark.live

TOKEN = "open-sesame-41"
ALERTS = {
    "Hot": ({"severity": "critical", "gpu": "3"}, {"summary": 'GPU 3 is "hot"'}),
    "Warm": ({"severity": "warning", "gpu": "3"}, {}),
    "Full": ({"severity": "warning", "gpu": "0"}, {}),
    "Night": ({"severity": "warning"}, {}),
}
RECEIVERS = ("team", "pager")
ROUTING: dict[str, Any] = {
    "route": {
        "receiver": "team",
        "group_by": ["alertname", "severity"],
        "group_wait": "1s",
        "routes": [
            {"receiver": "pager", "matchers": ['severity="critical"'], "continue": True},
            {"receiver": "team", "matchers": ["gpu=~[0-3]"]},
            {"receiver": "pager", "matchers": ["alertname=Night"], "mute_time_intervals": ["always"]},
        ],
    },
    "time_intervals": [{"name": "always", "time_intervals": [{"years": ["2000:2999"]}]}],
    "inhibit_rules": [{"source_matchers": ["alertname=Hot"], "target_matchers": ["alertname=Warm"], "equal": ["gpu"]}],
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def rules() -> str:
    group = {
        "name": "g",
        "interval": "1s",
        "rules": [
            {"alert": name, "expr": "vector(1)", "labels": labels, "annotations": annotations}
            for name, (labels, annotations) in ALERTS.items()
        ],
    }
    return json.dumps({"groups": [group]})


@contextmanager
def node(folder: Path, name: str = "node1") -> Iterator[Daemon]:
    """A simulated node with these alerts and routes, whose state is kept in ``folder/state``. Nobody takes what it
    sends."""
    (folder / "rules.json").write_text(rules())
    (folder / "token").write_text(TOKEN + "\n")
    config = {
        "state_directory": str(folder / "state"),
        "api": {"token": {"file": str(folder / "token")}},
        "alerting": {"rule_files": [str(folder / "rules.json")]},
        "receivers": [{"name": one, "webhook": f"http://127.0.0.1:1/{one}"} for one in RECEIVERS],
        **ROUTING,
    }
    with daemon(folder, config, "--simulate", name=name) as one:
        yield one


@dataclass
class Server:
    """One of the two, and what is different in each request and each run."""

    url: str
    headers: dict[str, str]
    idents: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with httpx.Client(base_url=self.url, headers=self.headers, trust_env=False, timeout=10) as client:
            return client.request(method, f"/api/v2/{path}", **options)

    def said(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and body, with times, ids and fingerprints by what they stand for."""
        answer = self.ask(method, path, **options)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        assert kind == ("application/json" if answer.content else ""), (method, path, kind)
        return answer.status_code, self.plain(answer.json() if answer.content else None)

    def plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.plain(each) for each in value]
        if not isinstance(value, str):
            return value
        value = "TIME" if _TIME.fullmatch(value) else self.idents.get(value, value)
        return _UUID.sub("UUID", value)

    def learn(self) -> None:
        """Know the alerts' fingerprints by their names."""
        for one in self.ask("GET", "alerts").json():
            assert re.fullmatch("[0-9a-f]{16}", one["fingerprint"])
            self.idents[one["fingerprint"]] = f"print of {one['labels']['alertname']}"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Ours and the real one, with the same alerts firing."""
    folder = tmp_path_factory.mktemp("both")
    real_config = {**ROUTING, "receivers": [{"name": one} for one in RECEIVERS]}
    with ExitStack() as stack:
        ours = Server(stack.enter_context(node(folder)).url, {"Authorization": f"Bearer {TOKEN}"})
        real = Server(stack.enter_context(alertmanager(folder, real_config)).url, {})
        posted = [
            {"labels": {"alertname": name, **labels}, "annotations": annotations}
            for name, (labels, annotations) in ALERTS.items()
        ]
        assert real.ask("POST", "alerts", json=posted).status_code == 200
        for one in (ours, real):
            wait_for("all alerts are there and grouped", partial(_is_settled, one), 30)
            one.learn()
        yield ours, real


def _is_settled(server: Server) -> bool:
    alerts, groups = server.ask("GET", "alerts").json(), server.ask("GET", "alerts/groups").json()
    muted = {alert["labels"]["alertname"]: alert["status"]["mutedBy"] for one in groups for alert in one["alerts"]}
    inhibited = any(one["status"]["inhibitedBy"] for one in alerts)
    return len(alerts) == len(ALERTS) and inhibited and muted.get("Night") == ["always"]


def wanted(**changes: Any) -> dict[str, Any]:
    """A silence to post; None leaves a field out."""
    now = datetime.now(UTC)
    body = {
        "matchers": [{"name": "alertname", "value": "Full", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "kim",
        "comment": "c",
        **changes,
    }
    return {key: value for key, value in body.items() if value is not None}


def matcher(**fields: Any) -> dict[str, Any]:
    return {"matchers": [fields]}


QUERIES = [
    "", "?active=false", "?inhibited=false", "?active=maybe", "?active=YES", "?receiver=pager", "?receiver=p.*",
    "?receiver=page", "?filter=gpu=3", '?filter=alertname=~"H.*|W.*"', "?filter=severity=warning&filter=gpu!=3",
    "?filter=gpu=", '?filter=gpu!=""', "?filter=nothing!=x", "?filter={gpu=3}", "?unknown=1", "?muted=false",
    "?silenced=false&unprocessed=false",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_alerts_and_groups_are_the_same(servers: tuple[Server, Server], query: str) -> None:
    found = []
    for one in servers:
        status, alerts = one.said("GET", f"alerts{query}")
        if isinstance(alerts, list):
            alerts = sorted(alerts, key=lambda alert: str(alert["labels"]["alertname"]))
        found.append((status, alerts, one.said("GET", f"alerts/groups{query}")))
    assert found[0] == found[1]


BAD: list[dict[str, Any]] = [
    {"matchers": None}, {"matchers": []}, {"startsAt": None}, {"endsAt": None}, {"createdBy": None}, {"comment": None},
    {"comment": 5}, {"startsAt": "tomorrow"}, {"endsAt": "2001-01-01T00:00:00Z"},
    {"startsAt": "2000-01-01T00:00:00Z", "endsAt": "2001-01-01T00:00:00Z"}, {"startsAt": "2999-01-01T00:00:00Z"},
    {"id": "nonsense"}, {"id": "0b7a4d0e-0000-4000-8000-000000000000"}, matcher(name="a"),
    matcher(name="a", isRegex=False), matcher(isRegex=False, value="b"), matcher(name="", value="b", isRegex=False),
    matcher(name="a", value="", isRegex=False), matcher(name="a", value="(", isRegex=True),
    matcher(name="a", value=".*", isRegex=True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "method", "options"),
    [
        ("alerts?filter=bad", "GET", {}),
        ("alerts?receiver=(", "GET", {}),
        ("silences?filter={a=", "GET", {}),
        ("nothing", "GET", {}),
        ("silence/nonsense", "GET", {}),
        ("silence/nonsense", "DELETE", {}),
        ("silence/0b7a4d0e-0000-4000-8000-000000000000", "GET", {}),
        ("silence/0b7a4d0e-0000-4000-8000-000000000000", "DELETE", {}),
        ("silences", "PUT", {}),
        ("silences", "POST", {"content": b""}),
        ("silences", "POST", {"content": b'{"a"', "headers": {"Content-Type": "application/json"}}),
        ("silences", "POST", {"content": b"null", "headers": {"Content-Type": "application/json"}}),
        ("silences", "POST", {"content": b"[]", "headers": {"Content-Type": "application/json"}}),
        ("silences", "POST", {"content": b"a=b", "headers": {"Content-Type": "text/plain"}}),
        *(("silences", "POST", {"json": wanted(**change)}) for change in BAD),
    ],
)  # fmt: skip
def test_refusals_are_the_same_in_status_and_form(
    servers: tuple[Server, Server], path: str, method: str, options: dict[str, Any]
) -> None:
    """The words may be our own, to say more; where Alertmanager has a number for what is wrong, it is the same."""

    def form(status: int, body: Any) -> tuple[int, Any]:
        return status, {**body, "message": "…"} if isinstance(body, dict) else type(body).__name__

    ours, real = (one.said(method, path, **options) for one in servers)
    assert form(*ours) == form(*real), (ours, real)
    assert ours[0] >= 400


def test_the_life_of_a_silence_is_the_same(servers: tuple[Server, Server]) -> None:
    told = []
    for one in servers:
        seen: list[Any] = []
        start = datetime.now(UTC)

        def post(one: Server = one, **changes: Any) -> str:
            answer = one.ask("POST", "silences", json=wanted(**changes))
            assert answer.status_code == 200, answer.text
            assert set(answer.json()) == {"silenceID"}
            return str(answer.json()["silenceID"])

        def look(one: Server = one, seen: list[Any] = seen) -> None:
            seen.append(one.said("GET", "silences"))
            status, alerts = one.said("GET", "alerts?silenced=true&active=false&inhibited=false")
            seen.append((status, sorted(str(alert["labels"]["alertname"]) for alert in alerts)))

        ident = post()
        look()
        shown = one.ask("GET", f"silence/{ident}").json()
        seen.append(one.said("GET", f"silence/{ident}"))
        # The end alone is a change of the same silence; another matcher makes a new one.
        longer = {**shown, "endsAt": (start + timedelta(hours=2)).isoformat(), "comment": "longer"}
        seen.append(post(**longer) == ident)
        look()
        other = post(**{**longer, "matchers": [{"name": "gpu", "value": "0", "isRegex": False}]})
        seen.append(other == ident)
        look()
        later = post(startsAt=(start + timedelta(hours=1)).isoformat(), endsAt=(start + timedelta(days=1)).isoformat())
        look()
        queries = ("gpu=0", "alertname=Full", "gpu!=0", 'alertname=~"F.*"', "x=")
        seen += [one.said("GET", f"silences?filter={query}") for query in queries]
        seen += [one.said("DELETE", f"silence/{each}") for each in (other, later, other)]
        look()
        # What is over is made anew.
        again = post(**{**shown, "endsAt": (start + timedelta(hours=3)).isoformat()})
        seen.append(again in (ident, other, later))
        look()
        seen.append(one.said("DELETE", f"silence/{again}"))
        told.append(seen)
    for ours, real in zip(*told, strict=True):
        assert ours == real


def test_status_and_receivers_have_the_same_fields(servers: tuple[Server, Server]) -> None:
    ours, real = (one.said("GET", "status")[1] for one in servers)
    assert set(ours) == set(real)
    assert set(ours["versionInfo"]) == set(real["versionInfo"])
    assert ours["versionInfo"]["version"] == real["versionInfo"]["version"]
    assert (ours["uptime"], ours["cluster"]) == (real["uptime"], real["cluster"])
    mine, theirs = (yaml.safe_load(one["config"]["original"]) for one in (ours, real))
    assert [route["receiver"] for route in mine["route"]["routes"]] == [
        route["receiver"] for route in theirs["route"]["routes"]
    ]
    assert servers[0].said("GET", "receivers") == servers[1].said("GET", "receivers")


# -- amtool ------------------------------------------------------------------------------------------------------------


class Amtool:
    """A real amtool that asks one server, with the token or without."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self._config = folder / "amtool-http.yml"
        self._config.write_text(json.dumps({"authorization": {"credentials": TOKEN}}))
        self._home = folder

    def run(self, *arguments: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [install_prometheus.amtool(), f"--alertmanager.url={self.url}"]
        if token:
            command.append(f"--http.config.file={self._config}")
        environment = {**os.environ, "HOME": str(self._home), "NO_PROXY": "127.0.0.1"}
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
        )

    def __call__(self, *arguments: str) -> str:
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == "", "no warning, of another version say"
        return ran.stdout


@pytest.fixture
def amtool(servers: tuple[Server, Server], tmp_path: Path) -> Amtool:
    return Amtool(tmp_path, servers[0].url)


def test_amtool_queries_alerts(amtool: Amtool) -> None:
    lines = amtool("alert", "query").splitlines()
    assert lines[0].split()[:2] == ["Alertname", "Starts"]
    assert sorted(line.split()[0] for line in lines[1:]) == ["Full", "Hot", "Night"]
    assert [line.split()[0] for line in amtool("alert", "query", "--inhibited").splitlines()[1:]] == ["Warm"]
    assert "Full" in amtool("alert", "query", "gpu=0")
    assert "Hot" not in amtool("alert", "query", "gpu=0")
    assert "Hot" in amtool("alert", "query", "--receiver=pager")
    found = json.loads(amtool("-o", "json", "alert", "query", "Hot"))
    assert found[0]["annotations"] == {"summary": 'GPU 3 is "hot"'}


def test_amtool_adds_lists_changes_and_expires_a_silence(amtool: Amtool) -> None:
    ident = amtool("silence", "add", "Full", 'gpu=~"0|1"', "-c", "memory test", "-a", "kim", "-d", "1h").strip()
    assert _UUID.fullmatch(ident)
    listed = amtool("silence", "query").splitlines()
    assert len(listed) == 2
    assert listed[1].startswith(ident)
    assert 'alertname="Full" gpu=~"0|1"' in listed[1]
    assert "kim" in listed[1]
    assert "memory test" in listed[1]
    assert [line.split()[0] for line in amtool("alert", "query", "--silenced").splitlines()[1:]] == ["Full"]
    assert "Full" not in amtool("alert", "query")
    assert amtool("silence", "query", "Full", "-q").split() == [ident]
    assert amtool("silence", "query", "Hot", "-q") == ""
    updated = amtool("-o", "json", "silence", "update", ident, "-d", "3h", "-c", "takes longer")
    assert ident in updated
    (found,) = json.loads(amtool("-o", "json", "silence", "query"))
    assert found["comment"] == "takes longer"
    assert amtool("silence", "expire", ident) == ""
    assert amtool("silence", "query", "-q") == ""
    assert ident in amtool("silence", "query", "--expired", "-q").split()
    assert "Full" in amtool("alert", "query")
    assert amtool("alert", "query", "--silenced").splitlines()[1:] == []


def test_amtool_shows_the_configuration_and_walks_its_routes(amtool: Amtool) -> None:
    shown = yaml.safe_load(amtool("config", "show"))
    assert [one["name"] for one in shown["receivers"]] == list(RECEIVERS)
    tree = amtool("config", "routes", "show")
    assert 'severity="critical"' in tree
    assert amtool("config", "routes", "test", "severity=critical", "gpu=3").split() == ["pager,team"]
    assert amtool("config", "routes", "test", "severity=warning").split() == ["team"]


def test_amtool_changes_nothing_without_the_token(amtool: Amtool) -> None:
    ran = amtool.run("silence", "add", "Full", "-c", "c", "-a", "kim", token=False)
    assert ran.returncode == 1
    assert "(status 403)" in ran.stderr
    assert amtool.run("alert", "add", "Own", token=True).returncode == 1


def test_what_is_silenced_is_told_when_the_silence_ends(tmp_path: Path) -> None:
    begins = int(time.time()) + 15  # time enough to silence before it fires
    alerts = [{"alert": name, "expr": f"vector(time()) > {begins}"} for name in ("Silenced", "Heard")]
    file = tmp_path / "late.json"
    file.write_text(json.dumps({"groups": [{"name": "g", "interval": "1s", "rules": alerts}]}))
    (tmp_path / "token").write_text(TOKEN)
    with json_receiver() as hook:
        config = {
            "api": {"token": {"file": str(tmp_path / "token")}},
            "alerting": {"rule_files": [str(file)]},
            "receivers": [{"name": "hook", "webhook": f"http://127.0.0.1:{hook.port}/"}],
            "route": {"receiver": "hook", "group_wait": "0s", "group_interval": "1s"},
        }

        def told() -> list[str]:
            return [alert["labels"]["alertname"] for body in hook.bodies for alert in body["alerts"]]

        with daemon(tmp_path, config, "--simulate") as one:
            tool = Amtool(tmp_path, one.url)
            ident = tool("silence", "add", "Silenced", "-c", "c", "-a", "kim", "-d", "1h").strip()
            wait_for("the other is told", lambda: told() == ["Heard"], 60, one.process)
            wait_for("it fires", lambda: "Silenced" in tool("alert", "query", "--silenced"), 20, one.process)
            time.sleep(3)  # several evaluations
            assert told() == ["Heard"]
            tool("silence", "expire", ident)
            wait_for("the silenced one is told", lambda: told() == ["Heard", "Silenced"], 30, one.process)


def test_silences_survive_a_kill(tmp_path: Path) -> None:
    """``kill -9`` at once after amtool had its answer."""
    kept: dict[str, str] = {}
    for turn in range(3):
        with node(tmp_path, f"node{turn}") as one:
            tool = Amtool(tmp_path, one.url)
            found = {each["id"]: each["status"]["state"] for each in _all_silences(tool)}
            assert found == kept
            made = tool("silence", "add", "Full", "-c", f"turn {turn}", "-a", "kim", "-d", "1h").strip()
            ended = tool("silence", "add", "Hot", "-c", "c", "-a", "kim", "-d", "1h").strip()
            tool("silence", "expire", ended)
            kept |= {made: "active", ended: "expired"}
            os.kill(one.process.pid, signal.SIGKILL)
            wait_for("the daemon is gone", partial(_has_ended, one), 20)


def _has_ended(one: Daemon) -> bool:
    return not one.process.alive


def _all_silences(tool: Amtool) -> list[dict[str, Any]]:
    with httpx.Client(trust_env=False, timeout=10) as client:
        found: list[dict[str, Any]] = client.get(f"{tool.url}/api/v2/silences").json()
    return found
