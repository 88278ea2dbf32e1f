"""yaml-language-server, which is what VS Code, Neovim and Helix ask about YAML: from npm, where node is there. Nothing
is installed into the system; without node and npm it is left out, and the tests that need it say so."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.live.cache import InstallError, cache_root, is_complete, recipe_id, say, stamp

PACKAGE = "yaml-language-server@1.25.0"
OLDEST_NODE = 18
RECIPE = recipe_id(PACKAGE)


def folder() -> Path:
    """Where it is kept."""
    return cache_root() / "yaml-language-server"


def why_not() -> str:
    """Why it cannot be had here; "" where it can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    ran = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.match(r"v(\d+)\.", ran.stdout)
    if found is None or int(found[1]) < OLDEST_NODE:
        return f"node is {ran.stdout.strip() or 'broken'}: {OLDEST_NODE} or later is needed"
    return ""


def command() -> list[str] | None:
    """What starts it; None where it is not installed."""
    script = folder() / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
    return ["node", str(script), "--stdio"] if is_complete(folder(), RECIPE) and script.is_file() else None


def install() -> None:
    """Get it once. Raises ``InstallError`` where npm cannot."""
    reason = why_not()
    if reason:
        say(f"no yaml-language-server: {reason}; the tests with an editor are skipped")
        return
    if is_complete(folder(), RECIPE):
        return
    say(f"{PACKAGE} from npm")
    partial = folder().with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "package.json").write_text("{}\n")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier", PACKAGE]
    try:
        ran = subprocess.run(command, cwd=partial, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"npm did not get {PACKAGE} in five minutes") from error
    if ran.returncode:
        raise InstallError(f"npm could not install {PACKAGE}: {(ran.stderr or ran.stdout).strip()[-500:]}")
    stamp(partial, RECIPE)
    shutil.rmtree(folder(), ignore_errors=True)
    partial.rename(folder())
