"""No reason shows a secret."""

from __future__ import annotations

import pytest

from monitor.notify.masking import mask, scheme_of


@pytest.mark.parametrize(
    ("url", "secrets", "kept"),
    [
        ("json://me:hunter2@host.example:8080/T0KEN?+X-Key=abcdef", ["hunter2", "T0KEN", "abcdef"], ["host.example"]),
        ("slack://TOKENA123/TOKENB456/TOKENC789", ["TOKENA123", "TOKENB456", "TOKENC789"], ["slack"]),
        ("mailto://me:p%40ss%21word@mail.example", ["p%40ss%21word", "p@ss!word"], ["mail.example"]),
        ("json://me:pw:123456@host:bad/x", ["123456"], []),
    ],
)
def test_parts_of_the_url_are_masked(url: str, secrets: list[str], kept: list[str]) -> None:
    text = " ".join([f"failed for {url}", *secrets, *kept])
    masked = mask(text, url)
    assert not [secret for secret in secrets if secret in masked]
    assert all(word in masked for word in kept)


@pytest.mark.parametrize(("url", "scheme"), [("Slack://x", "slack"), ("hunter2", ""), ("a b://x", ""), ("", "")])
def test_scheme(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme
