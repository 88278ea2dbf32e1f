"""What lets one in is taken out of texts."""

from __future__ import annotations

import pytest

from monitor.probes.redact import without_secrets
from monitor.probes.schema import Secrets


@pytest.mark.parametrize(
    ("secrets", "text", "shown"),
    [
        (Secrets(), "all of it", "all of it"),
        (Secrets(api_key="sk-1"), "sk-1 and sk-12", "… and …2"),
        (Secrets(headers={"Authorization": "Bearer abcdef"}), "Bearer abcdef; abcdef", "…; …"),
        (Secrets(headers={"X-Team": "a", "X-Org": ""}), "a team", "a team"),
        (Secrets("abcd", {"X": "abcdefgh"}), "abcdefgh abcd", "… …"),
    ],
)
def test_what_lets_one_in_is_not_shown(secrets: Secrets, text: str, shown: str) -> None:
    assert without_secrets(text, secrets) == shown
