"""``gpumon dmon``: lines a second, in columns and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.client.snapshot import Snapshot, Source
from monitor.commands import dmon
from monitor.commands.dmon import COLUMNS, Writer, objects_of, rows_of
from monitor.records import replace
from tests.client.fake_daemon import FakeDaemon
from tests.client.story import SERVER, Story, snapshot

NAMES = [name for name, _, _ in COLUMNS]


def cells(row: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(NAMES, row, strict=True))


def test_a_row_has_the_gpu_and_its_server() -> None:
    picture = snapshot(seconds=5)
    rows = [cells(row) for row in rows_of(picture)]
    assert [row["gpu"] for row in rows] == [gpu.index for gpu in picture.gpus]
    gpu, engine = picture.gpus[0], picture.engines[0]
    assert gpu.power is not None
    assert gpu.utilization is not None
    assert (rows[0]["pwr"], rows[0]["sm"]) == (f"{gpu.power:.0f}", f"{gpu.utilization * 100:.0f}")
    assert rows[0]["server"] == SERVER
    assert rows[0]["run"] == f"{engine.running:.0f}"


def test_what_is_absent_or_old_is_a_dash_and_never_0() -> None:
    picture = snapshot(seconds=5)
    first = replace(picture.gpus[0], power=None)
    old = replace(picture.gpus[1], stale=True)
    rows = [cells(row) for row in rows_of(replace(picture, gpus=(first, old)))]
    assert rows[0]["pwr"] == "-"
    assert {rows[1][name] for name in ("pwr", "gtemp", "sm", "fb", "pclk")} == {"-"}


def test_a_server_of_no_known_gpu_and_one_that_is_down_have_their_lines() -> None:
    picture = snapshot(Story(vllm_down="connection refused"), seconds=5)
    alone = replace(picture, gpus=())
    (row,) = [cells(row) for row in rows_of(alone)]
    assert row["gpu"] == "-"
    assert row["server"] == f"{SERVER} DOWN: connection refused"


def test_columns_keep_their_places_and_the_head_comes_again() -> None:
    out = io.StringIO()
    writer = Writer(out, "table")
    rows = rows_of(snapshot(seconds=5))
    for _ in range(6):
        writer.write(rows)
    lines = out.getvalue().splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("#")]
    assert heads == [0, 1, 26, 27]
    assert lines[0].split()[1:] == NAMES
    place = lines[0].index("server")
    assert {line[place:] for line in lines if not line.startswith("#")} == {SERVER}


def test_csv_has_one_head_and_nothing_where_nothing_is() -> None:
    out = io.StringIO()
    writer = Writer(out, "csv")
    picture = snapshot(seconds=5)
    picture = replace(picture, gpus=tuple(replace(gpu, power=None) for gpu in picture.gpus))
    for _ in range(3):
        writer.write(rows_of(picture))
    table = list(csv.reader(io.StringIO(out.getvalue())))
    assert table[0][2] == "pwr [W]"
    assert len(table) == 1 + 3 * 8
    assert {row[2] for row in table[1:]} == {""}


def test_json_is_in_base_units_and_has_nothing_where_nothing_is() -> None:
    picture = snapshot(seconds=5)
    first = replace(picture.gpus[0], power=None, memory_used=3 * 1024**3)
    old = replace(picture.gpus[1], stale=True)
    out = io.StringIO()
    writer = Writer(out, "json")
    writer.write_moment(replace(picture, gpus=(first, old)), None)
    one, two = map(json.loads, out.getvalue().splitlines())
    assert one["gpu"] == "0"
    assert one["at_ms"] == picture.now_ms
    assert one["memory_used_bytes"] == 3 * 1024**3
    assert "power_watts" not in one
    assert 0 <= one["utilization_ratio"] <= 1
    assert one["server"] == SERVER
    assert one["server_up"] is True
    assert one["requests_running"] >= 0
    assert {name for name in two if name.endswith(("watts", "celsius", "bytes", "mhz"))} == set()
    down = replace(snapshot(Story(vllm_down="connection refused"), seconds=5), gpus=())
    (alone,) = objects_of(down)
    assert {key: alone[key] for key in ("server", "server_up", "server_reason")} == {
        "server": SERVER,
        "server_up": False,
        "server_reason": "connection refused",
    }
    assert "gpu" not in alone
    assert objects_of(picture, {"0"})[0]["gpu"] == "0"


@pytest.fixture
def target(tmp_path: Path) -> object:
    with FakeDaemon(tmp_path / "s", Story()).serving() as found:
        yield found


def test_it_follows_a_daemon_and_ends_after_a_count(target: str) -> None:
    done = CliRunner().invoke(cli, ["dmon", "--url", target, "-c", "2", "-i", "0,3", "-d", "0.5"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines() if not line.startswith("#")]
    assert [line[1] for line in lines] == ["0", "3", "0", "3"]


def test_a_gpu_that_is_not_there_and_a_daemon_that_is_not(target: str) -> None:
    done = CliRunner().invoke(cli, ["dmon", "--url", target, "-i", "9", "-c", "1"])
    assert done.exit_code == 1
    assert "no GPU 9 is there" in done.output
    assert "0, 1, 2" in done.output
    done = CliRunner().invoke(cli, ["dmon", "--url", "unix:/nonexistent/s", "-c", "1"])
    assert done.exit_code == 1
    assert "no such socket" in done.output


def test_where_there_is_nothing_to_show_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would stand there with its titles, and look as if it hung."""
    reason = "no NVIDIA driver: libnvidia-ml.so.1 is not installed"
    source = Source("nvml", "", False, True, reason, None, None, None, {})

    async def pictures(url: str | None, delay: float) -> AsyncIterator[Snapshot]:
        for _ in range(2):
            yield replace(snapshot(), gpus=(), engines=(), sources=(source,))

    monkeypatch.setattr(dmon, "_pictures", pictures)
    done = CliRunner().invoke(cli, ["dmon", "--url", "unix:/s", "-c", "2"])
    assert done.exit_code == 0, done.output
    assert done.stderr == f"gpumon dmon: there is no GPU and no server to show: {reason}. Lines come with the first\n"
