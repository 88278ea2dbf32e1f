"""Several nodes, several servers, and servers that are not well."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.broken import answering, drip, garbage, http_500, silence
from tests.live.servers import Vllm, daemon, free_port, prometheus, wait_for

pytestmark = pytest.mark.live


def test_two_nodes_with_two_equal_servers_each_stay_apart_in_prometheus(tmp_path: Path) -> None:
    names = ("node1", "node2")
    with ExitStack() as stack:
        nodes = {
            name: stack.enter_context(
                daemon(tmp_path, {"alerting": {"evaluation_interval": "1s"}}, "--simulate", name=name)
            )
            for name in names
        }
        fleet = stack.enter_context(prometheus(tmp_path, {"gpumon": [node.instance for node in nodes.values()]}))
        expression = "count by (instance, server) (vllm:num_requests_running)"

        def servers() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for labels in fleet.query(expression):
                by = dict(labels)
                found.setdefault(by["instance"], set()).add(by["server"])
            return found

        everywhere = wait_for("two servers on each node", lambda: found if len(found := servers()) == 2 else None, 60)
        for name, node in nodes.items():
            assert len(everywhere[node.instance]) == 2, everywhere
            assert all(server.startswith(f"{name}:") for server in everywhere[node.instance]), everywhere
        for metric in ("DCGM_FI_DEV_GPU_UTIL", "gpumon_engine_gpu_info", "vllm:num_requests_running"):
            ours = set().union(*(set(node.query(metric)) for node in nodes.values()))
            assert sum(len(node.query(metric)) for node in nodes.values()) == len(ours), f"{metric} clashes"
            assert set(fleet.query(metric)) == ours
        # The join that rules use finds one partner for each GPU, on its own node.
        join = "DCGM_FI_DEV_GPU_UTIL * on (instance, gpu) group_left (server, engine) gpumon_engine_gpu_info"
        joined = fleet.query(join)
        assert joined
        hosts = {node.instance: name for name, node in nodes.items()}
        assert all(dict(labels)["server"].startswith(hosts[dict(labels)["instance"]] + ":") for labels in joined)


def test_servers_that_are_not_well_say_why_and_delay_nobody(vllm: Vllm, tmp_path: Path) -> None:
    with ExitStack() as stack:
        ports = {
            "there": vllm.port,
            "gone": free_port(),
            "failing": stack.enter_context(answering(http_500)),
            "garbled": stack.enter_context(answering(garbage)),
            "silent": stack.enter_context(answering(silence)),
            "dripping": stack.enter_context(answering(drip)),
        }
        servers = [{"url": f"http://127.0.0.1:{port}", "server": f"{name}:1"} for name, port in ports.items()]
        node = stack.enter_context(
            daemon(tmp_path, {"sources": {"host": {"interval": "1s"}, "vllm": {"interval": "1s", "servers": servers}}})
        )

        def settled() -> bool:
            asked = [each for key, each in node.sources().items() if key.startswith("vllm:")]
            return len(asked) == len(ports) and all(each["reason"] != "not asked yet" for each in asked)

        wait_for("every server was asked", settled, 30, node.process)
        begun = time.time()
        wait_for("20 seconds of watching", lambda: time.time() > begun + 20, 40, node.process)
        sources = node.sources()
        reasons = {name: sources[f"vllm:{name}:1"]["reason"] for name in ports}
        up = {name for name in ports if sources[f"vllm:{name}:1"]["up"]}
        assert up == {"there"}, reasons
        assert reasons["gone"] == "connection refused"
        assert reasons["failing"] == "HTTP 500"
        assert "line 1" in reasons["garbled"] or "not" in reasons["garbled"], reasons
        assert reasons["silent"] == "no answer in 2 s"
        assert reasons["dripping"] == "no answer in 2 s"
        told = {
            dict(labels)["server"]: value for labels, value in node.query('gpumon_source_up{source="vllm"}').items()
        }
        assert told == {f"{name}:1": "1" if name == "there" else "0" for name in ports}
        assert {dict(labels)["server"] for labels in node.query("vllm:num_requests_running")} == {"there:1"}
        # 20 polls at most; the two that hang, for 2 s each time, have cost the others none worth the name.
        for series in ('vllm:num_requests_running{server="there:1"}', "node_load1"):
            (count,) = node.query(f"count_over_time({series}[20s])").values()
            assert float(count) >= 15, series
