"""Texts in templates: hosts without ports, links, escapes for HTML and JavaScript, as Go and Prometheus make them."""

from __future__ import annotations

import html
import ipaddress
import re
from urllib.parse import quote_plus

from monitor.rules.go_format import quote
from monitor.yaml_reader import parse_duration_ms

_INSIDE = frozenset("'.:·’‘")
"""What a word goes on behind, where a letter or a digit follows: the title of ``a.b`` is ``A.b``."""


def title(text: str) -> str:
    """Every word with a capital."""
    out: list[str] = []
    begun = False  # whether the word has had its capital
    for i, letter in enumerate(text):
        if _in_word(letter):
            out.append(letter.title() if letter.isalpha() and not begun else letter)
            begun = begun or letter.isalpha()
            continue
        out.append(letter)
        if letter not in _INSIDE or not (_in_word(text[i - 1 : i]) and _in_word(text[i + 1 : i + 2])):
            begun = False
    return "".join(out)


def _in_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def upper(text: str) -> str:
    """In capitals, letter by letter: ``ß`` has none."""
    return "".join(capital if len(capital := letter.upper()) == 1 else letter for letter in text)


def lower(text: str) -> str:
    """In small letters, letter by letter."""
    return "".join(letter.lower()[:1] for letter in text)


def strip_port(text: str) -> str:
    """``host:9519`` without its port."""
    host, port = _host_port(text)
    return host if port is not None else text


def strip_domain(text: str) -> str:
    """``gpu1.example.org:9519`` as ``gpu1:9519``; an address stays."""
    host, port = _host_port(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        short = host.split(".")[0]
        return f"{short}:{port}" if port else short
    return text


def _host_port(text: str) -> tuple[str, str | None]:
    bracketed = re.fullmatch(r"\[([^\]]*)\]:([^:]*)", text)
    if bracketed is not None:
        return bracketed[1], bracketed[2]
    if text.count(":") == 1:
        host, port = text.split(":")
        return host, port
    return text, None


def link(expr: str, tab: int) -> str:
    """The path of Prometheus' page for an expression: graph (0) or table (1)."""
    return f"/graph?g0.expr={quote_plus(expr)}&g0.tab={tab}"


def js(text: str) -> str:
    """A text as it can stand in a string of JavaScript."""
    escapes = {"\\": "\\\\", "'": "\\'", '"': '\\"', "\n": "\\u000A", "\r": "\\u000D", "\t": "\\u0009"}
    escapes |= {"<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
    return "".join(escapes.get(one) or (one if one.isprintable() else f"\\u{ord(one):04X}") for one in text)


def escape_html(text: str) -> str:
    """A text as it can stand in HTML."""
    return html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def parse_duration(text: str) -> float:
    """Prometheus' ``1m30s`` in seconds. Raises ``ValueError``."""
    ms = parse_duration_ms(text)
    if ms is None:
        raise ValueError(f"not a valid duration string: {quote(text)}")
    return ms / 1000
