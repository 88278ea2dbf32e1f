"""Probe runs over the API, with the client that screens and commands have."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from monitor.client.api import Client
from monitor.client.errors import Refused
from monitor.client.probes import Probes, ProfileRequest
from monitor.probes.pace import PaceServer
from monitor.probes.pace_engine import Pace
from monitor.probes.schema import RunDetail, RunRow, Secrets, Spec
from monitor.store.head import Head
from tests.api.probing import play
from tests.api.running import Running, running


async def watched(probes: Probes, row: RunRow) -> RunDetail:
    return [detail async for detail in probes.watch(row.id)][-1]


def test_a_run_from_its_start_to_its_files(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        assert "probes" in (await probes.client.capabilities()).features
        listing = await probes.listing()
        assert (listing.runs, listing.refusal, listing.keep) == ((), "", 100)
        assert [(each.server, each.url, each.model) for each in listing.servers] == [
            ("n1:8000", "http://127.0.0.1:8000", "m1")
        ]
        row = await probes.start(Spec("throughput", "", "n1:8000", labels={"play": "wait"}), by="alice")
        assert (row.server, row.by) == ("n1:8000", "alice")
        seen = []
        async for detail in probes.watch(row.id):
            seen.append(detail)
            if len(detail.notes) == 1 and detail.row.state == "running":
                await probes.cancel(row.id)
        assert seen[-1].row.state == "cancelled"
        assert [len(each.steps) for each in seen] == sorted(len(each.steps) for each in seen)
        assert (await probes.detail(row.id)) == seen[-1]
        assert (Path(seen[-1].folder) / "steps" / "01.json").read_text() == "{}"
        path = tmp_path / "copied" / "steps"
        path.mkdir(parents=True)
        await probes.save(row.id, "steps/01.json", path / "01.json")
        assert (path / "01.json").read_text() == "{}"
        with pytest.raises(FileExistsError):
            await probes.save(row.id, "steps/01.json", path / "01.json")
        assert (await probes.baseline(row.id, "fp16")).baseline == "fp16"
        with pytest.raises(Refused, match="is the baseline") as refused:
            await probes.delete(row.id)
        assert refused.value.status == 409
        await probes.baseline(row.id, "")
        await probes.delete(row.id)
        assert (await probes.listing()).runs == ()
        kinds = [event.kind for event in one.node.events]
        assert kinds == ["probe_started", "probe_ended"]

    play(tmp_path, story)


def test_the_workloads_are_told_with_their_options(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        found = {each.name: each for each in await probes.workloads()}
        assert {"latency", "throughput", "suite"} <= set(found)
        requests = next(option for option in found["latency"].options if option.name == "requests")
        assert (requests.kind, requests.default, requests.minimum) == ("int", 30, 1)
        assert requests.help

    play(tmp_path, story)


def test_who_may_not_change_anything_starts_nothing(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        row = await probes.start(Spec("latency", "", labels={"play": "done"}))
        await watched(probes, row)
        base = f"http://127.0.0.1:{one.port}/api/gpumon/v1/probes"
        body = {"spec": {"workload": "latency", "url": "http://x:1"}}
        async with httpx.AsyncClient() as outside:
            for method, path, json in (
                ("POST", "", body),
                ("POST", f"/{row.id}/cancel", {}),
                ("POST", f"/{row.id}/baseline", {"name": "x"}),
                ("DELETE", f"/{row.id}", None),
                ("POST", "/profile", {"action": "start"}),
            ):
                for headers in ({}, {"Authorization": "Bearer wrong"}):
                    answer = await outside.request(method, base + path, json=json, headers=headers)
                    assert answer.status_code == 403, (method, path)
                    assert "token" in answer.json()["error"]
            reading = await outside.get(base)
            assert "needs the token" in reading.json()["refusal"]
            assert [each["id"] for each in reading.json()["runs"]] == [row.id]
            assert (await outside.get(f"{base}/{row.id}")).status_code == 200
            allowed = await outside.post(f"{base}/{row.id}/cancel", headers={"Authorization": "Bearer sesame"})
            assert allowed.status_code == 409
        assert len((await probes.listing()).runs) == 1

    play(tmp_path, story)


def test_over_tcp_without_a_token_it_is_read_only(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        async with Client(f"http://127.0.0.1:{one.port}") as client:
            assert "TCP is read-only here" in (await Probes(client).listing()).refusal
            with pytest.raises(Refused, match="TCP is read-only here"):
                await Probes(client).start(Spec("latency", "http://x:1"))

    play(tmp_path, story, config="node: {hostname: n1, instance: 'n1:9519'}\n")


def test_files_are_given_by_listed_names_alone(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        row = await probes.start(Spec("latency", "", labels={"play": "done"}))
        await watched(probes, row)
        base = f"/api/gpumon/v1/probes/{row.id}/files"
        page = await one.client.get(f"{base}/report.html")
        assert page.headers["content-disposition"].startswith("attachment")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "sandbox" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        (tmp_path / "results" / row.id / "other.txt").write_text("not listed")
        for name in ("other.txt", "..%2Findex.json", "..%2f..%2fetc%2fpasswd", "%2Fetc%2Fpasswd", "steps", ""):
            assert (await one.client.get(f"{base}/{name}")).status_code == 404, name
        assert (await one.client.get("/api/gpumon/v1/probes/..%2Findex.json")).status_code == 404

    play(tmp_path, story)


def test_what_is_wrong_is_said_with_its_status(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        for spec, words in (
            (Spec("latency", "", "nobody:1"), "no server 'nobody:1'"),
            (Spec("latency", "http://x:1", options={"requests": "many"}), "requests must be"),
        ):
            with pytest.raises(Refused, match=words) as refused:
                await probes.start(spec)
            assert refused.value.status == 400
        for work in (probes.detail("20261121-000000-x"), probes.delete("x"), probes.compare("x", "y")):
            with pytest.raises(Refused, match="there is no run") as refused:
                await work
            assert refused.value.status == 404
        row = await probes.start(Spec("latency", "", labels={"play": "wait"}))
        with pytest.raises(Refused, match="runs against n1:8000 already") as refused:
            await probes.start(Spec("latency", "http://localhost:8000"))
        assert refused.value.status == 409
        await probes.cancel(row.id)
        await watched(probes, row)
        for path, content in (("", b"{"), ("", b'{"spec": {"workload": "nothing", "url": ""}}'), ("/profile", b"[]")):
            answer = await one.client.post(f"/api/gpumon/v1/probes{path}", content=content)
            assert answer.status_code == 400
        for asked in ("revision=x", "wait=nan", "steps=1e400"):
            answer = await one.client.get(f"/api/gpumon/v1/probes/{row.id}/changes?{asked}")
            assert answer.status_code == 400
        with pytest.raises(Refused, match="start or stop"):
            await probes.profile(ProfileRequest("go", "n1:8000"))

    play(tmp_path, story)


def test_a_key_that_was_given_goes_to_the_run_and_is_told_to_nobody(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        spec = Spec("latency", "http://elsewhere:1", labels={"play": "crash"})
        row = await probes.start(spec, Secrets("theirs"))
        detail = await watched(probes, row)
        assert detail.row.state == "lost"
        assert "the key is …" in detail.row.error
        row = await probes.start(Spec("latency", "", labels={"play": "crash"}))
        detail = await watched(probes, row)
        assert "the key is …" in detail.row.error  # the configuration's: "ours"

    play(tmp_path, story)
    assert b"theirs" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_server_that_nobody_knows_gets_none_of_the_daemons_secrets(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        row = await probes.start(Spec("latency", "http://elsewhere:1", labels={"play": "crash"}))
        assert "the key is None" in (await watched(probes, row)).row.error

    play(tmp_path, story)


def test_a_profile_is_started_and_stopped_once(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        async with PaceServer(Pace(), profiler=True, api_key="theirs") as server:
            asked = ProfileRequest("start", url=server.url, seconds=60, secrets=Secrets("theirs"))
            found = await probes.profile(asked)
            assert (found.running, server.profiling) == (True, True)
            assert "60 s at most" in found.text
            with pytest.raises(Refused, match="being profiled already") as refused:
                await probes.profile(asked)
            assert refused.value.status == 422
            found = await probes.profile(ProfileRequest("stop", url=server.url))
            assert not server.profiling
            assert found.text
            with pytest.raises(Refused, match="from 1 to 600"):
                await probes.profile(ProfileRequest("start", url=server.url, seconds=0))
            # One that still runs when the daemon ends is stopped.
            await probes.profile(asked)
            assert one.node.runs is not None
            await one.node.runs.close()
            assert not server.profiling

    play(tmp_path, story)


def test_of_two_who_start_a_profile_at_once_one_is_refused(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        async with PaceServer(Pace(), profiler=True) as server:
            asked = ProfileRequest("start", url=server.url, seconds=60)
            found = await asyncio.gather(*(probes.profile(asked) for _ in range(3)), return_exceptions=True)
            refused = [str(each) for each in found if isinstance(each, Refused)]
            assert len(refused) == 2
            assert not [each for each in refused if "someone else" in each]
            await probes.profile(ProfileRequest("stop", url=server.url))
            assert (server.profiling, server.profiles) == (False, 1)

    play(tmp_path, story)


def test_a_profile_ends_by_itself_and_needs_a_server_that_has_one(tmp_path: Path) -> None:
    async def story(one: Running, probes: Probes) -> None:
        async with PaceServer(Pace(), profiler=True) as server, PaceServer(Pace()) as without:
            await probes.profile(ProfileRequest("start", url=server.url, seconds=0.2))
            async with asyncio.timeout(20):
                while server.profiling:  # noqa: ASYNC110 -- no event
                    await asyncio.sleep(0.02)
            with pytest.raises(Refused, match="no torch profiler switched on"):
                await probes.profile(ProfileRequest("start", url=without.url))
        with pytest.raises(Refused, match="cannot be asked: connection refused"):
            await probes.profile(ProfileRequest("start", url=without.url))

    play(tmp_path, story)


def test_a_daemon_without_probes_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(Head("gpumon", "n1:9519")) as one, Client(f"unix:{one.socket}") as client:
            assert "probes" not in (await client.capabilities()).features
            with pytest.raises(Refused, match="runs no probes") as refused:
                await Probes(client).listing()
            assert refused.value.status == 404

    asyncio.run(run())
