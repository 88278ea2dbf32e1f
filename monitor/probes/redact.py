"""Takes what lets one in out of what is shown: a server, or a library, may repeat what it was sent."""

from __future__ import annotations

from monitor.probes.schema import Secrets

_SHORTEST = 4
"""Of a header's value: a shorter one lets nobody in, and stands in many words."""


def without_secrets(text: str, secrets: Secrets) -> str:
    """The text with ``…`` for the API key and for the values of headers, with their ``Bearer`` and without."""
    found = {secrets.api_key or ""}
    for value in secrets.headers.values():
        found.update(part for part in (value.strip(), value.rpartition(" ")[2]) if len(part) >= _SHORTEST)
    for secret in sorted(found - {""}, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text
