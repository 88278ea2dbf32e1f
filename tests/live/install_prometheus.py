"""Prometheus 3 and its promtool: where the person says, on the PATH, or unpacked from Debian's unstable suite.

Debian 12 itself has Prometheus 2.42, whose windows are closed on the left. Ours are open, as those of Prometheus 3, so
an older one is refused instead of compared with. Nothing is installed into the system: the packages are unpacked, and
apt keeps its lists in a temporary folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.cache import InstallError, cache_root, is_complete, recipe_id, say, stamp

NEEDED = ("prometheus", "promtool")
BESIDE = ("prometheus-node-exporter", "prometheus-alertmanager")
"""Packages that are unpacked with them: peers to be compared with."""
SOURCE = "golang-github-prometheus-prometheus-dev"
SCRIPTS = Path("usr/share/gocode/src/github.com/prometheus/prometheus/promql/promqltest/testdata")
"""The package of Prometheus' source, and where in it the scripts are that it tests its own language with."""
OLDEST = (3, 0)
ADVICE = "install Prometheus 3 and set GPUMON_PROMETHEUS_BIN to the folder with its prometheus and promtool"
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
"""Where Debian's Alertmanager looks for its templates and its pages, wherever it was unpacked."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def version_of(binary: Path) -> tuple[int, ...]:
    """The version that ``prometheus`` or ``promtool`` gives of itself, as ``(3, 5, 3)``."""
    try:
        ran = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        raise InstallError(f"{binary} does not run: {error}; {ADVICE}") from error
    found = re.search(r"version (\d+(?:\.\d+)+)", ran.stdout + ran.stderr)
    if found is None:
        raise InstallError(f"{binary} --version does not say a version: {(ran.stdout + ran.stderr)[:200]!r}; {ADVICE}")
    return tuple(int(part) for part in found[1].split("."))


def check(folder: Path) -> tuple[int, ...]:
    """The version in ``folder``; raises ``InstallError`` where a binary is missing or older than 3."""
    for name in NEEDED:
        if not os.access(folder / name, os.X_OK):
            raise InstallError(f"no {name} in {folder}; {ADVICE}")
    versions = {name: version_of(folder / name) for name in NEEDED}
    for name, version in versions.items():
        if version[:2] < OLDEST:
            text = ".".join(map(str, version))
            raise InstallError(f"{folder / name} is {text}: its windows mean something else than ours; {ADVICE}")
    return versions["prometheus"]


def prometheus_bin() -> Path:
    """The folder with ``prometheus`` and ``promtool``, both 3 or later. Installs nothing.

    In this order: ``$GPUMON_PROMETHEUS_BIN`` (where it is set, no other is taken), the PATH, the cache."""
    named = os.environ.get("GPUMON_PROMETHEUS_BIN")
    if named:
        check(Path(named))
        return Path(named)
    for candidate in (_on_path(), _installed()):
        if candidate is not None:
            return candidate
    raise InstallError("Prometheus 3 is not installed: run `make test-live`, or python -m tests.live.install")


def amtool() -> Path:
    """The ``amtool`` beside Prometheus, or the PATH's."""
    return _beside("amtool")


def alertmanager_command(templates: Path = TEMPLATES) -> list[str | Path]:
    """How to start an Alertmanager, without its arguments.

    Debian's starts only where its templates are at their place in the system. For one that was only unpacked, the
    command gives it a mount namespace of its own in which they are there: no other process sees that, and it ends with
    it. Where that is refused, as in many containers, root gets a copy at that place. Raises ``InstallError``."""
    binary = _beside("prometheus-alertmanager", "alertmanager")
    share = binary.parent.parent / "share"
    ours = share / TEMPLATES.relative_to("/usr/share")
    if (templates / "default.tmpl").exists() or not (ours / "default.tmpl").exists():
        return [binary]
    wrapper: list[str | Path] = ["unshare", "--map-root-user", "--mount", "sh", "-euc", _IN_ITS_PLACE, "sh", share]
    if _runs([*wrapper, "true"]):
        return [*wrapper, binary]
    if os.geteuid() != 0:
        raise InstallError(
            f"{binary} needs {templates}, and this user may make no namespace in which it is there: "
            "install prometheus-alertmanager, or allow user namespaces"
        )
    templates.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ours, templates, dirs_exist_ok=True)
    say(f"no namespaces here: copied Alertmanager's templates to {templates}")
    return [binary]


# The time zones and certificates of the system stay beside what is unpacked.
_IN_ITS_PLACE = """
share=$1; shift
for kept in zoneinfo ca-certificates; do
    if [ -d "/usr/share/$kept" ] && mkdir -p "$share/$kept"; then
        mount --rbind "/usr/share/$kept" "$share/$kept"
    fi
done
mount --rbind "$share" /usr/share
exec "$@"
"""


def _runs(command: list[str | Path]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _beside(*names: str) -> Path:
    """The first of these programs that is in Prometheus' folder or on the PATH. Raises ``InstallError``."""
    folder = prometheus_bin()
    for name in names:
        if os.access(folder / name, os.X_OK):
            return folder / name
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise InstallError(f"no {names[0]} in {folder} nor on the PATH: install it, or run python -m tests.live.install")


def install() -> Path:
    """The folder with the binaries, unpacked from Debian's unstable suite where there is none yet."""
    try:
        folder = prometheus_bin()
    except InstallError:
        if os.environ.get("GPUMON_PROMETHEUS_BIN"):
            raise
        folder = _unpack()
    say(f"Prometheus {'.'.join(map(str, check(folder)))} in {folder}")
    return folder


def _on_path() -> Path | None:
    found = shutil.which("prometheus")
    if found is None:
        return None
    folder = Path(found).parent
    try:
        check(folder)
    except InstallError as error:
        say(f"passing over the Prometheus on the PATH: {error}")
        return None
    return folder


def _place() -> tuple[Path, str]:
    return cache_root() / "prometheus3", recipe_id("prometheus from sid", *NEEDED, *BESIDE, os.uname().machine)


def _installed() -> Path | None:
    place, recipe = _place()
    return place / "usr" / "bin" if is_complete(place, recipe) else None


def debian_mirror(sources: Path = Path("/etc/apt")) -> str:
    """The Debian mirror that this machine's apt uses, from its one-line (``.list``) or deb822 (``.sources``) files."""
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file():
            continue
        for line in file.read_text(errors="replace").splitlines():
            if line.lstrip().startswith("#"):
                continue
            for word in line.split():
                if re.fullmatch(r"[a-z+]+://\S+/debian/?", word):
                    return word
    raise InstallError(f"no Debian mirror stands in {sources}; {ADVICE}")


def _unpack() -> Path:
    place, recipe = _place()
    say("unpacking Prometheus 3 from Debian's unstable suite, by this machine's own mirror")
    with _making(place, recipe) as partial:
        _unpack_into(partial, (*NEEDED, *BESIDE))
        check(partial / "usr" / "bin")
    return place / "usr" / "bin"


def promql_scripts() -> Path:
    """The folder with Prometheus' own scripts of the language, ``*.test``: ``$GPUMON_PROMQL_SCRIPTS``, or the cache.
    Installs nothing."""
    named = os.environ.get("GPUMON_PROMQL_SCRIPTS")
    if named:
        return Path(named)
    place, recipe = _scripts_place()
    if is_complete(place, recipe):
        return place / SCRIPTS
    raise InstallError(
        "Prometheus' own scripts are not installed: run `make test-live`, or python -m tests.live.install; or set "
        "GPUMON_PROMQL_SCRIPTS to promql/promqltest/testdata of its source"
    )


def install_scripts() -> Path:
    """The folder with the scripts, unpacked from Debian's package of Prometheus' source where there is none yet."""
    try:
        return promql_scripts()
    except InstallError:
        place, recipe = _scripts_place()
    say("unpacking Prometheus' own scripts of the language from Debian's unstable suite")
    with _making(place, recipe) as partial:
        _unpack_into(partial, (SOURCE,))
        if not any((partial / SCRIPTS).glob("*.test")):
            raise InstallError(f"there are no scripts in Debian's {SOURCE}; set GPUMON_PROMQL_SCRIPTS to their folder")
    return place / SCRIPTS


def _scripts_place() -> tuple[Path, str]:
    return cache_root() / "prometheus3-scripts", recipe_id("prometheus from sid", SOURCE)


@contextmanager
def _making(place: Path, recipe: str) -> Iterator[Path]:
    """A folder to make a thing in, which gets its name and its stamp when the block has ended well."""
    partial = place.with_name(place.name + ".partial")
    for old in (partial, place):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    stamp(partial, recipe)
    partial.rename(place)


def _unpack_into(folder: Path, packages: tuple[str, ...]) -> None:
    """Unpack packages of Debian's unstable suite. Raises ``InstallError``."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise InstallError(f"there is no {tool} here to get Prometheus 3 with; {ADVICE}")
    if not KEYRING.is_file():
        raise InstallError(f"{KEYRING} is missing (package debian-archive-keyring); {ADVICE}")
    mirror = debian_mirror()
    with tempfile.TemporaryDirectory(prefix="gpumon-apt-") as name:
        apt = Path(name)
        for part in ("etc/parts", "lists/partial", "cache/archives/partial"):
            (apt / part).mkdir(parents=True)
        (apt / "etc/sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} sid main\n")
        settings = {
            "Dir::Etc::sourcelist": apt / "etc/sources.list",
            "Dir::Etc::sourceparts": apt / "etc/parts",
            "Dir::State::Lists": apt / "lists",
            "Dir::Cache": apt / "cache",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        _run(["apt-get", *options, "-qq", "update"], apt)
        _run(["apt-get", *options, "-qq", "download", *packages], apt)
        for package in sorted(apt.glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(folder)], apt)


def _run(command: list[str], where: Path) -> None:
    ran = subprocess.run(
        command, cwd=where, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False
    )
    if ran.returncode != 0:
        raise InstallError(f"{command[0]} failed ({ran.returncode}): {(ran.stderr or ran.stdout).strip()}; {ADVICE}")
