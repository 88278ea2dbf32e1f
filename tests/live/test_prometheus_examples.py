"""The examples for Prometheus, as they are in examples/prometheus: promtool takes each, and an agent beside a node with
a central Prometheus that it writes to is the same as a plain scrape.

What is replaced in the files is what a person replaces: names, ports and passwords; and intervals, so that it does not
take minutes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.live import install_prometheus
from tests.live.servers import PROJECT, Daemon, Prometheus, daemon, free_port, get, running, wait_for

pytestmark = pytest.mark.live

EXAMPLES = PROJECT / "examples" / "prometheus"
SCRAPING = ("prometheus.yml", "prometheus-file-sd.yml", "prometheus-kubernetes.yml", "central.yml")
NODE = "gpu-01"
PASSWORD = "of the test"
HASH = "$2b$10$zGPpWrDiZolKrFdU5QzOJuZbW5856675dOlm3S2Ijb137QiuVY1xK"
SPEED = 20


def copied(folder: Path) -> Path:
    """The examples, with the secrets that a person puts beside them."""
    home = folder / "examples"
    shutil.copytree(EXAMPLES, home)
    for name in ("gpumon-read-token", "gpumon-ca.crt", "remote-write-password", "prometheus.crt", "prometheus.key"):
        (home / name).write_text(PASSWORD)
    return home


def change(file: Path, *pairs: tuple[str, str]) -> None:
    """Replace texts that must be there."""
    text = file.read_text()
    for old, new in pairs:
        assert old in text, f"{file.name} has no {old!r} any more"
        text = text.replace(old, new)
    file.write_text(text)


def promtool(home: Path, *arguments: str) -> str:
    """What it says; fails where it is not content."""
    command: list[str | Path] = [install_prometheus.prometheus_bin() / "promtool", *arguments]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_takes_every_example(tmp_path: Path) -> None:
    home = copied(tmp_path)
    assert (home / "alerts.yaml").read_text() == (PROJECT / "alerts.yaml").read_text(), "the rules are as shipped"
    for name in SCRAPING:
        assert "FAILED" not in promtool(home, "check", "config", name)
    promtool(home, "check", "config", "--agent", "agent.yml")
    promtool(home, "test", "rules", "nodes_test.yaml")
    if (openssl := shutil.which("openssl")) is not None:
        made = ["-keyout", "prometheus.key", "-out", "prometheus.crt", "-subj", "/CN=prometheus.example.com"]
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", *made]
        subprocess.run(command, cwd=home, check=True, capture_output=True, timeout=60)
        promtool(home, "check", "web-config", "central-web.yml")
    named = {one.name for one in EXAMPLES.glob("*.yml")}
    assert named == {*SCRAPING, "agent.yml", "central-web.yml"}, "one that is not looked at"


def test_pods_are_scraped_where_their_annotations_say(tmp_path: Path) -> None:
    """The relabelling, in Prometheus' own hands: targets with the labels that its discovery of pods gives."""
    home = copied(tmp_path)
    config = yaml.safe_load((home / "prometheus-kubernetes.yml").read_text())
    (job,) = config["scrape_configs"]
    del job["kubernetes_sd_configs"], config["rule_files"], config["alerting"]
    annotated = "__meta_kubernetes_pod_annotation_prometheus_io_"

    def pod(ip: str, node: str, app: str = "gpumon", phase: str = "Running", **annotations: str) -> dict[str, object]:
        meta = {f"{annotated}{key}": value for key, value in annotations.items()}
        labels = {"__meta_kubernetes_pod_ip": ip, "__meta_kubernetes_pod_node_name": node}
        labels |= {"__meta_kubernetes_pod_label_app_kubernetes_io_name": app, "__meta_kubernetes_pod_phase": phase}
        return {"targets": [f"{ip}:1"], "labels": labels | meta}

    pods = [
        pod("10.0.0.1", "gpu-01", scrape="true", port="9519"),
        pod("10.0.0.2", "gpu-02", scrape="true", port="9600", path="/m", scheme="https"),
        pod("fd00::3", "gpu-03", scrape="true", port="9519"),
        pod("10.0.0.4", "gpu-04", scrape="false", port="9519"),
        pod("10.0.0.5", "gpu-05", port="9519"),
        pod("10.0.0.6", "gpu-06", app="other", scrape="true", port="9519"),
        pod("10.0.0.7", "gpu-07", phase="Succeeded", scrape="true", port="9519"),
    ]
    job["static_configs"] = pods
    (home / "pods.yml").write_text(yaml.safe_dump(config))
    with serving(home, "pods.yml", "pods") as found:
        targets = wait_for("the targets", lambda: found.api("targets")["activeTargets"], 30, found.process)
    assert {(one["labels"]["instance"], one["scrapeUrl"]) for one in targets} == {
        ("gpu-01:9519", "http://10.0.0.1:9519/metrics"),
        ("gpu-02:9600", "https://10.0.0.2:9600/m"),
        ("gpu-03:9519", "http://[fd00::3]:9519/metrics"),
    }
    assert {one["labels"]["job"] for one in targets} == {"gpumon"}


@contextmanager
def serving(home: Path, config: str, name: str, *arguments: str, user: str = "") -> Iterator[Prometheus]:
    """A Prometheus with a configuration of the examples."""
    port = free_port()
    command: list[str | Path] = [
        install_prometheus.prometheus_bin() / "prometheus", f"--config.file={home / config}",
        f"--storage.tsdb.path={home.parent / name}", f"--web.listen-address=127.0.0.1:{port}", *arguments,
    ]  # fmt: skip
    url = f"http://{user}127.0.0.1:{port}"
    with running(name, command, home.parent, lambda: get(f"{url}/-/ready").status_code == 200) as process:
        yield Prometheus(url, process)


@contextmanager
def agent(home: Path, node: Daemon, central: Prometheus) -> Iterator[None]:
    """The agent beside the node, with the file of the examples."""
    port, receiver = free_port(), central.url.rpartition("@")[2]
    change(
        home / "agent.yml",
        ("127.0.0.1:9519", node.instance),
        ("https://prometheus.example.com:9090", f"http://{receiver}"),
        ("scrape_interval: 15s", "scrape_interval: 1s"),
    )
    command: list[str | Path] = [
        install_prometheus.prometheus_bin() / "prometheus", "--agent", f"--config.file={home / 'agent.yml'}",
        f"--storage.agent.path={home.parent / 'agent'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    unit = (EXAMPLES / "gpumon-prometheus-agent.service").read_text()
    (name,) = re.findall(r"^Environment=(\w+)=%H$", unit, re.MULTILINE)
    ready = f"http://127.0.0.1:{port}/-/ready"
    with running("agent", command, home.parent, lambda: get(ready).status_code == 200, environment={name: NODE}):
        yield


def fired(where: Prometheus, name: str) -> bool:
    """Whether an alert fires of the node."""
    selector = f'ALERTS{{alertname="{name}",alertstate="firing",instance="{NODE}:9519",job="gpumon"}}'
    return bool(where.query(selector))


def test_an_agent_that_writes_to_a_central_prometheus_is_as_a_plain_scrape(tmp_path: Path) -> None:
    home = copied(tmp_path)
    alerting = f"localhost:{free_port()}"
    fast = ("evaluation_interval: 15s", "evaluation_interval: 1s")
    change(home / "central.yml", fast, ("localhost:9093", alerting))
    web = yaml.safe_load((home / "central-web.yml").read_text())
    del web["tls_server_config"]
    web["basic_auth_users"]["gpumon"] = HASH
    (home / "central-web.yml").write_text(yaml.safe_dump(web))
    change(home / "nodes.yaml", ("for: 2m", "for: 1s"))
    change(home / "silent-nodes.yaml", ("for: 5m", "for: 1s"))
    with daemon(tmp_path, {}, "--simulate", "--hardware", "4xL40S", "--speed", str(SPEED), name=NODE) as node:
        change(
            home / "prometheus.yml",
            fast,
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("- gpu-01.example.com:9519", f"- {node.instance}"),
            ("          - gpu-02.example.com:9519\n", f"        labels: {{instance: '{NODE}:9519'}}\n"),
            ("localhost:9093", alerting),
        )
        options = ["--web.enable-remote-write-receiver", f"--web.config.file={home / 'central-web.yml'}"]
        # What has not been heard of for so long is gone: five minutes, where nobody is in a hurry.
        options.append("--query.lookback-delta=5s")
        with (
            serving(home, "prometheus.yml", "plain") as plain,
            serving(
                home, "central.yml", "central", *options, user=f"gpumon:{PASSWORD.replace(' ', '%20')}@"
            ) as central,
        ):
            with agent(home, node, central):
                recorded = {
                    rule["record"]
                    for group in yaml.safe_load((PROJECT / "alerts.yaml").read_text())["groups"]
                    for rule in group["rules"]
                    if "record" in rule
                }

                def series(where: Prometheus) -> set[tuple[tuple[str, str], ...]]:
                    """All that is scraped of the node."""
                    found = where.query('{job="gpumon",__name__!~"ALERTS.*"}')
                    return {labels for labels in found if dict(labels)["__name__"] not in recorded}

                def difference() -> set[tuple[tuple[str, str], ...]] | None:
                    one, other = series(plain), series(central)
                    return None if len(one) < 500 or one != other else one

                same = wait_for("the same series on both sides", difference, 60, central.process)
                assert {(dict(labels)["instance"], dict(labels)["job"]) for labels in same} == {
                    (f"{NODE}:9519", "gpumon")
                }
                assert "up" in {dict(labels)["__name__"] for labels in same}
                assert not any("gpumon_node" in dict(labels) for labels in same)
                wait_for("GpuTooHot at the centre", lambda: fired(central, "GpuTooHot"), 60, central.process)
                node.process.stop()
                wait_for("GpumonNodeDown at the centre", lambda: fired(central, "GpumonNodeDown"), 60, central.process)
                assert not fired(central, "GpumonNodeSilent")
            wait_for("GpumonNodeSilent", lambda: fired(central, "GpumonNodeSilent"), 60, central.process)
            assert fired(plain, "GpumonNodeDown")
