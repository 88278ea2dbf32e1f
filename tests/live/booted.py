"""A machine whose first process is a real systemd, in namespaces of its own over a copy of this one's files: our unit
and its drop-ins run as they would on a node, under the real sandbox of each of their lines.

    with Booted(tmp_path, {"/etc/gpumon/gpumon.yaml": "…"}) as machine:
        machine.systemctl("start", "gpumon")
        machine.run("id", user="gpumon")

Nothing that it writes reaches this machine: its files are an overlay in memory, its network has a loopback alone, its
processes end with it. Its kernel is ours, and it has our system's programs. It needs root, cgroup v1 with the
hierarchies ``systemd`` and ``devices``, overlayfs, and systemd itself (``why_not`` says what is missing).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

SYSTEMD = Path("/lib/systemd/systemd")
TREE = Path(__file__).resolve().parents[2]
UNIT = TREE / "systemd" / "gpumon.service"
_CGROUPS = Path("/sys/fs/cgroup")
_CLOSED = ("/tmp", "/var/tmp", "/run")
"""The unit has folders of its own there, or the machine has."""
_HIERARCHIES = ("systemd", "devices")
_SECONDS = 60.0
NVIDIA = 195
"""The major number of NVIDIA's devices. There is no driver here: who may open one gets ENXIO, who may not EPERM."""
_DEVICES = {"nvidiactl": 255, "nvidia0": 0}
_PROGRAMS = ("unshare", "nsenter", "setpriv", "mount", "pivot_root", "ip", "useradd", "curl")
_SPACES = ("--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--cgroup")
# In namespaces of its own: what is mounted goes with them.
_TRY = """
mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && mkdir /mnt/files /mnt/work /mnt/root &&
mount -t overlay -o lowerdir=/,upperdir=/mnt/files,workdir=/mnt/work overlay /mnt/root
"""

# Runs as the first process of the namespaces, and becomes systemd.
_BOOT = r"""
set -eu
here=$1; root=$here/root
mount --make-rprivate /
mkdir -p $here/upper $root
mount -t tmpfs -o mode=755 tmpfs $here/upper
mkdir $here/upper/files $here/upper/work
mount -t overlay -o lowerdir=/,upperdir=$here/upper/files,workdir=$here/upper/work overlay $root
cd $root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/devices sys/fs/cgroup/systemd
mount -t cgroup -o devices cgroup sys/fs/cgroup/devices
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -t tmpfs -o mode=755 tmpfs dev
for one in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 0666 dev/${one%:*} c 1 ${one#*:}; done
mknod -m 0666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
ip link set lo up
. $here/prepare
mkdir old; pivot_root . old; umount -l /old
mount --make-rshared /
exec env -i container=gpumon-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --system --unit=gpumon-test.target --log-target=journal --show-status=no
"""


def why_not() -> str:
    """Why no such machine can be had here; "" where it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not SYSTEMD.exists():
        return "needs systemd's own program"
    if missing := [one for one in _PROGRAMS if shutil.which(one) is None]:
        return f"needs {', '.join(missing)}"
    if closed := [str(one) for one in _places() if any(one.is_relative_to(hidden) for hidden in _CLOSED)]:
        return f"needs a tree and a Python that the unit leaves to be seen: {', '.join(closed)} is not"
    if missing := [one for one in _HIERARCHIES if not (_CGROUPS / one / "cgroup.procs").exists()]:
        return f"needs cgroup v1 with {', '.join(missing)}"
    done = subprocess.run(
        ["unshare", *_SPACES, "sh", "-c", _TRY], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    return "" if done.returncode == 0 else f"needs namespaces and overlayfs: {done.stderr.strip()}"


class Booted:
    """The machine. ``files`` are written before it starts: absolute path to text; ``drop_ins`` likewise, by file name.
    ``binds`` are directories of this machine that it shares. ``directory`` is for its scratch."""

    def __init__(
        self,
        directory: Path,
        files: Mapping[str, str],
        drop_ins: Mapping[str, str] | None = None,
        binds: Mapping[str, Path] | None = None,
    ) -> None:
        self._here = directory
        self._name = f"gpumon-test-{uuid.uuid4().hex[:8]}"
        self._files = {
            "/etc/systemd/system/gpumon-test.target": "[Unit]\n",
            "/etc/systemd/system/gpumon.service": UNIT.read_text(encoding="utf-8"),
            "/etc/systemd/journald.conf.d/gpumon-test.conf": "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n",
            "/etc/machine-id": f"{uuid.uuid4().hex}\n",
            **{f"/etc/systemd/system/gpumon.service.d/{name}": text for name, text in (drop_ins or {}).items()},
            **files,
        }
        self._binds = binds or {}
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Booted:
        (self._here / "boot").write_text(_BOOT, encoding="utf-8")
        (self._here / "prepare").write_text(self._prepare(), encoding="utf-8")
        join = []
        for one in self._cgroups():
            one.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):  # of which a new one has none
                if (one / name).exists():
                    (one / name).write_text((one.parent / name).read_text())
            join.append(f"echo $$ > {one}/cgroup.procs")
        script = f"set -e; {'; '.join(join)}; exec unshare {' '.join(_SPACES)} bash {self._here}/boot {self._here}"
        with (self._here / "boot.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_booted()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *command: str, user: str = "root", check: bool = True, stdin: str = "") -> str:
        """Run a command on the machine as a user with all its groups: what it wrote, both outputs together."""
        if user != "root":
            command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env", *command)
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "-a", *command],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{self.log()}")
        return done.stdout

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """``systemctl``; where it fails, what the unit logged is in the error."""
        return self.run("systemctl", "--no-pager", *arguments, check=check)

    def show(self, what: str, unit: str = "gpumon") -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", "-p", what, unit).strip()

    def log(self, unit: str = "gpumon") -> str:
        """What the journal has of a unit: what it wrote, and what systemd said of it."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, check=False)

    def python(self, program: str, user: str = "root", check: bool = True) -> str:
        """Run a program in our Python."""
        return self.run(sys.executable, "-c", textwrap.dedent(program), user=user, check=check)

    def unit(self, *command: str, properties: Sequence[str] = ()) -> str:
        """Run a command as a unit of its own with these lines of a unit file, to its end: what it wrote."""
        name = f"once-{uuid.uuid4().hex[:8]}"
        given = (f"StandardOutput=truncate:/run/{name}", f"StandardError=append:/run/{name}", *properties)
        options = [part for one in given for part in ("-p", one)]
        # Without --wait, which asks a bus that is not here.
        self.run("systemd-run", "--quiet", "--remain-after-exit", f"--unit={name}", *options, *command)
        until = time.monotonic() + _SECONDS
        while self.show("SubState", name) not in ("exited", "failed"):
            assert time.monotonic() < until, f"{name} does not end: {command}"
            time.sleep(0.1)
        return self.run("cat", f"/run/{name}")

    def wait(self, what: str, *command: str, holds: str, user: str = "root", seconds: float = _SECONDS) -> str:
        """Run a command until ``holds`` is in what it writes."""
        until = time.monotonic() + seconds
        while True:
            said = self.run(*command, user=user, check=False)
            if holds in said:
                return said
            if time.monotonic() > until:
                raise AssertionError(f"{what}: not within {seconds:g} s\n{said}\n{self.log()}")
            time.sleep(0.2)

    def _cgroups(self) -> list[Path]:
        """One of its own in each hierarchy: systemd takes what it finds there for its own."""
        places = [one for one in sorted(_CGROUPS.iterdir()) if not one.is_symlink()]
        return [one / self._name for one in places if (one / "cgroup.procs").exists()]

    def _prepare(self) -> str:
        """A shell script that makes the machine's files, below the directory that is to be its root."""
        lines = ["mkdir -p etc/systemd/system/gpumon.service.d etc/gpumon"]
        shared: list[Path] = []
        for place in _places():
            if any(place.is_relative_to(outer) for outer in shared):
                continue
            if _is_hidden(place):
                shared.append(place)
                lines += [f"mkdir -p .{place}", f"mount --bind {place} .{place}", f"mount -o remount,bind,ro .{place}"]
            else:  # it may be in a home that is closed: this copy of it is not
                lines += [f"chmod a+rx .{parent}" for parent in (place, *place.parents[:-1])]
        lines.append(f"ln -sf {Path(sys.prefix)}/bin/gpumon usr/local/bin/gpumon")
        for number, (path, text) in enumerate(self._files.items()):
            kept = self._here / f"file-{number}"
            kept.write_text(text, encoding="utf-8")
            lines += [f"mkdir -p .{Path(path).parent}", f"rm -f .{path}", f"cp {kept} .{path}"]
        lines += [
            "chroot . useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin gpumon",
            "chroot . useradd --create-home --user-group --groups gpumon member",
            "chroot . useradd --create-home --user-group stranger",
            "chgrp -R 0 etc/gpumon; chroot . chgrp -R gpumon /etc/gpumon; chmod 0750 etc/gpumon",
            "find etc/gpumon -type f -exec chmod 0640 {} +",
            # The names of devices that DeviceAllow= knows are those of this file, where a driver has registered.
            "sed '/^Block/,$d; /^$/d' /proc/devices > tmp/devices",
            f"echo '{NVIDIA} nvidia\n{NVIDIA} nvidiactl\n' >> tmp/devices",
            "mount --bind tmp/devices proc/devices",
            *(f"mknod -m 0666 dev/{name} c {NVIDIA} {minor}" for name, minor in _DEVICES.items()),
            "mknod -m 0644 dev/kmsg c 1 11",
            *(f"mkdir -p .{path}; mount --bind {place} .{path}" for path, place in self._binds.items()),
        ]
        return "\n".join(lines) + "\n"

    def _wait_booted(self) -> None:
        until = time.monotonic() + _SECONDS
        said = ""
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"it did not start:\n{(self._here / 'boot.log').read_text()}")
            if not self._pid:
                self._pid = _first_child(self._process.pid)
            elif Path(f"/proc/{self._pid}/comm").read_text().strip() == "systemd":
                said = self.run("systemctl", "is-active", "gpumon-test.target", check=False).strip()
                if said == "active":
                    self.run("systemctl", "start", "systemd-journald.service")
                    return
            time.sleep(0.1)
        raise AssertionError(f"systemd did not start: {said}")

    def _end(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            # What was started first is `unshare`, which ends the machine's first process with itself.
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(_SECONDS)
        for one in self._cgroups():
            _remove(one)


def _places() -> list[Path]:
    """What gpumon runs from, the outer before the inner."""
    return sorted({Path(sys.base_prefix), Path(sys.prefix), TREE})


def _is_hidden(place: Path) -> bool:
    """Whether the overlay of ``/`` shows it not, as another file system is mounted there."""
    return place.stat().st_dev != Path("/").stat().st_dev


def _first_child(pid: int) -> int:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(found[0]) if found else 0


def _remove(cgroup: Path) -> None:
    """Remove a cgroup and those in it, when their last process is gone."""
    until = time.monotonic() + _SECONDS
    while cgroup.exists():
        for one in (*sorted(cgroup.glob("**/"), key=lambda path: -len(path.parts)), cgroup):
            try:
                one.rmdir()
            except OSError:
                if time.monotonic() > until:
                    raise
        time.sleep(0.05)
