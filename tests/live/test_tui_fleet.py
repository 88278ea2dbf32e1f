"""The terminal before a real Prometheus: a fleet of simulated nodes, one of them opened, and a hundred of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from monitor.client.api import Client
from monitor.client.fleet import fleet_of as fleet_behind
from monitor.client.snapshot import Snapshot
from monitor.tui.app import GpumonApp
from monitor.tui.server import Server, live_feed
from tests.live import install_prometheus
from tests.live.servers import PROJECT, Daemon, Prometheus, daemon, free_port, get, prometheus, running, wait_for
from tests.tui.screen import settle, text_of

pytestmark = pytest.mark.live


async def until(app: GpumonApp, pilot: Pilot[None], what: str, look: Callable[[str], bool]) -> str:
    """Wait until the screen is as wished; what is on it then. The deadline only ends a failure."""
    deadline = time.monotonic() + 60
    while True:
        await settle(app, pilot)
        text = "\n".join(text_of(app))
        if look(text):
            return text
        assert time.monotonic() < deadline, f"{what}:\n{text}"
        await asyncio.sleep(0.1)


def show(url: str, look: Callable[[GpumonApp, Pilot[None]], object]) -> None:
    """Open the terminal interface before a server."""

    async def main() -> None:
        app = GpumonApp(live_feed(url), server=Server(url), dial=lambda node: (live_feed(node), Server(node)))
        async with app.run_test(size=(120, 40)) as pilot:
            await look(app, pilot)  # type: ignore[misc]

    asyncio.run(main())


def scraped(fleet: Prometheus, nodes: int) -> None:
    def rates() -> bool:
        return len(fleet.query("rate(vllm:generation_tokens_total[2m])")) >= 2 * nodes

    wait_for("two scrapes of every node", rates, 60, fleet.process)


def test_a_prometheus_of_two_nodes_is_a_fleet_and_each_screen_has_what_it_can(tmp_path: Path) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(daemon(tmp_path, {}, "--simulate", name=name)) for name in ("node1", "node2")]
        fleet = stack.enter_context(
            prometheus(tmp_path, {"gpumon": [one.instance for one in nodes]}, rule_files=[PROJECT / "alerts.yaml"])
        )
        scraped(fleet, 2)

        async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
            text = await until(app, pilot, "the fleet", lambda text: "node1" in text and "node2" in text)
            assert text.startswith("gpumon  2 nodes")
            assert "16 GPUs" in text
            name = next(line for line in text.split("\n") if line.startswith("▌")).split()[1]
            other = "node1" if name == "node2" else "node2"
            await pilot.press("enter")
            text = await until(app, pilot, "the node", lambda text: f"vLLM {name}:8000" in text)
            assert text.startswith(f"gpumon  {name}  9 fleet: 2 nodes of 127.0.0.1:")
            assert "a Prometheus: no processes" in text
            assert "nvml ok" in text, "sources are told by their series"
            assert f"{other}:8000" not in text
            for key, words in (
                ("2", "GPUs  8"),
                ("3", f"{name}:8001"),
                ("4", "alerts"),
                ("5", "a Prometheus has no processes"),
                ("6", "filesystems"),
                ("7", "a Prometheus keeps alerts alone"),
                ("8", f"{name}:8000"),
            ):
                await pilot.press(key)
                text = await until(app, pilot, f"screen {key}", lambda text, words=words: words in text)  # type: ignore[misc]
                assert f"{other}:80" not in text, f"screen {key} is of the other node too"
            await pilot.press("9")
            await until(app, pilot, "the fleet again", lambda text: text.startswith("gpumon  2 nodes"))
            nodes[0].process.stop()
            text = await until(app, pilot, "a node that is down", lambda text: "1 down" in text)
            row = next(line for line in text.split("\n") if "down" in line and "node1" in line)
            assert "no exporter answers" in row

        show(fleet.url, look)


@contextmanager
def many(folder: Path, node: Daemon, nodes: int) -> Iterator[Prometheus]:
    """A Prometheus for which one daemon plays so many nodes."""
    home, port = folder / "many", free_port()
    home.mkdir()
    targets = [
        {"targets": [node.instance], "labels": {"instance": f"gpu-{number:03d}:9519"}} for number in range(nodes)
    ]
    config = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "scrape_configs": [
            {
                "job_name": "gpumon",
                "static_configs": targets,
                "metric_relabel_configs": [{"action": "labeldrop", "regex": "Hostname"}],
            }
        ],
    }
    file = home / "prometheus.yml"
    file.write_text(json.dumps(config))
    command: list[str | Path] = [
        install_prometheus.prometheus_bin() / "prometheus", f"--config.file={file}",
        f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running("many", command, folder, lambda: get(f"{url}/-/ready").status_code == 200) as process:
        yield Prometheus(url, process)


def test_a_hundred_nodes_of_eight_gpus_are_one_picture(tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = stack.enter_context(daemon(tmp_path, {}, "--simulate", name="node1"))
        fleet = stack.enter_context(many(tmp_path, node, 100))
        scraped(fleet, 100)

        async def look() -> list[tuple[float, Snapshot]]:
            found = []
            async with Client(fleet.url) as client:
                seen = await fleet_behind(client)
                assert seen is not None
                for _ in range(5):
                    begun = time.perf_counter()
                    picture = await seen.look(round(time.time() * 1000))
                    found.append((time.perf_counter() - begun, picture))
                    await asyncio.sleep(1)
            return found

        found = asyncio.run(look())
        picture = found[-1][1]
        assert len(picture.fleet) == 100
        assert sum(len(one.utilization) for one in picture.fleet) == 800
        assert all(one.up and one.servers_up == 2 and one.cpu is not None for one in picture.fleet)
        # A second on a machine that has nothing else to do; how long it took here is to be seen with -s.
        print("seconds for a picture of 100 nodes:", [round(seconds, 3) for seconds, _ in found])
