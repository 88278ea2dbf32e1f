"""schemathesis against a simulated daemon, by the daemon's own description of its API."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.install import cache_root, schemathesis
from tests.live.servers import daemon

_TOKEN = "for-this-daemon-alone"
_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
LEFT_OUT = ("post_stream", "post_probes", "post_probes_profile")
"""A stream never ends, and what is started would load the machine: the target ``http`` has their bodies."""


@dataclass
class Report:
    """What a run made of it."""

    requests: int = 0
    operations: str = ""
    """``41 of 44``: how many were tried of those that are described."""
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    """Each is the operation and what was wrong."""


def run(seconds: float | None, phases: str = "coverage,fuzzing") -> Report:
    """Send requests for at most so long; without a limit as long as the phases take, which both end by themselves:
    ``coverage`` is made of the description alone. Raises ``InstallError``; ``RuntimeError`` where schemathesis fails.
    """
    program = schemathesis()
    with tempfile.TemporaryDirectory(prefix="gpumon-fuzz-") as folder:
        receiver = {"name": "team", "webhook": "http://127.0.0.1:1/"}
        config: dict[str, Any] = {"api": {"token": _TOKEN}, "receivers": [receiver]}
        with daemon(Path(folder), config, "--simulate", "--past", "60") as node:
            out = Path(folder) / "report.json"
            command: list[str | Path] = [
                program, "run", f"{node.url}/api/gpumon/v1/openapi.json", f"--url={node.url}", "--no-color",
                f"--checks={','.join(_CHECKS)}", f"--phases={phases}", "--continue-on-failure",
                f"--header=Authorization: Bearer {_TOKEN}", "--request-timeout=60", "--suppress-health-check=all",
                *([] if seconds is None else [f"--max-time={max(1, round(seconds))}"]),
                "--generation-database=none", "--warnings=off",
                "--report=json", f"--report-json-path={out}",
                *(f"--exclude-operation-id={name}" for name in LEFT_OUT),
            ]  # fmt: skip
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=900 + (seconds or 0),
                env={**os.environ, "NO_PROXY": "127.0.0.1"}, preexec_fn=lambda: os.nice(19),
            )  # fmt: skip
            if not out.exists():
                told = f"{done.stdout[-3000:]}{done.stderr[-2000:]}"
                raise RuntimeError(f"schemathesis ended with {done.returncode}:\n{told}")
            (cache_root() / "openapi.txt").write_text(done.stdout)
            (cache_root() / "openapi.json").write_bytes(out.read_bytes())
            return _read(json.loads(out.read_text()))


def _read(report: dict[str, Any]) -> Report:
    failures = [f"{one['title']}: {', '.join(one['operations'])}" for one in report["failures"]]
    failures += [f"schemathesis: {one}" for one in report["errors"]]
    tried = report["operations"]
    return Report(
        report["test_cases"]["generated"], f"{tried['tested']} of {tried['total']}", report["running_time"], failures
    )
