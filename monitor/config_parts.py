"""What several sections of ``gpumon.yaml`` have in common: paths, secrets, URLs, TLS, lists of one."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from monitor.config_values import Secret
from monitor.shared_fields import SECRET_PARTS
from monitor.yaml_reader import Node

_USERINFO = re.compile(r"//[^/]*@")


class Parts:
    """Reads values of those kinds. Each method notes a problem at the value's place, and gives what it has."""

    def __init__(self, base: Path) -> None:
        self._base = base
        """Where relative paths start from."""

    def path_at(self, node: Node) -> Path | None:
        """The path that stands there, from the configuration's directory where it is relative; None with a problem
        noted where none does."""
        text = filled(node, "path")
        if text is None:
            return None
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            node.problem(f"there is no user {text.partition('/')[0][1:]}, or none with a home directory")
            return None
        if "\0" in text:
            node.problem("no path holds a zero byte")
            return None
        return path if path.is_absolute() else self._base / path

    def paths(self, node: Node) -> tuple[Path, ...]:
        """A list of paths."""
        return tuple(path for item in node.items() if (path := self.path_at(item)) is not None)

    def path_of(self, fields: dict[str, Node], name: str) -> Path | None:
        """The path in a field, or None where there is no such field."""
        return self.path_at(fields[name]) if name in fields else None

    def secret(self, node: Node) -> Secret | None:
        """A text, ``{env: NAME}`` or ``{file: PATH}``."""
        place = (node.line, node.column)
        if node.kind == "scalar":
            text = filled(node)
            return Secret("plain", text, place) if text is not None else None
        fields = node.fields(SECRET_PARTS.names)
        if len(fields) != 1:
            node.problem("say where the secret is, with either `env: NAME` or `file: PATH`")
            return None
        if "env" in fields:
            text = filled(fields["env"])
            return Secret("env", text, place) if text is not None else None
        path = self.path_at(fields["file"])
        return Secret("file", str(path), place) if path is not None else None

    def secret_of(self, fields: dict[str, Node], name: str) -> Secret | None:
        """The secret in a field, or None where there is no such field."""
        return self.secret(fields[name]) if name in fields else None

    def secret_url(self, node: Node) -> Secret | None:
        """An http or https URL that is a secret."""
        secret = self.secret(node)
        if secret is not None and secret.where == "plain" and not is_http_url(secret.value):
            node.problem("this is no http or https URL")
        return secret


def filled(node: Node, what: str = "text") -> str | None:
    """A text that is not empty: what is left empty by mistake is not taken for what was never said."""
    text = node.text()
    if text == "":
        node.problem(f"expected a {what}, found nothing between the quotes")
        return None
    return text


def one_or_more(node: Node) -> list[Node]:
    """The items of a list, or the one thing that stands there without a list."""
    if node.kind == "list":
        return node.items()
    return [] if node.is_null else [node]


def truth(fields: dict[str, Node], name: str) -> bool:
    """Whether a field is there and true."""
    return fields[name].boolean() is True if name in fields else False


def is_http_url(text: str) -> bool:
    """Whether this is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def plain_url(node: Node, example: str) -> str:
    """An http or https URL without a password, a query or a slash at its end; "" with a problem noted where it is
    none."""
    text = node.text()
    if text is None:
        return ""
    shown = hide_password(text)
    if not is_http_url(text):
        node.problem(f'"{shown}" is not an http or https URL, such as {example}')
        return ""
    parts = urlsplit(text)
    if parts.username or parts.password:
        node.problem("a password has no place in this URL")
    if parts.query or parts.fragment:
        node.problem(f'"{shown}": the URL ends before the ? or #')
    return text.rstrip("/")


def hide_password(url: str) -> str:
    """A URL that may be shown: without user and password."""
    return _USERINFO.sub("//…@", url)
