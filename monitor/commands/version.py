"""``gpumon version``: what a report of a fault needs.

As JSON: {"schema": 1, "version", "python", "platform", "package", "driver": null or text, "daemon": null or {"url",
"version", "mode", "simulated", "features"} or {"url", "error"}, "dependencies": {name: version}}.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import click

import monitor
from monitor.client.api import Client
from monitor.client.discover import find
from monitor.client.errors import ClientError
from monitor.commands.for_programs import json_text

SCHEMA = 1
DISTRIBUTION = "gpumon-node"
_DRIVER = Path("/proc/driver/nvidia/version")
_SECONDS = 3.0


def run(url: str | None, *, as_json: bool, driver_file: Path = _DRIVER) -> int:
    """Print it; 1 where a daemon was named that does not answer, else 0."""
    daemon = _daemon(url)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "version": monitor.__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "package": str(Path(monitor.__file__).parent),
        "driver": driver(driver_file),
        "daemon": daemon,
        "dependencies": dependencies(),
    }
    click.echo(json_text(found) if as_json else _text(found))
    named = url is not None or bool(os.environ.get("GPUMON_URL"))
    return 1 if named and (daemon is None or "error" in daemon) else 0


def driver(path: Path) -> str | None:
    """The version of NVIDIA's kernel module that is loaded, or None. The driver itself is not asked: it may hang."""
    try:
        first = path.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return None
    found = re.search(r"\b\d{3,4}\.\d+(?:\.\d+)*\b", first)
    return found[0] if found else None


def dependencies() -> dict[str, str]:
    """What gpumon needs, and the version that is installed; of what is not there, nothing."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for one in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


def _daemon(url: str | None) -> dict[str, Any] | None:
    try:
        there = find(url)
    except ClientError as error:
        return {"url": error.where, "error": str(error)}
    if there is None:
        return None

    async def ask() -> dict[str, Any]:
        async with Client(there.target, timeout=_SECONDS) as client:
            told = await client.capabilities()
        return {
            "url": str(there.target),
            "version": told.version,
            "mode": told.mode,
            "simulated": told.simulated,
            "features": list(told.features),
        }

    try:
        return asyncio.run(ask())
    except ClientError as error:
        return {"url": str(there.target), "error": str(error)}


def _text(found: dict[str, Any]) -> str:
    told = found["daemon"]
    if told is None:
        daemon = "none runs here"
    elif "error" in told:
        daemon = told["error"]
    else:
        what = " ".join(filter(None, (told["mode"], "simulated" if told["simulated"] else "")))
        daemon = f"{told['version']}, {what}, at {told['url']}"
    rows = [
        ("gpumon", f"{found['version']}, in {found['package']}"),
        ("python", found["python"]),
        ("platform", found["platform"]),
        ("driver", found["driver"] or "no NVIDIA driver is loaded"),
        ("daemon", daemon),
        ("with", ", ".join(f"{name} {version}" for name, version in found["dependencies"].items())),
    ]
    return "\n".join(f"{name:9} {value}".rstrip() for name, value in rows)
