"""The file that names a fleet's nodes, ``~/.config/gpumon/nodes.yaml``, and how one gets in to each.

    nodes:
      - name: h200-07
        url: https://h200-07:9519
        token_file: ~/.config/gpumon/token
        ca: /etc/ssl/our-ca.pem
      - url: http://prometheus:9090/team
        headers: {X-Scope-OrgID: team}

``defaults`` has what all share. Paths are those of the file's own directory where they are relative. A problem is told
with its file, line and column; the file is refused whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from monitor.client.access import Access, Address, load
from monitor.client.errors import ClientError
from monitor.yaml_reader import Node, Problems, compose, read_text

_ACCESS = ("token_file", "user", "password_file", "ca", "cert", "key", "insecure", "headers")
_PATHS = ("token_file", "password_file", "ca", "cert", "key")
_MOST = 500


def nodes_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where the file is, where nobody says otherwise."""
    env = os.environ if environment is None else environment
    base = env.get("XDG_CONFIG_HOME", "")
    home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    return (Path(base) if base.startswith("/") else home / ".config") / "gpumon" / "nodes.yaml"


def read_nodes(path: Path) -> tuple[Address, ...]:
    """The nodes of a file, in its order. Raises ``monitor.yaml_reader.ConfigError``."""
    problems = Problems(str(path))
    text = read_text(path, problems)
    whole = compose(text, problems) if text is not None else None
    problems.raise_if_any()
    if whole is None:
        problems.add("no nodes: write `nodes:` and a list of them")
        problems.raise_if_any()
        return ()
    fields = whole.fields(("nodes", "defaults"))
    shared = fields["defaults"].fields(_ACCESS) if "defaults" in fields else {}
    found: dict[str, Address] = {}
    items = fields["nodes"].items() if "nodes" in fields else []
    for item in items[:_MOST]:
        one = _node(item, shared, path.parent)
        if one is not None and one.called in found:
            item.problem(f'a second node is called "{one.called}"')
        elif one is not None:
            found[one.called] = one
    if len(items) > _MOST:
        items[_MOST].problem(f"more than {_MOST} nodes: let a Prometheus scrape them, and give its address")
    if not items and not problems.found:
        whole.problem("no nodes: write `nodes:` and a list of them")
    problems.raise_if_any()
    return tuple(found.values())


def _node(item: Node, shared: Mapping[str, Node], folder: Path) -> Address | None:
    fields = item.fields(("name", "url", *_ACCESS))
    url = fields["url"].text() if "url" in fields else None
    if url is None:
        if "url" not in fields and not item.problems.found:
            item.problem("a node needs its url: http://host:9519, https://host:9519 or unix:/path")
        return None
    name = fields["name"].text() or "" if "name" in fields else ""
    access = _access({**shared, **fields}, item, folder)
    if access is None:
        return None
    given = Address(url, access, name=name)
    if given.access.user != access.user:
        fields["url"].problem("a password does not stand in an address: use user and password_file")
        return None
    try:
        given.check()
    except ClientError as error:
        fields["url"].problem(f"{error.what}: {error.where}. {error.cure}")
        return None
    return given


def _access(fields: Mapping[str, Node], item: Node, folder: Path) -> Access | None:
    texts: dict[str, str] = {}
    for name in _ACCESS:
        if name in fields and name not in ("insecure", "headers"):
            text = fields[name].text()
            if text is None:
                return None
            texts[name] = str(folder / os.path.expanduser(text)) if name in _PATHS else text
    insecure = fields["insecure"].boolean() if "insecure" in fields else False
    headers = []
    for key, value in fields["headers"].pairs() if "headers" in fields else ():
        headers.append(f"{key.text() or ''}: {value.text() or ''}")
    try:
        access = load(
            token_file=texts.get("token_file", ""),
            user=texts.get("user", ""),
            password_file=texts.get("password_file", ""),
            ca=texts.get("ca", ""),
            cert=texts.get("cert", ""),
            key=texts.get("key", ""),
            insecure=bool(insecure),
            headers=headers,
        )
        access.tls()
    except ClientError as error:
        at = next((fields[name] for name in _PATHS if name in fields and texts.get(name) == error.where), item)
        where = "" if at is not item or error.where == "--header" or not error.where else f"{error.where}: "
        at.problem(f"{where}{error.what}" + (f". {error.cure}" if error.cure else ""))
        return None
    return access
