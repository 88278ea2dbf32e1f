"""TLS for the servers of the harness: a command that names a certificate and its key makes a server speak it."""

from __future__ import annotations

import ssl
from typing import Any


def context_of(options: dict[str, Any]) -> ssl.SSLContext | None:
    """For ``{"cert": PATH, "key": PATH}`` in a command; None where it names none."""
    if "cert" not in options:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["cert"], options["key"])
    return context
