"""``gpumon probe`` as a process: through a daemon's API whose runs only say that they load something, and by itself
against a server of known pace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.client.discover import SYSTEM_SOCKET
from monitor.client.probes import Probes
from monitor.commands.probe_group import _COMMON, commands
from monitor.commands.probe_run import Asked, Wrong, exit_code
from monitor.probes.pace import PaceServer
from monitor.probes.pace_engine import Pace
from monitor.probes.schema import RunDetail, RunRow, Slo, Spec
from monitor.probes.workloads import WORKLOADS
from tests.api.probing import play, serving
from tests.api.running import Running

PATIENCE = 60.0


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Gpumon:
    """Runs the command in a folder, against a daemon."""

    def __init__(self, folder: Path, daemon: str = "", **environment: str) -> None:
        self.folder = folder
        self._environment = {**os.environ, "HOME": str(folder), "GPUMON_URL": daemon, "NO_COLOR": "1", **environment}
        self._environment.pop("XDG_RUNTIME_DIR", None)
        self._environment["PYTHONPATH"] = str(Path(__file__).parents[2])

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "monitor",
            "probe",
            *arguments,
            cwd=self.folder,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def end(self, process: asyncio.subprocess.Process) -> Said:
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    async def __call__(self, *arguments: str) -> Said:
        return await self.end(await self.begin(*arguments))


def story(folder: Path, work: Callable[[Gpumon, Probes], Awaitable[None]]) -> None:
    """Play with a daemon's API."""

    async def run(one: Running, probes: Probes) -> None:
        await work(Gpumon(folder, f"unix:{one.socket}"), probes)

    play(folder, run)


def test_a_run_by_the_daemon_and_what_is_kept_of_it(tmp_path: Path) -> None:
    async def work(gpumon: Gpumon, probes: Probes) -> None:
        said = await gpumon("throughput", "--label", "play=done", "--name", "First try", "--max", "4")
        assert said.code == 0, said.err
        assert "throughput against n1:8000: done" in said.out
        assert "concurrency 2" in said.out
        assert "the knee is at 2" in said.out
        (row,) = (await probes.listing()).runs
        assert re.fullmatch(r"\d{8}-\d{6}-first-try", row.id)
        assert (await probes.detail(row.id)).spec.options == {"max": 4}
        folder = tmp_path / "results" / f"{row.id}"
        # The test's daemon keeps its own in the same place: ours is beside it, over nothing.
        assert f"files: results/{row.id}-2" in said.out
        assert (folder.with_name(f"{row.id}-2") / "steps" / "01.json").read_text() == "{}"
        listed = await gpumon("list")
        assert row.id in listed.out
        assert "output_throughput 200 tok/s" in listed.out
        assert json.loads((await gpumon("list", "--json")).out)[0]["id"] == row.id
        shown = await gpumon("show", "First try")
        assert "a note" in shown.out
        assert "max=4" in shown.out
        assert json.loads((await gpumon("show", row.id, "--json")).out)["row"]["id"] == row.id
        named = await gpumon("baseline", row.id, "fp16")
        assert "is the baseline fp16" in named.out
        assert (await gpumon("report", "fp16")).out == f"# {row.id}\n"
        refused = await gpumon("delete", row.id)
        assert refused.code == 1
        assert "is the baseline 'fp16'" in refused.err
        assert (await gpumon("baseline", row.id)).code == 0
        assert (await gpumon("delete", "First try")).code == 2  # by its id alone
        assert (await gpumon("delete", row.id)).code == 0
        assert "no run is kept here" in (await gpumon("list")).out
        assert (await gpumon("show", row.id)).code == 2

    story(tmp_path, work)


@pytest.mark.parametrize(
    ("plays", "code", "words"),
    [
        ("busy", 3, "--yes loads it anyway"),
        ("crash", 1, "lost"),
    ],
)
def test_exit_codes(tmp_path: Path, plays: str, code: int, words: str) -> None:
    async def work(gpumon: Gpumon, probes: Probes) -> None:
        said = await gpumon("latency", "--label", f"play={plays}")
        assert said.code == code
        assert words in said.out + said.err

    story(tmp_path, work)


def test_a_result_that_does_not_count_is_no_success(tmp_path: Path) -> None:
    async def work(gpumon: Gpumon, probes: Probes) -> None:
        said = await gpumon("latency", "--label", "play=done", "--label", "invalid=yes", "--json")
        assert said.code == 1
        assert json.loads(said.out)["invalid"] == ["cached tokens: 512"]
        assert os.listdir(os.path.join(tmp_path, json.loads(said.out)["folder"]))

    story(tmp_path, work)


def test_a_result_that_could_not_be_written_is_no_success() -> None:
    row = RunRow("20261122-115250-full", "full", "latency", "n1:8000", "m", "done", 0)
    assert exit_code(RunDetail(row, Spec("latency", ""), files=("summary.md",))) == 0
    assert exit_code(RunDetail(row, Spec("latency", ""))) == 1


async def going(probes: Probes) -> str:
    """The id of the run that is measuring."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for row in (await probes.listing()).runs:
                if row.state == "running" and (await probes.detail(row.id)).notes:
                    return row.id
            await asyncio.sleep(0.05)


def test_ctrl_c_cancels_and_keeps(tmp_path: Path) -> None:
    async def work(gpumon: Gpumon, probes: Probes) -> None:
        process = await gpumon.begin("latency", "--label", "play=wait")
        await going(probes)
        process.send_signal(signal.SIGINT)
        said = await gpumon.end(process)
        assert said.code == 130
        assert "latency against n1:8000: cancelled" in said.out
        assert "files: results/" in said.out

    story(tmp_path, work)


def test_a_terminal_that_goes_away_leaves_it_running(tmp_path: Path) -> None:
    async def work(gpumon: Gpumon, probes: Probes) -> None:
        process = await gpumon.begin("latency", "--label", "play=wait")
        id = await going(probes)
        process.send_signal(signal.SIGHUP)
        said = await gpumon.end(process)
        assert said.code == 130
        assert f"gpumon probe attach {id}" in said.err
        assert (await probes.detail(id)).row.state == "running"
        # And again: who only looks on leaves by Ctrl-C.
        looking = await gpumon.begin("attach")
        assert looking.stderr is not None
        assert b"concurrency 1" in await looking.stderr.readline()
        looking.send_signal(signal.SIGINT)
        assert "it goes on" in (await gpumon.end(looking)).err
        assert (await probes.detail(id)).row.state == "running"
        assert (await gpumon("cancel")).code == 0
        ended = await gpumon("attach", id, "-o", "elsewhere")
        assert ended.code == 130
        assert (tmp_path / "elsewhere" / id / "summary.md").exists()

    story(tmp_path, work)


def test_detach_gives_the_id_alone(tmp_path: Path) -> None:
    async def work(gpumon: Gpumon, probes: Probes) -> None:
        said = await gpumon("latency", "--label", "play=wait", "--detach")
        assert said.code == 0
        assert said.out.strip() == (await probes.listing()).runs[0].id
        again = await gpumon("latency")
        assert again.code == 1
        assert "runs against n1:8000 already" in again.err

    story(tmp_path, work)


def test_a_connection_that_breaks_is_tried_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as one:
            # A way to the daemon that can be cut: what stands in for SSH.
            way = tmp_path / "way.sock"
            cut: set[asyncio.StreamWriter] = set()

            async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                inner, outer = await asyncio.open_unix_connection(str(one.socket))
                cut.update((writer, outer))

                async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                    with contextlib.suppress(ConnectionError, RuntimeError):
                        while data := await source.read(65_536):
                            sink.write(data)
                            await sink.drain()
                    sink.close()

                await asyncio.gather(pump(reader, outer), pump(inner, writer))

            server = await asyncio.start_unix_server(pass_on, str(way))
            gpumon = Gpumon(tmp_path, f"unix:{way}")
            process = await gpumon.begin("latency", "--label", "play=wait")
            runs = one.node.runs
            assert runs is not None
            async with asyncio.timeout(PATIENCE):
                while not [row for row in runs.rows() if row.state == "running"]:  # noqa: ASYNC110 -- no event
                    await asyncio.sleep(0.05)
            server.close()
            way.unlink()
            for writer in list(cut):
                writer.transport.abort()
            assert process.stderr is not None
            said = b""
            while b"is asked again" not in said:
                said += await process.stderr.readline()
            server = await asyncio.start_unix_server(pass_on, str(way))
            while b"answers again" not in said:
                said += await process.stderr.readline()
            process.send_signal(signal.SIGINT)
            ended = await gpumon.end(process)
            assert ended.code == 130
            assert "cancelled" in ended.out
            server.close()
            for writer in list(cut):
                writer.close()

    asyncio.run(run())


def test_two_kept_results_are_compared_and_conditions_fail_a_build(tmp_path: Path) -> None:
    async def work(gpumon: Gpumon, probes: Probes) -> None:
        for name, speed in (("before", "1"), ("after", "0.5")):
            await gpumon("throughput", "--name", name, "--label", "play=done", "--label", f"speed={speed}")
        rows = {row.name: row for row in (await probes.listing()).runs}
        said = await gpumon("compare", "before", "after")
        assert said.code == 0, said.err
        assert "output_throughput" in said.out
        assert (await gpumon("compare", "before", "after", "--fail-if", "output_throughput > 1tok/s")).code == 1
        mixed = await gpumon("compare", f"results/{rows['before'].id}", "after", "--json")
        assert mixed.code == 0, mixed.err
        assert json.loads(mixed.out)
        assert "|" in (await gpumon("compare", "before", "after", "--markdown")).out
        for wrong in (("compare", "before", "nothing"), ("compare", "before", "after", "--fail-if", "ttft ?")):
            assert (await gpumon(*wrong)).code == 2

    story(tmp_path, work)


def test_a_run_without_a_daemon(tmp_path: Path) -> None:
    async def run() -> None:
        async with PaceServer(Pace(0.001, itl_s=0.001), api_key="sesame") as server:
            gpumon = Gpumon(tmp_path, OPENAI_API_KEY="sesame")
            arguments = ("--requests", "3", "--output-len", "4", "--input-len", "8", "--repeats", "1", "--warmups", "0")
            said = await gpumon("latency", "--here", "--url", server.url, *arguments, "--output", "mine")
            assert said.code == 0, said.err
            assert ": done" in said.out
            (folder,) = (tmp_path / "mine").iterdir()
            assert f"files: mine/{folder.name}" in said.out
            assert {"baseline_metrics.json", "latency_results.csv", "summary.md"} <= set(os.listdir(folder))
            same = await gpumon("compare", str(folder), str(folder))
            assert same.code == 0, same.err
            assert (await gpumon("report", str(folder))).out.startswith("#")
            refused = await Gpumon(tmp_path)("latency", "--here", "--url", server.url, *arguments)
            assert refused.code == 1
            assert "401" in refused.out + refused.err
            process = await gpumon.begin(
                "throughput", "--here", "--url", server.url, "--min-seconds", "1", "--output", "ended"
            )
            assert process.stderr is not None
            while b"concurrency 1" not in await process.stderr.readline():
                pass
            process.send_signal(signal.SIGTERM)
            ended = await gpumon.end(process)
            assert ended.code == 130
            (folder,) = (tmp_path / "ended").iterdir()
            assert "throughput_results.csv" in os.listdir(folder)

    asyncio.run(run())
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()] == []


@pytest.mark.skipif(SYSTEM_SOCKET.exists(), reason="a daemon runs here")
def test_without_a_daemon_what_needs_one_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        gpumon = Gpumon(tmp_path)
        for arguments in (("latency", "--detach"), ("latency", "--server", "n1:8000")):
            said = await gpumon(*arguments)
            assert said.code == 2
            assert "gpumon probe latency: " in said.err
        assert (await gpumon("list")).code == 1
        said = await gpumon("compare", "here", "there")
        assert said.code == 2
        assert "no such file or folder, and no daemon" in said.err
        assert not (tmp_path / "results").exists()

    asyncio.run(run())


def test_a_run_that_measured_nothing_leaves_no_empty_folder(tmp_path: Path) -> None:
    async def run() -> None:
        gpumon = Gpumon(tmp_path)
        said = await gpumon("latency", "--url", "http://127.0.0.1:9", "--yes")
        assert said.code != 0
        assert not (tmp_path / "results").exists()

    asyncio.run(run())


def asked(**more: Any) -> Asked:
    return Asked("latency", more.pop("options", {}), **more)


def test_a_command_line_becomes_what_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    spec = asked(
        options={"requests": "7", "seconds": "2m"},
        url="http://h:8000/v1",
        slos=("ttft=500ms,tpot=50ms,p99",),
        max_seconds="5m",
        labels=("quantization=fp8", "run = 1"),
        gpus="0, 1",
        price=2.5,
    ).spec()
    assert spec.url == "http://h:8000"
    assert spec.options == {"requests": 7, "seconds": 120.0}
    assert spec.slos == (Slo("ttft", 500, 99), Slo("tpot", 50, 99))
    assert (spec.max_seconds, spec.gpus, spec.price_per_hour) == (300, ("0", "1"), 2.5)
    assert spec.labels == {"quantization": "fp8", "run": "1"}
    # The environment's key is for an address that was named; one that the daemon knows has its own.
    assert asked(url="http://h:8000").secrets().api_key == "of-the-environment"
    assert asked(server="n1:8000").secrets().api_key is None
    (tmp_path / "key").write_text("of-a-file\n")
    assert asked(server="n1:8000", api_key_file=str(tmp_path / "key")).secrets().api_key == "of-a-file"
    monkeypatch.chdir(tmp_path)
    replay = Asked("rate", {"replay": "arrivals.csv"}).spec().options["replay"]
    assert replay == str(tmp_path / "arrivals.csv")  # a daemon stands elsewhere


@pytest.mark.parametrize(
    "given",
    [
        {"options": {"requests": "many"}},
        {"options": {"requests": "0"}},
        {"url": "h:8000"},
        {"url": "http://h:8000", "server": "n1:8000"},
        {"slos": ("ttft<5",)},
        {"max_seconds": "soon"},
        {"labels": ("fp8",)},
        {"stall": "-1"},
    ],
)
def test_a_command_line_that_cannot_be_meant(given: dict[str, Any]) -> None:
    with pytest.raises(Wrong):
        asked(**given).spec()


def test_every_workload_has_its_options_and_none_hides_another() -> None:
    found = commands()
    assert list(found)[: len(WORKLOADS)] == list(WORKLOADS)
    for name, workload in WORKLOADS.items():
        flags = [flag for option in found[name].params for flag in (*option.opts, *option.secondary_opts)]
        assert len(flags) == len(set(flags)), name
        for field in workload.fields():
            assert f"--{field.name.replace('_', '-')}" in flags, (name, field.name)
        assert len(found[name].params) == len(workload.fields()) + len(_COMMON)


def test_help_is_there_for_all_of_them() -> None:
    runner = CliRunner()
    whole = runner.invoke(cli, ["probe", "--help"]).output
    for name in commands():
        assert re.search(rf"^  {name} ", whole, re.MULTILINE), name
        said = runner.invoke(cli, ["probe", name, "--help"])
        assert said.exit_code == 0, name
    assert "130" in runner.invoke(cli, ["probe", "latency", "--help"]).output


def test_help_loads_no_workload_and_no_client() -> None:
    async def run() -> str:
        code = (
            "import sys\nfrom click.testing import CliRunner\nfrom monitor.cli import cli\n"
            "CliRunner().invoke(cli, ['--help'])\n"
            "print([m for m in sys.modules if m.startswith('monitor.probes') or m in ('aiohttp', 'msgspec', 'rich')])\n"
        )
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        return (await child.communicate())[0].decode()

    assert asyncio.run(run()).strip() == "[]"
