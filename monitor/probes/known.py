"""The servers that a daemon watches, as what can be probed."""

from __future__ import annotations

from monitor.api.node import Node
from monitor.config import VllmServer
from monitor.probes.schema import Secrets
from monitor.probes.servers import Server


def known_servers(node: Node) -> list[Server]:
    """Those of the configuration and those that were found, with what lets one in; or those of a simulation."""
    configured = {server.server: server for server in node.config.vllm_servers}
    found = []
    for status in node.statuses:
        url = status.facts.get("url", "")
        if status.source != "vllm" or not status.server:
            continue
        one = configured.get(status.server)
        if one is not None:
            url = one.url
        if url:
            model = status.facts.get("model", "").partition(", ")[0]
            found.append(Server(status.server, url, model, _Secrets(one), node.simulated))
    return found


class _Secrets:
    """Reads a server's secrets when they are needed: a key that was changed counts at once."""

    def __init__(self, server: VllmServer | None) -> None:
        self._server = server

    def __call__(self) -> Secrets:
        server = self._server
        if server is None:
            return Secrets()
        return Secrets(
            api_key=server.api_key.reveal() if server.api_key else None,
            ca_file=str(server.ca_file) if server.ca_file else None,
            insecure_skip_verify=server.insecure_skip_verify,
        )
