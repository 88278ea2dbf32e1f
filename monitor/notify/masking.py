"""Takes secrets out of texts about a notification that failed."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_MASK = "***"
_PARTS = re.compile(r"[/:@?&=,;+ #]+")
_SHORTEST = 3
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]{0,19}$", re.IGNORECASE)

# The host of these is a host. Of others it may be a token, as in slack://TOKEN_A/TOKEN_B/TOKEN_C.
_HOST_SCHEMES = frozenset(
    ["json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "ntfy", "ntfys", "gotify", "gotifys"]
)


def scheme_of(url: str) -> str:
    """The URL's scheme, or "" where it has none. Safe to show."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator and _SCHEME.match(scheme) else ""


def mask(text: str, url: str) -> str:
    """``text`` with ``url`` and each part of it that may be a secret replaced by ``***``. Scheme, port and, where the
    scheme says that it is one, the host are left."""
    scheme = scheme_of(url)
    rest = url.split("://", 1)[-1]
    safe = {scheme}
    if scheme in _HOST_SCHEMES:
        safe |= _host_words(rest)
    parts = {url, rest}
    for piece in _PARTS.split(rest):
        parts |= {piece, unquote(piece)}
    # Longest first: a part may lie within another.
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST and part.lower() not in safe:
            text = text.replace(part, _MASK)
    return text


def _host_words(rest: str) -> set[str]:
    try:
        split = urlsplit(f"//{rest}")
        return {(split.hostname or "").lower(), str(split.port or "")}
    except ValueError:  # a port that is no number: then nothing of it is known to be safe
        return set()
