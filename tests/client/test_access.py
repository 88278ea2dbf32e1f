"""How one gets in to a server: what is shown to it, what is shown to nobody, and files that name nodes."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from monitor.client.access import Access, Address, Part, load
from monitor.client.api import Client
from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.nodes_file import nodes_path, read_nodes
from monitor.yaml_reader import ConfigError
from tests.http_server import Server, answer, serve

ALERTS = answer(b'{"status":"success","data":{"alerts":[]}}')
SECRET = "s3cr3t-that-nobody-sees"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GPUMON_TOKEN", "GPUMON_PASSWORD", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy",
                 "https_proxy", "all_proxy", "SSL_CERT_FILE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def heads(access: Access, *, path: str = "", tls: ssl.SSLContext | None = None) -> list[str]:
    """The heads of the requests that a server gets of a client with this access."""

    async def main() -> list[str]:
        async with serve(ALERTS, tls) as server, Client(Address(server.url + path, access)) as client:
            assert await client.alerts() == ()
            return [one.decode() for one in server.requests]

    return asyncio.run(main())


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_a_token_a_password_headers_and_a_path_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    (head,) = heads(load(token_file=str(file), headers=("X-Scope-OrgID: team a",)), path="/prometheus/")
    assert head.startswith("GET /prometheus/api/v1/alerts ")
    assert f"authorization: Bearer {SECRET}\r\n".lower() in head.lower()
    assert "x-scope-orgid: team a\r\n" in head.lower()
    (head,) = heads(load(user="ann", password_file=str(file)))
    assert b64encode(f"ann:{SECRET}".encode()).decode() in head
    monkeypatch.setenv("GPUMON_TOKEN", "of-the-environment")
    assert "Bearer of-the-environment" in heads(load())[0]
    assert "of-the-environment" not in heads(load(user="ann", password_file=str(file)))[0]


def test_a_password_in_an_address_is_used_and_never_shown() -> None:
    found = Address(f"http://ann:{SECRET}@127.0.0.1:1/x")
    assert found == "http://127.0.0.1:1/x"
    assert (found.access.user, found.access.password) == ("ann", SECRET)
    assert SECRET not in repr(found) + repr(found.access) + found.called

    async def fail() -> str:
        async with Client(f"http://ann:{SECRET}@127.0.0.1:1/x") as client:
            with pytest.raises(Unreachable) as caught:
                await client.alerts()
            return f"{caught.value} {caught.value.where} {client.target}"

    assert SECRET not in asyncio.run(fail())


def test_a_redirect_to_another_host_is_told_and_shown_nothing() -> None:
    async def main() -> tuple[Refused, Server]:
        async with serve(ALERTS) as other:
            there = answer(b"", "302 Found", f"Location: {other.url}/login?key=abc\r\n")
            async with serve(there) as server, Client(Address(server.url, Access(token=SECRET))) as client:
                with pytest.raises(Refused) as caught:
                    await client.alerts()
                return caught.value, other

    error, other = asyncio.run(main())
    assert other.requests == []
    assert error.what == f"it redirects to {other.url}/login"


def test_what_contradicts_itself_or_cannot_be_read_is_told_without_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = tmp_path / "two"
    two.write_text(f"{SECRET}\nmore\n")
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for wrong, words in (
        ({"token_file": str(two)}, "more than one line"),
        ({"token_file": str(empty)}, "is empty"),
        ({"token_file": str(tmp_path / "none")}, "cannot be read"),
        ({"token_file": str(two), "user": "ann"}, "cannot both"),
        ({"user": "ann"}, "no password"),
        ({"password_file": str(two)}, "without a user"),
        ({"key": "k.pem"}, "without its certificate"),
    ):
        with pytest.raises(ClientError, match=words) as caught:
            load(**wrong)  # type: ignore[arg-type]
        assert SECRET not in str(caught.value)
    with pytest.raises(ClientError, match="not given as a header") as caught:
        load(headers=(f"Authorization: Bearer {SECRET}",))
    assert SECRET not in str(caught.value)
    with pytest.raises(ClientError, match="that is none"):
        load(headers=(f"X: {SECRET}\r\nY: 1",))
    monkeypatch.setenv("GPUMON_PASSWORD", SECRET)
    assert load(user="ann").password == SECRET


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, what it signed for a server on loopback, and what it signed for a client."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=our authority", "-days", "2")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-out", f"{name}.pem", "-extfile", f"{name}.ext")  # fmt: skip
    return folder


def server_side(folder: Path, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    return context


def refused(access: Access, tls: ssl.SSLContext) -> Unreachable:
    async def main() -> Unreachable:
        async with serve(ALERTS, tls) as server, Client(Address(server.url, access)) as client:
            with pytest.raises(Unreachable) as caught:
                await client.alerts()
            return caught.value

    return asyncio.run(main())


def test_a_server_is_believed_by_its_authority_and_by_nothing_else(certificates: Path) -> None:
    tls = server_side(certificates)
    assert heads(load(ca=str(certificates / "ca.pem")), tls=tls)
    error = refused(load(), tls)
    assert error.what.startswith("its certificate is not trusted: ")
    assert "--ca FILE" in error.cure
    assert heads(load(insecure=True), tls=tls)


def test_a_certificate_for_another_name_is_no_matter_of_authorities(certificates: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(certificates, tmp_path / "other")
    (folder / "server.ext").write_text("subjectAltName=DNS:elsewhere\n")
    command = "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 2 -out server.pem -extfile server.ext"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=60)
    error = refused(load(ca=str(folder / "ca.pem")), server_side(folder))
    assert error.what.startswith("its certificate is for another name: ")
    assert not error.what.endswith(".")
    assert "--ca" not in error.cure


def test_http_and_https_are_taken_for_each_other(certificates: Path) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def ask(url: str) -> str:
        async with Client(Address(url, load(insecure=True))) as client:
            with pytest.raises(Unreachable) as caught:
                await client.alerts()
            return caught.value.cure

    async def main() -> tuple[str, str]:
        async with (
            serve(ALERTS, server_side(certificates)) as server,
            await asyncio.start_server(plain, "127.0.0.1", 0) as other,
        ):
            port = other.sockets[0].getsockname()[1]
            return await ask(server.url.replace("https:", "http:")), await ask(f"https://127.0.0.1:{port}")

    wants_tls, has_none = asyncio.run(main())
    assert "https://" in wants_tls
    assert "with http://" in has_none


def test_a_server_that_wants_a_certificate_gets_ours(certificates: Path) -> None:
    tls = server_side(certificates, mutual=True)
    ca = str(certificates / "ca.pem")
    ours = load(ca=ca, cert=str(certificates / "client.pem"), key=str(certificates / "client.key"))
    assert heads(ours, tls=tls)
    refused(load(ca=ca), tls)


def test_a_file_that_is_no_certificate_is_named(certificates: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("hello")
    with pytest.raises(ClientError, match=r"wrong\.pem.*PEM"):
        load(ca=str(wrong)).tls()
    with pytest.raises(ClientError, match=r"none\.pem: cannot be used: no such file"):
        load(ca=str(tmp_path / "none.pem")).tls()
    with pytest.raises(ClientError, match=r"mismatch|do not match"):
        load(cert=str(certificates / "client.pem"), key=str(certificates / "server.key")).tls()


# -- nodes of a file -------------------------------------------------------------------------------------------------


def test_a_file_names_nodes_and_how_one_gets_in_to_each(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    file = tmp_path / "nodes.yaml"
    file.write_text(
        "defaults:\n  token_file: token\n"
        "nodes:\n"
        "  - {name: a, url: 'http://a:9519'}\n"
        "  - url: https://b:9519/x/\n    insecure: true\n    headers: {X-Scope-OrgID: 7}\n"
        "  - url: unix:/run/gpumon/gpumon.sock\n"
    )
    a, b, here = read_nodes(file)
    assert (a, a.called, a.access.token) == ("http://a:9519", "a", SECRET)
    assert (b.called, b.access.insecure, b.access.headers) == ("b:9519/x", True, (("X-Scope-OrgID", "7"),))
    assert here.called == "unix:/run/gpumon/gpumon.sock"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nodes:\n  - {url: 'ftp://x'}\n", ":2:11: this is no address"),
        ("nodes:\n  - {name: x}\n", ":2:5: a node needs its url"),
        (
            "nodes:\n  - {url: 'http://x', tokn_file: y}\n",
            ':2:23: unknown field "tokn_file" (did you mean "token_file"?)',
        ),
        ("nodes:\n  - {url: 'http://x', token_file: none}\n", ":2:35: cannot be read"),
        ("nodes:\n  - {url: 'http://x', user: ann}\n", ':2:5: no password for the user "ann"'),
        ("nodes:\n  - {url: 'http://ann:s3cr3t@x'}\n", ":2:11: a password does not stand in an address"),
        ("nodes:\n  - {url: 'http://x'}\n  - {url: 'http://x'}\n", ':3:5: a second node is called "x"'),
        ("nodes: []\n", ":1:1: no nodes"),
        ("nodes:\n  - {url: 'http://x', headers: {Authorization: s3cr3t}}\n", ":2:5: Authorization is not given as a"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "nodes.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_nodes(file)
    assert f"{file}{problem}" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_the_file_is_looked_for_where_settings_are() -> None:
    assert nodes_path({"HOME": "/home/ann"}) == Path("/home/ann/.config/gpumon/nodes.yaml")
    assert nodes_path({"XDG_CONFIG_HOME": "/etc/ann", "HOME": "/x"}) == Path("/etc/ann/gpumon/nodes.yaml")


# -- a node of a Prometheus ------------------------------------------------------------------------------------------


def test_a_nodes_matchers_mean_its_instances_and_no_others() -> None:
    assert Part("a", ("a:9519",)).matchers == ',instance="a:9519"'
    part = Part("a", ("a.b:9400", 'x"(y)'), ("a.b:9100",))
    assert part.matchers == ',instance=~"a\\\\.b:9400|x\\"\\\\(y\\\\)"'
    assert "a\\\\.b:9100" in part.every
    assert part.has("a.b:9100")
    assert not part.has("aXb:9100")
