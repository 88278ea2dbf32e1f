"""examples/kubernetes, against the schemas of Kubernetes and of the operators that read it, and against gpumon's own
configuration. What runs on a real Prometheus is in ``tests/live/test_scaling.py``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from monitor.cli import cli
from monitor.commands.prometheusrule import prometheus_rule
from monitor.config import load
from monitor.rules.rule_file import default_rules_path
from tests.examples import custom_resources

TOP = Path(__file__).parents[2]
EXAMPLES = TOP / "examples" / "kubernetes"
PATCHES = (EXAMPLES / "tls" / "daemonset.yaml", EXAMPLES / "tls" / "podmonitor.yaml")
FILES = sorted(
    path
    for path in EXAMPLES.rglob("*.yaml")
    if path.name not in ("gpumon.yaml", "kustomization.yaml") and path not in PATCHES
)
VERSIONS = ("1.29", "1.33")
"""Of Kubernetes: an old one that is still met, and one of today."""
# What may stand as the value of a label, so also in a selector.
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def only(name: str, kind: str) -> dict[str, Any]:
    (found,) = (each for each in documents(EXAMPLES / name) if each["kind"] == kind)
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = only("daemonset.yaml", "DaemonSet")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_object_has_the_fields_that_its_kind_has_and_no_others(path: Path) -> None:
    found = documents(path)
    assert found
    for each in found:
        if path.name == "prometheus-adapter.yaml":
            jsonschema.validate(each, custom_resources.ADAPTER)
        elif "." in each["apiVersion"].split("/")[0] and not each["apiVersion"].endswith(".k8s.io/v1"):
            custom_resources.check(each)
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_no_object_has_is_refused() -> None:
    daemonset = only("daemonset.yaml", "DaemonSet")
    daemonset["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        kubernetes_validate.validate(daemonset, VERSIONS[0], strict=True)
    scaled = documents(EXAMPLES / "autoscaling" / "keda-scaledobject.yaml")[0]
    scaled["spec"]["triggers"][0]["metadata"]["threshold"] = 4
    with pytest.raises(jsonschema.ValidationError, match="4 is not of type 'string'"):
        custom_resources.check(scaled)


def test_the_configuration_is_one_that_the_daemon_takes() -> None:
    config = load(EXAMPLES / "gpumon.yaml")
    container = pod()["containers"][0]
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    assert container["args"] == ["daemon", "--config", "/etc/gpumon/gpumon.yaml"]
    assert "/etc/gpumon" in mounts
    # What it names is mounted, writable where it is written to.
    assert config.api.listen == ("0.0.0.0", container["ports"][0]["containerPort"])  # noqa: S104 - what it says
    for path in (config.state_directory, config.api.socket.parent):
        assert str(path) in mounts
        assert not mounts[str(path)].get("readOnly")
    assert str(config.rootfs) in mounts
    assert config.api.read_token is not None
    token = Path(config.api.read_token.value)
    assert str(token.parent) in mounts
    # Which is the key of the Secret that Prometheus is told to show.
    authorization = only("podmonitor.yaml", "PodMonitor")["spec"]["podMetricsEndpoints"][0]["authorization"]
    (secret,) = (each["secret"] for each in pod()["volumes"] if "secret" in each)
    assert authorization["credentials"] == {"name": secret["secretName"], "key": token.name}


def test_every_mount_has_its_volume_and_the_state_is_its_users() -> None:
    spec = pod()
    volumes = {each["name"]: each for each in spec["volumes"]}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert {each["name"] for each in container["volumeMounts"]} <= set(volumes)
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in security
    user = spec["securityContext"]["runAsUser"]
    (init,) = spec["initContainers"]
    assert init["command"] == ["chown", f"{user}:{user}", volumes["state"]["hostPath"]["path"]]
    containerfile = (TOP / "examples" / "container" / "Containerfile").read_text()
    assert f"USER {user}:{user}" in containerfile
    # Every path of the node but its state is only read.
    for each in spec["containers"][0]["volumeMounts"]:
        if "hostPath" in volumes[each["name"]]:
            assert each.get("readOnly") is (True if each["name"] != "state" else None), each
    # A journal's own directory would be made where there is none, and change where the node keeps its journal.
    assert not {volume["hostPath"]["path"] for volume in volumes.values() if "hostPath" in volume} & {
        "/var/log/journal",
        "/run/log/journal",
    }


def test_no_gpu_is_claimed() -> None:
    for container in pod()["containers"]:
        resources = container["resources"]
        assert not [name for part in resources.values() for name in part if "nvidia" in name]
        assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"} in container["env"]


def test_the_prometheusrule_is_alerts_yaml() -> None:
    """To write it anew: see its first line."""
    path = EXAMPLES / "prometheusrule.yaml"
    first, _, rest = path.read_text().partition("\n")
    command = first.partition(": ")[2].split()
    assert command[0] == "gpumon"
    ran = CliRunner().invoke(cli, command[1:])
    assert ran.exit_code == 0, ran.output
    assert rest == ran.output, f"write {path.name} anew: {' '.join(command)}"
    made = yaml.safe_load(rest)
    assert made["spec"] == yaml.safe_load(default_rules_path().read_text())
    # kubectl apply keeps a copy of it in an annotation.
    assert len(rest) < 200_000


def test_a_rule_file_that_cannot_be_moved_is_written_anew() -> None:
    groups = {"groups": [{"name": "g", "rules": [{"record": "a:b", "expr": "up\n  + 1"}]}]}
    for text in (str(groups).replace("'", '"'), "---\n" + yaml.safe_dump(groups), yaml.safe_dump(groups)):
        made = yaml.safe_load(prometheus_rule(text, "mine", "ns", {"a": "b"}))
        assert made["spec"] == groups
        assert made["metadata"] == {"name": "mine", "namespace": "ns", "labels": {"a": "b"}}
        custom_resources.check(made)


def test_a_rule_file_with_a_problem_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'up ==='}\n")
    ran = CliRunner().invoke(cli, ["prometheusrule", str(path)])
    assert ran.exit_code == 1
    assert f"{path}:4:" in ran.output
    ran = CliRunner().invoke(cli, ["prometheusrule", "--label", "x"])
    assert ran.exit_code == 2
    assert "expected NAME=VALUE" in ran.output


def test_the_hpa_asks_for_what_the_adapter_has_and_keda_for_the_same() -> None:
    rules = documents(EXAMPLES / "autoscaling" / "prometheus-adapter.yaml")[0]["externalRules"]
    hpa = only("autoscaling/hpa.yaml", "HorizontalPodAutoscaler")["spec"]
    keda = only("autoscaling/keda-scaledobject.yaml", "ScaledObject")["spec"]
    recorded = {
        rule["record"]
        for group in yaml.safe_load(default_rules_path().read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    series = {rule["name"]["as"]: rule["seriesQuery"].partition("{")[0] for rule in rules}
    assert set(series.values()) <= recorded
    for metric, trigger in zip(hpa["metrics"], keda["triggers"], strict=True):
        jsonschema.validate(trigger["metadata"], custom_resources.PROMETHEUS_TRIGGER)
        name = metric["external"]["metric"]["name"]
        assert f"({series[name]}{{" in trigger["metadata"]["query"]
        assert metric["external"]["target"]["averageValue"] == trigger["metadata"]["threshold"]
        for value in metric["external"]["metric"]["selector"]["matchLabels"].values():
            # A selector of Kubernetes takes no slash, so it cannot name `org/model`.
            assert LABEL_VALUE.fullmatch(value), value
            assert f'model_name="{value}"' in trigger["metadata"]["query"]
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])


def test_tls_changes_nothing_else() -> None:
    """A list is replaced by a patch, and a file of a ConfigMap by another: both stand there twice."""
    lines = (EXAMPLES / "gpumon.yaml").read_text().splitlines()[1:]
    secured = (EXAMPLES / "tls" / "gpumon.yaml").read_text().splitlines()[1:]
    assert [line for line in secured if not line.strip().startswith("tls:")] == lines
    config = load(EXAMPLES / "tls" / "gpumon.yaml")
    assert config.api.tls is not None
    (container,) = documents(PATCHES[0])[0]["spec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    assert {str(config.api.tls.cert_file.parent), str(config.api.tls.key_file.parent)} == {mount["mountPath"]}
    plain = only("podmonitor.yaml", "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    (endpoint,) = documents(PATCHES[1])[0]["spec"]["podMetricsEndpoints"]
    assert {**endpoint, "scheme": "http", "tlsConfig": None} == {**plain, "tlsConfig": None}
    certificate = only("tls/certificate.yaml", "Certificate")["spec"]
    assert endpoint["tlsConfig"]["serverName"] in certificate["dnsNames"]
    assert endpoint["tlsConfig"]["ca"]["secret"]["name"] == certificate["secretName"]


def built(folder: Path) -> dict[str, Any]:
    ran = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(ran.stdout)}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kubectl_builds_the_whole(tmp_path: Path) -> None:
    made = built(EXAMPLES)
    assert set(made) == {"Namespace", "ServiceAccount", "ConfigMap", "DaemonSet", "PodMonitor", "PrometheusRule"}
    assert made["ConfigMap"]["data"]["gpumon.yaml"] == (EXAMPLES / "gpumon.yaml").read_text()
    volumes = made["DaemonSet"]["spec"]["template"]["spec"]["volumes"]
    (config,) = (each["configMap"]["name"] for each in volumes if "configMap" in each)
    assert config == made["ConfigMap"]["metadata"]["name"] != "gpumon-config"  # it ends with a hash of its content
    assert {each["metadata"].get("namespace") for kind, each in made.items() if kind != "Namespace"} == {"gpumon"}

    copy = tmp_path / "kubernetes"
    shutil.copytree(EXAMPLES, copy)
    kustomization = copy / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("# components: [tls]", "components: [tls]"))
    secured = built(copy)
    assert set(secured) == {*made, "Certificate"}
    kubernetes_validate.validate(secured["DaemonSet"], VERSIONS[-1], strict=True)
    custom_resources.check(secured["PodMonitor"])
    assert secured["ConfigMap"]["data"]["gpumon.yaml"] == (EXAMPLES / "tls" / "gpumon.yaml").read_text()
    (container,) = secured["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    (before,) = made["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe].pop("httpGet") == {**before[probe].pop("httpGet"), "scheme": "HTTPS"}
        assert container[probe] == before[probe]
