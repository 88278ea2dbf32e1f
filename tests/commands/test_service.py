"""``gpumon service``: the plans on machines of several kinds, carried out in a directory with recorded commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.commands import service
from monitor.commands.doctor_machine import Ran
from monitor.commands.service import (
    CONFIG,
    CONFIG_DIRECTORY,
    LINK,
    STATE_DIRECTORY,
    SYSUSERS_PATH,
    UNIT_PATH,
    ServiceError,
    System,
    install,
    plan_install,
    plan_uninstall,
    shipped_unit,
    status,
    uninstall,
    unit_text,
)
from monitor.commands.service_steps import Command, Doer, Remove, Step, StepFailed, WriteFile
from monitor.config import SYSTEM_SOCKET, SYSTEM_STATE
from monitor.records import replace

PREFIX = Path("/srv/gpumon")
PYTHON = "/usr/bin/python3.12"


class Fake:
    """A machine under a directory: what was run, and what that would have made."""

    def __init__(self, root: Path, *, systemd: bool = True, users: Sequence[str] = (), uid: int = 0) -> None:
        self.root = root
        self.users = set(users)
        self.ran: list[str] = []
        self.owned: list[tuple[str, str, str]] = []
        self.active = False
        self.fails = ""
        if systemd:
            (root / "run/systemd/system").mkdir(parents=True)
        self.system = System(
            root=root,
            uid=uid,
            operator="ann",
            user_exists=self.users.__contains__,
            group_exists=lambda name: name != "gpumon" or bool(self.users),
            which=lambda name: f"/usr/bin/{name}",
            run=self.ask,
            python=PYTHON,
        )
        self.doer = Doer(root, self.run, lambda path, user, group: self.owned.append((self.name(path), user, group)))

    def name(self, path: Path) -> str:
        return f"/{path.relative_to(self.root)}"

    def ask(self, command: Sequence[str]) -> Ran | None:
        if "is-active" in command:
            return Ran(0 if self.active else 3)
        if "show" in command:
            state = "active\nSubState=running" if self.active else "failed\nSubState=failed\nResult=exit-code"
            return Ran(0, f"ActiveState={state}\nUnitFileState=enabled\n")
        if command[-1] == "--version":
            return Ran(0, "gpumon, version 1.2.3\n") if Path(command[0]).exists() else None
        return None

    def run(self, command: Sequence[str]) -> None:
        line = " ".join(command)
        if self.fails and self.fails in line:
            raise StepFailed(f"`{line}` failed with exit status 1")
        self.ran.append(line)
        if "venv" in command:
            (self.root / command[-1].lstrip("/") / "bin").mkdir(parents=True, exist_ok=True)
            (self.root / command[-1].lstrip("/") / "pyvenv.cfg").touch()
        elif "pip" in command:
            (self.root / command[0].lstrip("/")).with_name("gpumon").touch()
        elif "init" in command:
            (self.root / command[-1].lstrip("/")).write_text("api: {}\n")
        elif command[0] in ("systemd-sysusers", "useradd"):
            self.users.add("gpumon")
        elif command[0] == "userdel":
            self.users.discard("gpumon")
        elif command[:2] == ("systemctl", "enable"):
            self.active = True

    def install(self, **options: Any) -> int:
        defaults: dict[str, Any] = {"prefix": PREFIX, "package": "gpumon-node==1", "operator": "ann", "dry_run": False}
        return install(self.system, self.doer, **(defaults | options))

    def uninstall(self, **options: Any) -> int:
        defaults: dict[str, Any] = {"prefix": None, "purge": False, "yes": True, "dry_run": False}
        return uninstall(self.system, self.doer, **(defaults | options))

    def has(self, path: Path) -> bool:
        return (self.root / path.relative_to("/")).exists()

    def text(self, path: Path) -> str:
        return (self.root / path.relative_to("/")).read_text()

    def tree(self) -> list[str]:
        return sorted(self.name(path) for path in self.root.rglob("*"))


def test_installing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path)
    assert fake.install() == 0
    assert fake.ran == [
        "systemd-sysusers /etc/sysusers.d/gpumon.conf",
        f"{PYTHON} -m venv /srv/gpumon",
        "/srv/gpumon/bin/python -m pip install --quiet --upgrade gpumon-node==1",
        "/srv/gpumon/bin/gpumon config init --output /etc/gpumon/gpumon.yaml",
        "/srv/gpumon/bin/gpumon check /etc/gpumon/gpumon.yaml",
        "usermod --append --groups gpumon ann",
        "systemctl daemon-reload",
        "systemctl enable --now gpumon.service",
    ]
    assert fake.owned == [
        ("/etc/gpumon", "", "gpumon"),
        ("/var/lib/gpumon", "gpumon", "gpumon"),
        ("/etc/gpumon/gpumon.yaml", "", "gpumon"),
    ]
    assert (tmp_path / "etc/gpumon").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "var/lib/gpumon").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/gpumon/gpumon.yaml").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "usr/local/bin/gpumon").readlink() == PREFIX / "bin/gpumon"
    unit = fake.text(UNIT_PATH)
    assert "\nExecStart=/srv/gpumon/bin/gpumon daemon --config /etc/gpumon/gpumon.yaml\n" in unit
    assert "\nSupplementaryGroups=systemd-journal\n" in unit
    assert "ann: log in again" in capsys.readouterr().out


def test_installing_again_only_upgrades(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.install()
    (tmp_path / "etc/gpumon/gpumon.yaml").write_text("mine: 1\n")
    before = fake.tree()
    fake.ran.clear()
    assert fake.install() == 0
    assert fake.tree() == before
    assert fake.text(CONFIG) == "mine: 1\n"
    assert not [line for line in fake.ran if "init" in line or "sysusers" in line]
    assert fake.ran[-1] == "systemctl restart gpumon.service"


def test_a_dry_run_does_nothing_and_needs_no_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path, uid=1000)
    before = fake.tree()
    assert fake.install(dry_run=True) == 0
    assert (fake.tree(), fake.ran, fake.owned) == (before, [], [])
    out = capsys.readouterr().out
    for part in (
        "run    systemctl enable --now gpumon.service",
        "write  /etc/systemd/system/gpumon.service",
        "| ExecStart=/srv/gpumon/bin/gpumon daemon",
        "link   /usr/local/bin/gpumon -> /srv/gpumon/bin/gpumon",
        "make   /etc/gpumon/   mode 0750, root:gpumon",
    ):
        assert part in out, part


def test_the_dry_run_prints_what_would_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path)
    fake.install(dry_run=True)
    planned = [line[7:].split("   #")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
    fake.install()
    assert fake.ran == planned


@pytest.mark.parametrize("what", ["install", "uninstall"])
def test_others_than_root_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    root = Fake(tmp_path)
    root.install()
    fake = Fake(tmp_path, systemd=False, uid=1000)
    assert (fake.install() if what == "install" else fake.uninstall()) == 1
    assert f"sudo gpumon service {what}" in capsys.readouterr().err
    assert fake.ran == []


def test_without_systemd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path, systemd=False)
    assert fake.install() == 0
    assert not [line for line in fake.ran if line.startswith("systemctl")]
    assert fake.has(UNIT_PATH)
    out = capsys.readouterr().out
    assert "systemd does not run this machine" in out
    assert "/srv/gpumon/bin/gpumon daemon --config /etc/gpumon/gpumon.yaml" in out
    assert fake.uninstall() == 0
    assert not fake.has(UNIT_PATH)


def test_systems_without_sysusers_and_journal(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.system = replace(fake.system, which=lambda name: None, group_exists=lambda name: False)
    assert fake.install(operator="") == 0
    assert fake.ran[0].startswith("useradd --system --user-group")
    assert "systemd-journal\n" not in fake.text(UNIT_PATH)
    assert not [line for line in fake.ran if "usermod" in line]
    assert not fake.has(SYSUSERS_PATH)


def test_a_step_that_fails_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path)
    fake.fails = "gpumon check"
    assert fake.install() == 1
    assert "failed with exit status 1" in capsys.readouterr().err
    assert not fake.has(UNIT_PATH)  # a service that could not start is not made
    fake.fails = ""
    assert fake.install() == 0


@pytest.mark.parametrize("prefix", ["gpumon", "/gpumon", "/srv/a b", "/srv/../etc", "/home/ann/gpumon", "/srv/%h"])
def test_prefixes_that_cannot_be(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ServiceError, match="--prefix"):
        plan_install(Fake(tmp_path).system, Path(prefix), "gpumon-node", "")


def test_a_prefix_that_is_somebody_elses(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    (tmp_path / "srv/gpumon").mkdir(parents=True)
    assert plan_install(fake.system, PREFIX, "gpumon-node", "")  # an empty directory will do
    (tmp_path / "srv/gpumon/data").touch()
    with pytest.raises(ServiceError, match="is there already"):
        plan_install(fake.system, PREFIX, "gpumon-node", "")
    assert not [step for step in plan_uninstall(fake.system, PREFIX, purge=True) if isinstance(step, Remove)]


def test_shells_of_all_users_complete_it_and_a_file_of_somebody_elses_stays(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    theirs = tmp_path / "usr/local/share/zsh/site-functions/_gpumon"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    for _ in range(2):
        fake.install()
        for part in ("bash-completion/completions/gpumon", "fish/vendor_completions.d/gpumon.fish"):
            assert os.readlink(tmp_path / "usr/local/share" / part) == f"/srv/gpumon/share/{part}"
    fake.uninstall(purge=False)
    assert [path for path in (tmp_path / "usr/local/share").rglob("*") if not path.is_dir()] == [theirs]


def test_a_command_that_is_somebody_elses_stays(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/gpumon").write_text("mine")
    fake.install()
    fake.uninstall(purge=True)
    assert fake.text(LINK) == "mine"


def test_a_python_in_a_home_is_not_the_services(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    hidden = replace(fake.system, python="/home/ann/.pyenv/bin/python3")
    with pytest.raises(ServiceError, match="in a home"):
        plan_install(hidden, PREFIX, "gpumon-node", "")
    there = replace(hidden, run=lambda command: Ran(0 if command[0] == "/usr/local/bin/python3.11" else 1))
    assert service.service_python(there) == "/usr/local/bin/python3.11"


def test_removing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path)
    fake.install()
    fake.ran.clear()
    assert fake.uninstall() == 0
    assert fake.ran == ["systemctl disable --now gpumon.service", "systemctl daemon-reload"]
    assert not fake.has(PREFIX)  # the unit said where it is
    assert not fake.has(UNIT_PATH)
    assert not (tmp_path / "usr/local/bin/gpumon").is_symlink()
    assert fake.has(CONFIG)
    assert fake.has(STATE_DIRECTORY)
    assert "kept: /etc/gpumon, /var/lib/gpumon" in capsys.readouterr().out
    fake.ran.clear()
    assert fake.uninstall() == 0
    assert "nothing of the service" in capsys.readouterr().out
    assert fake.uninstall(purge=True) == 0
    assert fake.ran == ["userdel gpumon", "groupdel gpumon"]
    assert not fake.has(CONFIG_DIRECTORY)
    assert not fake.has(STATE_DIRECTORY)
    assert [name for name in fake.tree() if "gpumon" in name] == []


def test_removing_asks_first(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.install()
    before = fake.tree()
    fake.ran.clear()
    runner = CliRunner()
    command = cli.commands["service"].commands["uninstall"]  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "System", lambda: fake.system)
        patch.setattr("monitor.commands.service_steps.Doer", lambda: fake.doer)
        result = runner.invoke(command, [], input="n\n")
        assert result.exit_code == 1
        assert "remove /srv/gpumon/ and all in it" in result.output
        assert (fake.tree(), fake.ran) == (before, [])
        assert runner.invoke(command, ["--dry-run"]).exit_code == 0
        assert (fake.tree(), fake.ran) == (before, [])
        assert runner.invoke(command, [], input="y\n").exit_code == 0
    assert not fake.has(UNIT_PATH)


def test_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path)
    assert status(fake.system) == 1
    assert "not installed" in capsys.readouterr().out
    fake.install()
    capsys.readouterr()
    assert status(fake.system) == 0
    out = capsys.readouterr().out
    for part in ("/srv/gpumon, gpumon, version 1.2.3", "active (running), enabled", str(CONFIG)):
        assert part in out, part
    assert status(fake.system, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["active"] is True
    assert told["configuration"] == str(CONFIG)
    fake.active = False
    assert status(fake.system, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["active"] is False
    assert status(fake.system) == 1
    assert "failed (failed), enabled, exit-code: `journalctl -u gpumon.service`" in capsys.readouterr().out
    nobody = replace(fake.system, run=lambda command: None)
    assert status(nobody) == 1
    assert "systemctl gave no answer" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "run")
    assert status(fake.system) == 1
    assert "systemd does not run" in capsys.readouterr().out


def test_the_unit_and_the_defaults_agree() -> None:
    unit = shipped_unit()
    assert f"--config {CONFIG}\n" in unit
    assert f"/run/{dict(line.split('=', 1) for line in unit.splitlines() if '=' in line)['RuntimeDirectory']}" == str(
        SYSTEM_SOCKET.parent
    )
    assert STATE_DIRECTORY == SYSTEM_STATE


def test_the_unit_sees_the_file_systems_of_homes() -> None:
    assert "\nProtectHome=read-only\n" in shipped_unit()  # `yes` would give another file system's readings for /home


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("journal", [True, False])
def test_systemd_understands_the_unit(tmp_path: Path, journal: bool) -> None:
    command = tmp_path / "bin/gpumon"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = tmp_path / "gpumon.service"
    unit.write_text(unit_text(tmp_path, journal=journal))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert "gpumon.service:" not in done.stderr, done.stderr
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert scored.returncode == 0, scored.stdout.splitlines()[-1]


SCORES = (
    {"gpumon.service": 18} | dict.fromkeys(("credentials", "gpm", "hidden-processes", "vllm-log"), 18) | {"tighter": 16}
)
"""Tenths, at most: as the README of the directory has them."""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_and_each_drop_in_are_as_closed_as_is_said(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "systemd"
    said = (shipped / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in shipped.glob("*.conf")} == SCORES.keys() - {"gpumon.service"}
    for name, score in SCORES.items():
        unit = tmp_path / name / "gpumon.service"
        drop_ins = unit.parent / "gpumon.service.d"
        drop_ins.mkdir(parents=True)
        shutil.copy(shipped / "gpumon.service", unit)
        if name != unit.name:
            shutil.copy(shipped / f"{name}.conf", drop_ins)
            assert f"| [{name}.conf]({name}.conf) |" in said
        command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={score}", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{name}: {done.stdout.splitlines()[-1]}"
        assert "Unknown" not in done.stderr, done.stderr


def test_steps_say_why_they_fail(tmp_path: Path) -> None:
    doer = Doer(tmp_path)
    (tmp_path / "file").touch()
    steps: list[Step] = [WriteFile(Path("/file/x"), "", 0o644), Remove(Path("/none"), tree=True)]
    for step in steps:
        with pytest.raises(StepFailed, match=r"/(file/x|none): (Not a directory|File exists|No such file)"):
            step.do(doer)
    with pytest.raises(StepFailed, match="is not installed"):
        doer.run(["no-such-program-of-gpumon"])
    with pytest.raises(StepFailed, match="exit status 3"):
        doer.run(["sh", "-c", "exit 3"])
    Command(("sh", "-c", "exit 3"), "", fine=(3,)).do(doer)
    with pytest.raises(StepFailed, match="exit status 3"):
        Command(("sh", "-c", "exit 3"), "", fine=(6,)).do(doer)
