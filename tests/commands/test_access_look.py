"""What is seen of `api:` in a configuration: tokens in the clear, certificates that end, files that everybody reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.commands.access_look import look_at_access
from monitor.commands.check import run
from monitor.config import loads
from tests.certificates import Authority

LONG, OTHER = "5c7c1c9a64e0ffd1a2", "b7a41cf0d1298ee034"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def seen(text: str) -> list[tuple[str, str]]:
    return [(one.state, one.seen) for one in look_at_access(loads(f"api: {{{text}}}").api)]


def tls(authority: Authority, days: int = 60, name: str = "n1") -> str:
    cert, key = authority.sign(name, days=days)
    return f"tls: {{cert_file: {cert}, key_file: {key}}}"


def test_what_is_well(authority: Authority) -> None:
    assert not seen("")
    assert not seen("listen: none, token: x, read_token: x")
    assert not seen("token: x")
    assert not seen(f"listen: '0.0.0.0:9519', token: {LONG}, read_token: {OTHER}, {tls(authority)}")


def test_tokens(authority: Authority) -> None:
    assert seen(f"listen: '0.0.0.0:9519', token: {LONG}, read_token: {OTHER}") == [
        (
            "warning",
            "token and read_token and all that is read cross the network in the clear, for whoever listens there",
        )
    ]
    (short,) = seen(f"listen: '0.0.0.0:9519', read_token: fifteen-letters, {tls(authority)}")
    assert short[1].startswith("read_token has fewer than 16 characters")
    (same,) = seen(f"token: {LONG}, read_token: {LONG}")
    assert same[1].startswith("read_token is the same as token")


def test_certificates(authority: Authority, tmp_path: Path) -> None:
    (ended,) = seen(tls(authority, -1, "old"))
    assert ended == ("problem", f"tls: {authority.ca.parent / 'old.pem'} has ended: clients refuse it")
    (soon,) = seen(tls(authority, 2, "soon"))
    assert soon[0] == "warning"
    assert "soon.pem ends in 4" in soon[1]  # 47 h, or 48
    cert, _ = authority.sign("n2")
    _, key = authority.sign("n3")
    (other,) = seen(f"tls: {{cert_file: {cert}, key_file: {key}}}")
    assert other[0] == "problem"
    assert "key values mismatch" in other[1]
    (missing,) = seen(f"tls: {{cert_file: {cert}, key_file: {tmp_path / 'none'}}}")
    assert missing == ("problem", f"tls: {tmp_path / 'none'} cannot be read: No such file or directory")


def test_files_that_everybody_reads(authority: Authority, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(LONG)
    token.chmod(0o640)
    cert, key = authority.sign("n4", days=60)
    key.chmod(0o600)
    text = f"token: {{file: {token}}}, tls: {{cert_file: {cert}, key_file: {key}}}"
    assert not seen(text)
    token.chmod(0o644)
    key.chmod(0o604)
    assert [said for _, said in seen(text)] == [
        f"token: {token} may be read by every user here",
        f"key_file: {key} may be read by every user here",
    ]


def test_check_tells_it_with_its_place(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpumon.yaml"
    file.write_text(f"api:\n  listen: 0.0.0.0:9519\n  read_token: {LONG}\n")
    assert run([file]) == 0
    assert "warning: read_token and all that is read cross the network in the clear" in capsys.readouterr().err
    file.write_text(f"api:\n  {tls(authority, -1, 'older')}\n")
    assert run([file]) == 1
    assert "gpumon.yaml:2:8: tls: " in capsys.readouterr().out
