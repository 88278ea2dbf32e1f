"""What the live tier's tools promise, without a network: these tests are part of ``make test``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.live import cache, install_prometheus
from tests.live.cache import InstallError
from tests.live.servers import PROJECT, Process, wait_for

DEB822 = """Types: deb
# https://snapshot.example/archive/debian/20250520T000000Z
URIs: https://mirror.example/debian
Suites: bookworm
"""


def test_the_mirror_is_read_from_either_form_of_apt_sources(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(DEB822)
    assert install_prometheus.debian_mirror(tmp_path) == "https://mirror.example/debian"
    old = "# deb http://old.example/debian sid main\ndeb [arch=amd64] http://list.example/debian/ bookworm main\n"
    (tmp_path / "sources.list").write_text(old)
    assert install_prometheus.debian_mirror(tmp_path) == "http://list.example/debian/"


def test_a_machine_without_a_mirror_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="GPUMON_PROMETHEUS_BIN"):
        install_prometheus.debian_mirror(tmp_path)


def pretend(folder: Path, version: str) -> Path:
    """Binaries that say that they are of this version."""
    folder.mkdir()
    for name in install_prometheus.NEEDED:
        script = folder / name
        script.write_text(f"#!/bin/sh\necho '{name}, version {version} (branch: debian/sid)'\n")
        script.chmod(0o755)
    return folder


def test_a_prometheus_below_3_is_refused_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMON_PROMETHEUS_BIN", str(pretend(tmp_path / "old", "2.42.0+ds")))
    with pytest.raises(InstallError, match=r"prometheus is 2\.42\.0"):
        install_prometheus.install()


def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An Alertmanager that was unpacked and not installed; the binary."""
    folder = tmp_path / "deb" / "usr" / "bin"
    folder.parent.mkdir(parents=True)
    pretend(folder, "3.5.3")
    monkeypatch.setenv("GPUMON_PROMETHEUS_BIN", str(folder))
    templates = tmp_path / "deb" / "usr" / "share" / "prometheus" / "alertmanager"
    templates.mkdir(parents=True)
    (templates / "default.tmpl").write_text("ours")
    binary = folder / "prometheus-alertmanager"
    binary.write_text(f"#!/bin/sh\ncat {install_prometheus.TEMPLATES}/default.tmpl\n")
    binary.chmod(0o755)
    return binary


def test_an_installed_alertmanager_starts_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = unpacked(tmp_path, monkeypatch)
    (tmp_path / "default.tmpl").write_text("installed")
    assert install_prometheus.alertmanager_command(tmp_path) == [binary]


def test_an_unpacked_alertmanager_finds_its_templates_where_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked(tmp_path, monkeypatch)
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    command = install_prometheus.alertmanager_command(tmp_path / "nowhere")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "ours"
    assert not (tmp_path / "nowhere").exists()


def test_without_namespaces_root_gets_a_copy_and_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = unpacked(tmp_path, monkeypatch)
    monkeypatch.setattr(install_prometheus, "_runs", lambda command: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InstallError, match="install prometheus-alertmanager"):
        install_prometheus.alertmanager_command(tmp_path / "system" / "alertmanager")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert install_prometheus.alertmanager_command(tmp_path / "system" / "alertmanager") == [binary]
    assert (tmp_path / "system" / "alertmanager" / "default.tmpl").read_text() == "ours"


def test_an_old_prometheus_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMON_PROMETHEUS_BIN", raising=False)
    monkeypatch.setenv("GPUMON_LIVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(pretend(tmp_path / "old", "2.53.3")))
    with pytest.raises(InstallError, match="not installed"):
        install_prometheus.prometheus_bin()
    new = pretend(tmp_path / "new", "3.5.3+ds1")
    monkeypatch.setenv("PATH", str(new))
    assert install_prometheus.prometheus_bin() == new
    assert install_prometheus.check(new) == (3, 5, 3)


def test_only_what_is_whole_and_of_this_recipe_counts(tmp_path: Path) -> None:
    assert not cache.is_complete(tmp_path, "a")
    cache.stamp(tmp_path, "a")
    assert cache.is_complete(tmp_path, "a")
    assert not cache.is_complete(tmp_path, "b")
    (tmp_path / cache.STAMP).write_text('{"recipe": "a')
    assert not cache.is_complete(tmp_path, "a")


# A server that ignores SIGTERM's meaning for its children: one of them in a session of its own.
ESCAPING = "setsid sleep 1000 & echo $! >child; exec sleep 1000"


def escaped(folder: Path) -> psutil.Process:
    """The child in a session of its own."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        text = (folder / "child").read_text() if (folder / "child").exists() else ""
        if text.endswith("\n"):
            return psutil.Process(int(text))
        time.sleep(0.02)
    raise AssertionError("the child did not start")


def test_a_server_ends_with_everything_it_started(tmp_path: Path) -> None:
    command = ["sh", "-c", f"cd {tmp_path}; {ESCAPING}"]
    process = Process("escaping", command, tmp_path / "log", {})
    child = escaped(tmp_path)
    assert process.alive
    process.stop()
    assert not child.is_running()
    assert not psutil.pid_exists(process.pid)


def test_what_a_server_leaves_in_its_temporary_folder_goes_with_it(tmp_path: Path) -> None:
    command = ["sh", "-c", f'touch "$TMPDIR/left"; echo "$TMPDIR" > {tmp_path}/named; exec sleep 100']
    process = Process("leaving", command, tmp_path / "log", {})
    wait_for("it says where", lambda: (tmp_path / "named").exists() and (tmp_path / "named").read_text(), 60)
    folder = Path((tmp_path / "named").read_text().strip())
    assert (folder / "left").exists()
    process.stop()
    assert not folder.exists()


def test_a_server_ends_when_the_test_is_killed(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
from tests.live.servers import Process
Process("escaping", ["sh", "-c", "cd {tmp_path}; {ESCAPING}"], Path("{tmp_path}/log"), {{}})
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as test:
        child = escaped(tmp_path)
        os.kill(test.pid, signal.SIGKILL)
        child.wait(timeout=30)
    assert not child.is_running()
