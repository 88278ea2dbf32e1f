"""Reads `api:` of ``gpumon.yaml``: where the daemon answers, and what has to be shown there."""

from __future__ import annotations

import os

from monitor import config_fields as described
from monitor.config_parts import Parts
from monitor.config_values import DEFAULT_PORT, Api, Tls
from monitor.digits import is_whole
from monitor.records import replace
from monitor.yaml_reader import Node

_LONGEST_SOCKET = 107


def read_api(node: Node, api: Api, parts: Parts) -> Api:
    """The section, with what ``api`` has where it is silent. Problems are noted at their places."""
    found = node.fields(described.API.names)
    if (path := parts.path_of(found, "socket")) is not None:
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            found["socket"].problem(f"a unix socket's path has at most {_LONGEST_SOCKET} bytes")
        api = replace(api, socket=path)
    api = replace(
        api,
        token=parts.secret_of(found, "token"),
        read_token=parts.secret_of(found, "read_token"),
        tls=_tls(found["tls"], parts) if "tls" in found else None,
    )
    if "listen" in found:
        listen = found["listen"]
        if listen.is_null or (text := listen.text()) in ("none", "off"):
            return replace(api, listen=None)
        try:
            api = replace(api, listen=parse_listen(text or ""))
        except ValueError as error:
            listen.problem(str(error))
        if why := why_not_listen(api):
            listen.problem(why)
    return api


def _tls(node: Node, parts: Parts) -> Tls | None:
    found = node.fields(described.TLS.names)
    for name in ("cert_file", "key_file"):
        if name not in found and not node.problems.found:
            node.problem(f"TLS needs both `cert_file` and `key_file`: {name} is missing")
    cert, key = parts.path_of(found, "cert_file"), parts.path_of(found, "key_file")
    if cert is None or key is None:
        return None
    return Tls(cert, key, parts.path_of(found, "client_ca_file"), (node.line, node.column))


def parse_listen(text: str) -> tuple[str, int]:
    """``host:port`` of the TCP listener. Raises ``ValueError``. Whether it may be that one, ``why_not_listen`` says."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not is_whole(port) or int(port) > 65535:
        raise ValueError(f'"{text}" is not HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT} or 0.0.0.0:{DEFAULT_PORT}')
    return host, int(port)


def why_not_listen(api: Api) -> str:
    """Why nothing may listen where ``api`` says, with what to do; "" where it may. Beyond this machine somebody has to
    show who he is."""
    if not api.is_open or api.token or api.read_token or (api.tls is not None and api.tls.client_ca_file):
        return ""
    host = api.listen[0] if api.listen is not None else ""
    return (
        f"{host} is not a loopback address, and there is nothing that a client has to show: set `read_token: {{file: "
        "PATH}` (only reads, for a Prometheus), `token: {file: PATH}` (may also silence), or `client_ca_file` with "
        f"`tls:`, in `api:` of gpumon.yaml; or listen on 127.0.0.1:{api.listen[1] if api.listen else DEFAULT_PORT}"
    )
