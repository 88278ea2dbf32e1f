"""No reason shows a secret."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from monitor.notify.masking import KEYED_SCHEMES, MAIL_SCHEMES, PAGER_SCHEMES, mask, scheme_of


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


def test_a_webhooks_host_is_shown_and_its_token_is_not() -> None:
    url = "https://hooks.example:8443/services/T0KEN?key=abcdef"
    masked = mask(f"hooks.example:8443 refused {url}, T0KEN and abcdef", url)
    assert masked.startswith("hooks.example:8443 refused ***")
    assert "T0KEN" not in masked
    assert "abcdef" not in masked


def test_the_schemes_are_those_of_the_installed_apprise() -> None:
    # In a process of its own: it is heavy, and what it loads is not ours to answer for.
    program = (
        "import apprise, json; details = apprise.Apprise().details()['schemas']; "
        "print(json.dumps([[*(one['protocols'] or ()), *(one['secure_protocols'] or ())] for one in details]))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    known = {name for names in json.loads(said.stdout) for name in names}
    assert known >= KEYED_SCHEMES
    assert known >= MAIL_SCHEMES
    # SMPP is there only where its library is.
    assert known >= PAGER_SCHEMES - {"smpp", "smpps"}
    assert PAGER_SCHEMES >= KEYED_SCHEMES
    assert not PAGER_SCHEMES & {"slack", "mailto", "discord", "json", "ntfy"}
