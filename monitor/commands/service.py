"""``gpumon service``: installs the daemon as a systemd service, says how it is, and takes it away again.

A plan is made first, from what is on the machine, and is all that ``--dry-run`` prints; carrying it out is
``monitor.commands.service_steps``. What is done already is not in the plan, so installing again is an upgrade.
"""

from __future__ import annotations

import importlib.resources
import os
import pwd
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from monitor import __version__
from monitor.commands.doctor_machine import Ran, group_exists, run_command
from monitor.commands.for_programs import json_text
from monitor.commands.service_steps import Command, Doer, Link, MakeDirectory, Own, Remove, Step, StepFailed, WriteFile

USER = "gpumon"
UNIT = "gpumon.service"
DEFAULT_PREFIX = Path("/") / "opt" / "gpumon"
CONFIG_DIRECTORY = Path("/etc/gpumon")
CONFIG = CONFIG_DIRECTORY / "gpumon.yaml"
STATE_DIRECTORY = Path("/var/lib/gpumon")
UNIT_PATH = Path("/etc/systemd/system") / UNIT
SYSUSERS_PATH = Path("/etc/sysusers.d/gpumon.conf")
LINK = Path("/usr/local/bin/gpumon")
_COMPLETIONS = (
    "bash-completion/completions/gpumon",
    "zsh/site-functions/_gpumon",
    "fish/vendor_completions.d/gpumon.fish",
)

_EXEC = re.compile(r"^ExecStart=(\S+)/bin/gpumon(?= )", re.MULTILINE)
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not the service's to read
_PLAIN = re.compile(r"^/[A-Za-z0-9_./+-]+$")
_NO_SUCH_GROUP = 6  # of groupdel: userdel has taken it along
_USERS = f'u {USER} - "gpumon, which watches GPUs" - -\n'


class ServiceError(Exception):
    """The service cannot be installed or removed as asked; the text says why, and what to do."""


def user_exists(name: str) -> bool:
    """Whether the system has a user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@dataclass(frozen=True)
class System:
    """What the plan depends on. ``root`` stands before every path that is looked at; tests give another."""

    root: Path = Path("/")
    uid: int = field(default_factory=os.geteuid)
    operator: str = field(default_factory=lambda: os.environ.get("SUDO_USER", ""))
    user_exists: Callable[[str], bool] = user_exists
    group_exists: Callable[[str], bool] = group_exists
    which: Callable[[str], str | None] = shutil.which
    run: Callable[[Sequence[str]], Ran | None] = run_command
    python: str = field(default_factory=lambda: str(getattr(sys, "_base_executable", None) or sys.executable))

    def at(self, path: Path) -> Path:
        """Where a path of the system is."""
        return self.root / path.relative_to("/")

    @property
    def has_systemd(self) -> bool:
        """Whether systemd runs this machine, as sd_booted(3) asks it."""
        return self.at(Path("/run/systemd/system")).is_dir()


def shipped_unit() -> str:
    """The unit's text: inside the package where it was installed from a wheel, else from the tree."""
    inside = Path(str(importlib.resources.files("monitor"))) / "data" / UNIT
    beside = Path(__file__).resolve().parents[2] / "systemd" / UNIT
    for path in (inside, beside):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise ServiceError(f"{inside} is missing: install gpumon again")


def default_package() -> str:
    """What is installed: this version from the package index, or the tree that we run from."""
    tree = Path(__file__).resolve().parents[2]
    return str(tree) if (tree / "pyproject.toml").is_file() else f"gpumon-node=={__version__}"


def unit_text(prefix: Path, *, journal: bool) -> str:
    """The shipped unit for an environment at ``prefix``; without the journal's group where the system has none, since
    systemd would not start a service whose group is missing."""
    text = re.sub(r"^(ExecStart=)\S+", rf"\g<1>{prefix}/bin/gpumon", shipped_unit(), flags=re.MULTILINE)
    return text if journal else re.sub(r"^SupplementaryGroups=systemd-journal\n", "", text, flags=re.MULTILINE)


def plan_install(system: System, prefix: Path, package: str, operator: str) -> list[Step]:
    """All that is to be done. Raises ``ServiceError`` where it cannot be done well."""
    _check_prefix(system, prefix)
    python = service_python(system)
    pip = f"{prefix}/bin/python"
    steps: list[Step] = _user_steps(system)
    steps += [
        Command((python, "-m", "venv", str(prefix)), "an environment of its own"),
        Command((pip, "-m", "pip", "install", "--quiet", "--upgrade", package), "gpumon in it"),
    ]
    link = system.at(LINK)
    if not os.path.lexists(link) or (link.is_symlink() and os.readlink(link).endswith("/bin/gpumon")):
        steps.append(Link(LINK, prefix / "bin" / "gpumon"))
        steps += [Link(path, prefix / "share" / part) for path, part in _completions() if _is_ours(system, path, part)]
    steps += [
        MakeDirectory(CONFIG_DIRECTORY, 0o750, USER),
        MakeDirectory(STATE_DIRECTORY, 0o700, USER, user=USER),
    ]
    if not system.at(CONFIG).exists():
        command = (f"{prefix}/bin/gpumon", "config", "init", "--output", str(CONFIG))
        steps.append(Command(command, "a configuration from what is on this node"))
        steps.append(Own(CONFIG, 0o640, USER))
    steps.append(Command((f"{prefix}/bin/gpumon", "check", str(CONFIG)), "a bad one would not start"))
    journal = system.group_exists("systemd-journal")
    steps.append(WriteFile(UNIT_PATH, unit_text(prefix, journal=journal), 0o644))
    if operator:
        steps.append(Command(("usermod", "--append", "--groups", USER, operator), "may use the daemon's socket"))
    if system.has_systemd:
        active = _is_active(system)
        steps.append(Command(("systemctl", "daemon-reload"), ""))
        steps.append(Command(("systemctl", "enable", "--now", UNIT), "now and at each boot"))
        if active:
            steps.append(Command(("systemctl", "restart", UNIT), "the new version"))
    return steps


def _completions() -> list[tuple[Path, str]]:
    """Where shells look for all users' completions, and where the environment has ours."""
    return [(LINK.parent.parent / "share" / part, part) for part in _COMPLETIONS]


def _is_ours(system: System, path: Path, part: str) -> bool:
    """Whether a link may stand there: nothing does, or one to an environment."""
    place = system.at(path)
    return not os.path.lexists(place) or (place.is_symlink() and os.readlink(place).endswith(f"/share/{part}"))


def service_python(system: System) -> str:
    """The Python of the service's environment: ours, or the system's where ours is in a home, which is closed to the
    service. Raises ``ServiceError`` where there is none."""
    if not system.python.startswith(_HIDDEN):
        return system.python
    asks = "import sys; sys.exit(sys.version_info < (3, 11))"
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        for place in ("/usr/bin", "/usr/local/bin"):
            path = f"{place}/{name}"
            if os.path.realpath(path).startswith(_HIDDEN):
                continue
            ran = system.run([path, "-I", "-c", asks])
            if ran is not None and ran.code == 0:
                return path
    raise ServiceError(
        f"the service could not reach {system.python}, which is in a home, and there is no other Python 3.11 or later: "
        "install the system's (apt-get install python3 python3-venv)"
    )


def _check_prefix(system: System, prefix: Path) -> None:
    if not _PLAIN.match(str(prefix)) or ".." in prefix.parts or len(prefix.parts) < 3:
        raise ServiceError(f"--prefix {prefix}: give an absolute directory of its own, without blanks")
    if str(prefix).startswith(_HIDDEN):
        raise ServiceError(f"--prefix {prefix}: homes are closed to the service, and it has a /tmp of its own")
    place = system.at(prefix)
    if place.exists() and not (place / "pyvenv.cfg").exists() and (not place.is_dir() or any(place.iterdir())):
        raise ServiceError(f"{prefix} is there already and is no Python environment: name another with --prefix")


def _user_steps(system: System) -> list[Step]:
    if system.user_exists(USER):
        return []
    if system.which("systemd-sysusers"):
        return [
            WriteFile(SYSUSERS_PATH, _USERS, 0o644),
            Command(("systemd-sysusers", str(SYSUSERS_PATH)), "user and group of its own, without a login"),
        ]
    options = ("--system", "--user-group", "--home-dir", "/nonexistent", "--no-create-home")
    command = ("useradd", *options, "--shell", "/usr/sbin/nologin", USER)
    return [Command(command, "user and group of its own, without a login")]


def _is_active(system: System) -> bool:
    ran = system.run(["systemctl", "is-active", "--quiet", UNIT])
    return ran is not None and ran.code == 0


def installed_prefix(system: System) -> Path | None:
    """Where the installed unit's environment is; None where no unit of ours is installed."""
    try:
        match = _EXEC.search(system.at(UNIT_PATH).read_text(encoding="utf-8"))
    except OSError:
        return None
    return Path(match[1]) if match else None


def plan_uninstall(system: System, prefix: Path, *, purge: bool) -> list[Step]:
    """All that is to be removed. Configuration and state stay unless ``purge``."""
    steps: list[Step] = []
    unit = system.at(UNIT_PATH).exists()
    if unit and system.has_systemd:
        steps.append(Command(("systemctl", "disable", "--now", UNIT), ""))
    if unit:
        steps.append(Remove(UNIT_PATH))
        if system.has_systemd:
            steps.append(Command(("systemctl", "daemon-reload"), ""))
    link = system.at(LINK)
    if link.is_symlink() and os.readlink(link) == str(prefix / "bin" / "gpumon"):
        steps.append(Remove(LINK))
    steps += [
        Remove(path)
        for path, part in _completions()
        if system.at(path).is_symlink() and os.readlink(system.at(path)) == str(prefix / "share" / part)
    ]
    # Only what is surely an environment of ours is removed as a whole.
    if (system.at(prefix) / "pyvenv.cfg").exists() and os.path.lexists(system.at(prefix) / "bin" / "gpumon"):
        steps.append(Remove(prefix, tree=True))
    if not purge:
        return steps
    drop_ins = UNIT_PATH.with_name(UNIT + ".d")
    steps += [
        Remove(path, tree=True)
        for path in (CONFIG_DIRECTORY, STATE_DIRECTORY, drop_ins)
        if os.path.lexists(system.at(path))
    ]
    if system.at(SYSUSERS_PATH).exists():
        steps.append(Remove(SYSUSERS_PATH))
    if system.user_exists(USER):
        steps.append(Command(("userdel", USER), "and its group, where nobody else is in it"))
    if system.group_exists(USER):
        steps.append(Command(("groupdel", USER), "", fine=(_NO_SUCH_GROUP,)))
    return steps


def install(system: System, doer: Doer, *, prefix: Path, package: str, operator: str, dry_run: bool) -> int:
    """Install, or print what that would do; 0, or 1 where it cannot be done."""
    try:
        if not dry_run:
            _need_root(system, "install")
        _do(plan_install(system, prefix, package, operator), doer, dry_run=dry_run)
    except (ServiceError, StepFailed) as error:
        click.echo(f"gpumon service install: {error}", err=True)
        return 1
    if not system.has_systemd:
        click.echo(
            "\nsystemd does not run this machine (a container?): the unit is for when it does. Until then, start the "
            f"daemon your way:\n  {prefix}/bin/gpumon daemon --config {CONFIG}"
        )
    if not operator:
        click.echo(f"\nTo use it without root: usermod -aG {USER} NAME, or --operator NAME; then log in again")
    elif not dry_run:
        click.echo(f"\n{operator}: log in again, and the group {USER} counts")
    if not dry_run:
        click.echo(f"Next: receivers into {CONFIG}, `systemctl reload gpumon`, `gpumon doctor`, `gpumon tui`")
    return 0


def uninstall(system: System, doer: Doer, *, prefix: Path | None, purge: bool, yes: bool, dry_run: bool) -> int:
    """Remove, or print what that would do; 0, or 1 where it cannot be done."""
    steps = plan_uninstall(system, prefix or installed_prefix(system) or DEFAULT_PREFIX, purge=purge)
    if not steps:
        click.echo("nothing of the service is here")
        return 0
    try:
        if not dry_run:
            _need_root(system, "uninstall")
            if not yes:
                click.echo("\n".join(step.describe() for step in steps))
                click.confirm("Remove all this?", abort=True)
        _do(steps, doer, dry_run=dry_run)
    except (ServiceError, StepFailed) as error:
        click.echo(f"gpumon service uninstall: {error}", err=True)
        return 1
    kept = [str(path) for path in (CONFIG_DIRECTORY, STATE_DIRECTORY) if system.at(path).exists()]
    if kept and not purge:
        click.echo(f"kept: {', '.join(kept)}, the user {USER}; --purge removes them, too")
    return 0


def _need_root(system: System, what: str) -> None:
    if system.uid != 0:
        raise ServiceError(f"only root may: sudo gpumon service {what}; --dry-run says what it would do")


def _do(steps: Sequence[Step], doer: Doer, *, dry_run: bool) -> None:
    for step in steps:
        click.echo(step.describe())
        if not dry_run:
            step.do(doer)


def status(system: System, *, as_json: bool = False) -> int:
    """Say how the service is; 0 where it runs, else 1. As JSON: {"schema": 1, "active", and each row's name: text}."""
    rows = _status_rows(system)
    active = dict(rows).get("service", "").startswith("active")
    if as_json:
        click.echo(json_text({"schema": 1, "active": active, **dict(rows)}))
        return 0 if active else 1
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {value}")
    return 0 if active else 1


def _status_rows(system: System) -> list[tuple[str, str]]:
    prefix = installed_prefix(system)
    rows = [("unit", str(UNIT_PATH) if prefix else "not installed: `gpumon service install`")]
    if prefix is not None:
        ran = system.run([str(system.at(prefix / "bin" / "gpumon")), "--version"])
        version = ran.out.strip() if ran is not None and ran.code == 0 else "missing or broken: install again"
        rows.append(("environment", f"{prefix}, {version}"))
    if system.has_systemd:
        rows.append(("service", _unit_state(system)))
    else:
        rows.append(("service", "not run: systemd does not run this machine"))
    rows.append(("user", USER if system.user_exists(USER) else f"there is no user {USER}"))
    config = system.at(CONFIG)
    try:
        there = config.exists()
    except PermissionError:
        rows.append(("configuration", f"{CONFIG} may not be looked at: join the group {USER}"))
    else:
        rows.append(("configuration", str(CONFIG) if there else "none: defaults"))
    return rows


def _unit_state(system: System) -> str:
    names = ("ActiveState", "SubState", "UnitFileState", "Result", "ActiveEnterTimestamp")
    ran = system.run(["systemctl", "show", UNIT, "--property", ",".join(names)])
    if ran is None or ran.code != 0:
        return "systemctl gave no answer"
    told = dict(line.split("=", 1) for line in ran.out.splitlines() if "=" in line)
    text = f"{told.get('ActiveState', '')} ({told.get('SubState', '')}), {told.get('UnitFileState') or 'not enabled'}"
    if told.get("ActiveState") == "active" and told.get("ActiveEnterTimestamp"):
        text += f", since {told['ActiveEnterTimestamp']}"
    elif told.get("Result", "success") != "success":
        text += f", {told['Result']}: `journalctl -u {UNIT}`"
    return text
