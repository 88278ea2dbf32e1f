"""How one gets in to a server: its address, and the token, password, certificates and headers that it wants.

An ``Address`` is a text that also knows these, so that whatever takes an address takes them too. Secrets come from
files and the environment and stand in no text: not in the address as it is shown, in an error or in a ``repr``.
"""

from __future__ import annotations

import functools
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from monitor.client.errors import ClientError
from monitor.samples import escape

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*([^\r\n\x00]*?)[ \t]*")
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")
_MOST_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Access:
    """What a server over TCP is shown. ``token`` None is ``$GPUMON_TOKEN``'s. Files are named by their paths."""

    token: str | None = field(default=None, repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    """The certificates that the server's has to come from, instead of those that everybody trusts."""
    cert: str = ""
    key: str = ""
    insecure: bool = False
    """Whether it may show any certificate at all."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def shown(self) -> dict[bytes, bytes]:
        """The headers of every request."""
        found = {name.encode(): value.encode() for name, value in self.headers}
        token = (os.environ.get("GPUMON_TOKEN", "") if self.token is None else self.token).strip()
        if self.user:
            found[b"Authorization"] = b"Basic " + b64encode(f"{self.user}:{self.password}".encode())
        elif token:
            found[b"Authorization"] = b"Bearer " + token.encode()
        return found

    def tls(self) -> ssl.SSLContext:
        """What connections are made with. Raises ``ClientError`` for a file that cannot be used."""
        return _context(self.ca, self.cert, self.key, self.insecure)


@functools.lru_cache(64)  # reading the certificates that everybody trusts takes longer than a request
def _context(ca: str, cert: str, key: str, insecure: bool) -> ssl.SSLContext:
    import httpx

    context = httpx.create_ssl_context()
    try:
        if ca:
            context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(ca, error, "--ca wants a file of certificates in PEM form") from None
    try:
        if cert:
            context.load_cert_chain(cert, key or None, _no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        cure = "--cert wants a certificate and --key its private key, both in PEM form and without a password"
        raise _unusable(f"{cert}, {key}" if key else cert, error, cure) from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")  # else OpenSSL asks the terminal for it, and waits


def _unusable(path: str, error: Exception, cure: str) -> ClientError:
    why = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    return ClientError(f"cannot be used: {str(why).lower().replace('_', ' ')}", path, cure)


@dataclass(frozen=True, slots=True)
class Part:
    """A node among those that one Prometheus knows: its name, and the ``instance`` labels of its series."""

    name: str
    instances: tuple[str, ...]
    """Of the series that are shown: where two exporters tell the same, of one of them."""
    beside: tuple[str, ...] = ()
    """Of its other exporters."""
    exporters: tuple[str, ...] = ()
    """What they are, in words."""

    @property
    def matchers(self) -> str:
        """What stands in a selector after other matchers: ``,instance="…"``."""
        return _matchers(self.instances)

    @property
    def every(self) -> str:
        """The same of all its exporters: an alert on any of them is the node's."""
        return _matchers((*self.instances, *self.beside))

    def has(self, instance: str) -> bool:
        """Whether it has an exporter with this label."""
        return instance in self.instances or instance in self.beside


def _matchers(instances: Sequence[str]) -> str:
    if len(instances) == 1:
        return f',instance="{escape(instances[0])}"'
    return f',instance=~"{escape("|".join(quoted(one) for one in instances))}"'


def quoted(text: str) -> str:
    """A text as a regular expression of Prometheus' that matches it alone."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


class Address(str):
    """An address, and how one gets in; as a text, what may be shown of it. ``name`` is what the person calls it,
    ``part`` the node of a Prometheus that is meant, ``fleet`` what it belongs to, in words."""

    access: Access
    name: str
    part: Part | None
    fleet: str

    def __new__(
        cls, text: str, access: Access | None = None, *, name: str = "", part: Part | None = None, fleet: str = ""
    ) -> Address:
        shown, user, password = _without_secrets(text)
        self = super().__new__(cls, shown)
        known = access or Access()
        if user and not known.user:
            known = Access(None, user, password, known.ca, known.cert, known.key, known.insecure, known.headers)
        self.access, self.name, self.part, self.fleet = known, name, part, fleet
        return self

    def narrowed(self, *, name: str = "", part: Part | None = None, fleet: str = "") -> Address:
        """The same server, known by another name, or a node of it."""
        return Address(str(self), self.access, name=name or self.name, part=part, fleet=fleet)

    def check(self) -> None:
        """Whether it can be one at all. Raises ``ClientError``."""
        if self.startswith("unix:"):
            if len(self) == len("unix:"):
                cure = "Write it as unix:/run/gpumon/gpumon.sock"
                raise ClientError("a unix socket needs its path", str(self), cure)
            return
        try:
            parts = urlsplit(self)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            cure = "Write http://host:port, https://host:port or unix:/path/to/socket"
            raise ClientError("this is no address", str(self), cure)
        if parts.query or parts.fragment:
            cure = "What stands after ? or # is no part of it"
            raise ClientError("an address ends with its path", self.plain, cure)

    @property
    def plain(self) -> str:
        """It without what may be secret in what a server sent us to."""
        return self.partition("?")[0].partition("#")[0]

    @property
    def called(self) -> str:
        """What it is called where a person looks for it."""
        if self.name:
            return self.name
        return self if self.startswith("unix:") else self.partition("://")[2].rstrip("/") or self


def address(text: str) -> Address:
    """An address as it was given."""
    return text if isinstance(text, Address) else Address(text)


def _without_secrets(text: str) -> tuple[str, str, str]:
    """An address without its user and password, and those."""
    if text.startswith("unix:") or "@" not in text:
        return text, "", ""
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return urlunsplit(parts._replace(netloc=host)), user, password
    except ValueError:
        return text.rpartition("@")[2], "", ""


def load(
    *,
    token_file: str = "",
    user: str = "",
    password_file: str = "",
    ca: str = "",
    cert: str = "",
    key: str = "",
    insecure: bool = False,
    headers: Sequence[str] = (),
) -> Access:
    """What a person named, read. The password of ``user`` comes from a file or ``$GPUMON_PASSWORD``. Raises
    ``ClientError`` for what contradicts itself or cannot be read."""
    if token_file and user:
        raise ClientError("a token and a user cannot both be shown", "", "Give --token-file or --user")
    if password_file and not user:
        raise ClientError("a password without a user", password_file, "Give --user NAME with it")
    if key and not cert:
        raise ClientError("a key without its certificate", key, "Give --cert FILE with it")
    if ca and insecure:
        raise ClientError("--insecure looks at no certificate, and --ca at one", "", "Give one of them")
    password = ""
    if user:
        password = secret(password_file) if password_file else os.environ.get("GPUMON_PASSWORD", "")
        if not password:
            raise ClientError(f'no password for the user "{user}"', "", "Set $GPUMON_PASSWORD or give --password-file")
        if ":" in user:
            raise ClientError("a user's name has no colon", "", "The password is never given with it")
    return Access(
        secret(token_file) if token_file else None,
        user,
        password,
        ca,
        cert,
        key,
        insecure,
        tuple(header(one) for one in headers),
    )


def secret(path: str) -> str:
    """What a file has in its first line. Raises ``ClientError``, without a word of it."""
    try:
        with Path(os.path.expanduser(path)).open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ClientError("is no text", path) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise ClientError(f"cannot be read: {getattr(error, 'strerror', None) or 'no such file'}", path) from None
    lines = text.splitlines()
    if len(lines) != 1 or not lines[0].isprintable():
        raise ClientError("is empty" if not lines else "has more than one line", path, "It holds the secret alone")
    return lines[0].strip()


def header(text: str) -> tuple[str, str]:
    """``Name: value``. Raises ``ClientError`` for what is none, and for one that carries a secret."""
    found = _HEADER.fullmatch(text)
    if found is None:
        raise ClientError("a header that is none", "--header", "Write 'X-Scope-OrgID: team'")
    if found[1].lower() in _SECRET_HEADERS:
        cure = "Others see what stands on a command line: use --token-file, or --user with $GPUMON_PASSWORD"
        raise ClientError(f"{found[1]} is not given as a header", "--header", cure)
    return found[1], found[2]
