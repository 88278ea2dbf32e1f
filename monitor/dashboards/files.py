"""The files that Grafana is given: dashboards as JSON, and the provisioning that names them and their data sources."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from monitor.dashboards import DEFAULT_PATH, DEFAULT_PROMETHEUS, fleet, node, probes, vllm
from monitor.dashboards.build import Dashboard, to_json

ALL: tuple[Dashboard, ...] = (fleet.DASHBOARD, node.DASHBOARD, vllm.DASHBOARD, probes.DASHBOARD)
READ_TOKEN = "GPUMON_READ_TOKEN"  # noqa: S105
"""The environment variable of Grafana that a node's token comes from."""
_SIGNED = "# As gpumon wrote it, `gpumon dashboards` replaces it; changed, it is kept: "
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""A node that listens there alone lets everybody read."""


def files(
    prometheus: str = DEFAULT_PROMETHEUS, nodes: Sequence[str] = (), path: str = DEFAULT_PATH
) -> dict[PurePosixPath, str]:
    """Every file by its place. ``prometheus``: the URL of the data source, "" for none. ``nodes``: URLs of gpumon nodes
    that are asked themselves. ``path``: where Grafana finds the dashboards."""
    found = {PurePosixPath("dashboards") / f"{each.uid}.json": text_of(each) for each in ALL}
    below = PurePosixPath("provisioning")
    found[below / "dashboards" / "gpumon.yaml"] = _signed(_PROVIDER.format(path=json.dumps(path)))
    sources = [_source("Prometheus of gpumon", "gpumon-prometheus", prometheus)] if prometheus else []
    sources += [_source(f"gpumon {_host(url)}", f"gpumon-{_uid(url)}", url, node=True) for url in nodes]
    if sources:
        found[below / "datasources" / "gpumon.yaml"] = _signed(_SOURCES + "".join(sources))
    return found


def as_written(text: str) -> bool:
    """Whether a file of the provisioning is as it was written here once, whatever the options were."""
    body, _, _ = text.rpartition(_SIGNED)
    return text == _signed(body)


def _signed(text: str) -> str:
    return f"{text}{_SIGNED}{zlib.crc32(text.encode()):08x}\n"


def text_of(dashboard: Dashboard) -> str:
    """A dashboard's file."""
    return json.dumps(to_json(dashboard), indent=1, ensure_ascii=False) + "\n"


_PROVIDER = """\
# Grafana reads this at its start, from its directory provisioning/dashboards.
apiVersion: 1

providers:
  - name: gpumon
    folder: gpumon
    type: file
    # What is changed in Grafana is overwritten by the files: save a copy under another name instead.
    allowUiUpdates: false
    options:
      path: {path}
"""
_SOURCES = """\
# Grafana reads this at its start, from its directory provisioning/datasources.
apiVersion: 1

datasources:
"""


def _host(url: str) -> str:
    return url.split("://", 1)[-1].rstrip("/")


def _uid(url: str) -> str:
    """Of at most 40 letters, digits, ``-`` and ``_``."""
    return "".join(each if each.isalnum() and each.isascii() else "-" for each in _host(url))[:33]


def _source(name: str, uid: str, url: str, *, node: bool = False) -> str:
    lines = [
        f"  - name: {json.dumps(name)}",
        f"    uid: {json.dumps(uid)}",
        "    type: prometheus",
        "    access: proxy",
        f"    url: {json.dumps(url)}",
        "    jsonData:",
        "      httpMethod: POST",
    ]
    if node:
        lines += [
            "      # A node keeps a sample a second; windows of a minute are what its rates need.",
            '      timeInterval: "15s"',
            "      prometheusType: Prometheus",
        ]
        if url.startswith("https://"):
            lines += [
                "      # Where Grafana does not know who signed its certificate: `tlsAuthWithCACert: true` here, and",
                "      # `tlsCACert: |` with the authority's certificate under secureJsonData.",
            ]
        if urlsplit(url).hostname not in _LOOPBACK:
            lines += [
                "      httpHeaderName1: Authorization",
                "    secureJsonData:",
                f"      # api.read_token of its gpumon.yaml, in Grafana's environment as {READ_TOKEN}.",
                f'      httpHeaderValue1: "Bearer ${READ_TOKEN}"',
            ]
    else:
        lines += [
            "      # As often as it scrapes: windows of rates follow from it, four times as long at least.",
            '      timeInterval: "15s"',
        ]
    return "\n".join(lines) + "\n"
