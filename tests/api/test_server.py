"""Sockets and their rights, and who is answered."""

import asyncio
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

import httpx
import pytest

from monitor.api.server import CannotListen, bind_unix
from monitor.store.head import Head
from tests.api.running import Running, running
from tests.certificates import Authority


def test_the_socket_is_for_its_owner_and_group_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gpumon.sock"
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o007 == 0


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.sock"
    bind_unix(path).close()
    with bind_unix(path), pytest.raises(CannotListen, match="running already"):
        bind_unix(path)


def reached(path: Path) -> int:
    """What comes of connecting: 0, or why it was refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        return one.connect_ex(os.fspath(path))


@pytest.mark.parametrize("dead", [False, True])
def test_there_is_no_moment_in_which_it_is_there_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    path = tmp_path / "gpumon.sock"
    if dead:
        bind_unix(path).close()
    before: list[int] = []
    rights: list[int] = []

    class Late(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            before.append(reached(path))
            super().listen(backlog)

    def rename(old: Path, new: Path) -> None:
        rights.append(stat.S_IMODE(old.stat().st_mode))
        os.rename(old, new)

    monkeypatch.setattr("monitor.api.server.socket.socket", Late)
    monkeypatch.setattr("monitor.api.server.os.replace", rename)
    with bind_unix(path):
        # A dead daemon's stays until then: who finds it starts no other daemon, as who finds none would.
        assert before == [errno.ECONNREFUSED if dead else errno.ENOENT]
        assert rights == [0o660]
        assert reached(path) == 0
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["gpumon.sock", "s"])
def test_one_that_was_killed_while_it_began_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    names: list[Path] = []

    def rename(old: Path, new: Path) -> None:
        names.append(old)
        os.rename(old, new)

    monkeypatch.setattr("monitor.api.server.os.replace", rename)
    bind_unix(path).close()
    assert len(os.fsencode(names[0])) <= len(os.fsencode(path)), "there is room for it where there is for the other"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(os.fspath(names[0]))
    with bind_unix(path):
        assert list(tmp_path.iterdir()) == [path]


def test_two_that_begin_at_once_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.api.server._TURN_SECONDS", 0.05)
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(CannotListen, match="another gpumon daemon is beginning"):
        bind_unix(tmp_path / "gpumon.sock")
    os.close(other)
    with bind_unix(tmp_path / "gpumon.sock"):
        assert reached(tmp_path / "gpumon.sock") == 0


def test_a_directory_that_it_may_not_write_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(old: Path, new: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("monitor.api.server.os.replace", refused)
    with pytest.raises(CannotListen, match=r"cannot make the socket .*gpumon\.sock: Operation not permitted"):
        bind_unix(tmp_path / "gpumon.sock")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.sock"
    path.write_text("mine")
    with pytest.raises(CannotListen, match="is no socket"):
        bind_unix(path)
    assert path.read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotListen, match="cannot make the directory"):
        bind_unix(tmp_path / "file" / "run" / "gpumon.sock")


def test_a_directory_that_this_user_may_not_enter_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a root's directory of 0750 in a container. The tests may be root, who may all."""

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", refused)
    with pytest.raises(CannotListen, match=rf"may not enter {tmp_path}, .*`chown \d+ {tmp_path}`"):
        bind_unix(tmp_path / "gpumon.sock")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(CannotListen, match=r"cannot make the directory .*: Permission denied"):
        bind_unix(tmp_path / "gpumon.sock")


def test_the_servers_socket_is_gone_when_it_has_ended(tmp_path: Path) -> None:
    async def main() -> tuple[bool, bool]:
        async with running(Head("j", "i"), place=tmp_path) as api:
            await api.client.get("/-/healthy")
            before = api.socket.exists()
        return before, api.socket.exists()

    assert asyncio.run(main()) == (True, False)


def test_tcp_answers_this_machines_names_alone() -> None:
    async def work(api: Running) -> list[int]:
        hosts = (f"127.0.0.1:{api.port}", "localhost", "[::1]:1", "evil.example", "127.0.0.1.evil.example:80")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as client:
            return [(await client.get("/-/healthy", headers={"Host": host})).status_code for host in hosts]

    async def main() -> list[int]:
        async with running(Head("j", "i")) as api:
            return await work(api)

    assert asyncio.run(main()) == [200, 200, 200, 403, 403]


@pytest.mark.parametrize("is_open", [False, True])
def test_pages_of_other_sites_are_not_answered(is_open: bool) -> None:
    async def main() -> list[int]:
        async with running(Head("j", "i"), is_open=is_open) as api:
            here = f"127.0.0.1:{api.port}"
            origins = (
                f"http://{here}",
                "https://evil.example",
                "null",
                f"http://{here}.evil.example",
                "http://x@" + here,
            )
            async with httpx.AsyncClient(base_url=f"http://{here}") as client:
                tcp = [
                    (await client.request(method, "/-/healthy", headers={"Origin": origin})).status_code
                    for method in ("GET", "HEAD")
                    for origin in origins
                ]
            socket = await api.client.get("/-/healthy", headers={"Origin": "http://whatever"})  # no browser opens it
            return [*tcp, socket.status_code]

    assert asyncio.run(main()) == [200, 403, 403, 403, 403] * 2 + [200]


def test_health_readiness_and_what_is_not_there() -> None:
    async def main() -> list[tuple[int, str]]:
        async with running(Head("j", "i")) as api:
            said = []
            for path in ("/-/healthy", "/-/ready", "/nothing"):
                response = await api.client.get(path)
                said.append((response.status_code, response.text))
            api.node.ready = True
            said.append(((await api.client.get("/-/ready")).status_code, ""))
            return said

    healthy, unready, unknown, ready = asyncio.run(main())
    assert healthy == (200, "gpumon is Healthy.\n")
    assert unready[0] == 503
    assert unknown[0] == 404
    assert "there is no /nothing here" in unknown[1]
    assert ready[0] == 200


def test_a_wrong_method_is_told_as_every_other_error() -> None:
    async def main() -> tuple[int, str]:
        async with running(Head("j", "i")) as api:
            response = await api.client.delete("/api/v1/query")
            return response.status_code, response.json()["error"]

    assert asyncio.run(main()) == (405, "DELETE is not for /api/v1/query")


def test_a_body_that_is_too_large_is_refused() -> None:
    async def main() -> int:
        async with running(Head("j", "i")) as api:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            body = b"query=" + b"x" * 300_000
            return (await api.client.post("/api/v1/query", content=body, headers=form)).status_code

    assert asyncio.run(main()) == 413


def test_a_port_that_is_taken_is_told_and_leaves_no_socket(tmp_path: Path) -> None:
    from monitor.api.server import _bind_tcp

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CannotListen, match="--listen"):
            _bind_tcp("127.0.0.1", taken.getsockname()[1])


def test_a_certificate_that_has_ended_is_told_of_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path)

    async def main(days: int) -> None:
        cert, key = authority.sign("n1", days=days)
        setting = f"api: {{token: {'t' * 20}, tls: {{cert_file: {cert}, key_file: {key}}}}}\n"
        async with running(Head("j", "i"), config=setting, is_open=True):
            pass

    asyncio.run(main(2))
    assert "has ended" not in caplog.text
    asyncio.run(main(-1))
    assert f"{tmp_path}/n1.pem, has ended: clients refuse it" in caplog.text
