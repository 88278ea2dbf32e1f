"""What an apprise URL gives away: its scheme, and which kind of service that is. Takes secrets out of texts."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_MASK = "***"
_PARTS = re.compile(r"[/:@?&=,;+ #]+")
_SHORTEST = 3
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]{0,19}$", re.IGNORECASE)

# The host of these is a host. Of others it may be a token, as in slack://TOKEN_A/TOKEN_B/TOKEN_C.
_HOST_SCHEMES = frozenset(
    [
        "http",
        "https",
        "json",
        "jsons",
        "xml",
        "xmls",
        "form",
        "forms",
        "mailto",
        "mailtos",
        "ntfy",
        "ntfys",
        "gotify",
        "gotifys",
    ]
)

KEYED_SCHEMES = frozenset(
    ["pagerduty", "opsgenie", "jira", "pagertree", "squadcast", "incidentio", "ilert", "goalert", "goalerts"]
) | frozenset(["firehydrant", "signl4", "splunk", "victorops"])
"""Services that keep incidents: they take a key, merge what has the same one, and close by it."""

MAIL_SCHEMES = frozenset(
    ["mailto", "mailtos", "azure", "brevo", "groundmail", "mailersend", "mailgun", "o365", "postmark", "resend"]
) | frozenset(["sendgrid", "sendpulse", "ses", "smtp2go", "sparkpost"])
"""They take a whole HTML document."""

_CALLING_SCHEMES = frozenset(["xmatters", "spike", "betterstack", "lfg", "dapnet"])
_SMS_SCHEMES = (
    frozenset(["46elks", "elks", "atalk", "bulksms", "bulkvs", "burstsms", "clickatell", "clicksend", "cm", "d7sms"])
    | frozenset(["eight00com", "exotel", "freemobile", "httpsms", "infobip", "kaleyra", "kavenegar", "klr", "kudosity"])
    | frozenset(["mobilemessage", "mobilemsg", "msg91", "msgbird", "nexmo", "notifyre", "octopush", "plivo", "ringc"])
    | frozenset(["serwersms", "seven", "sfr", "sinch", "smpp", "smpps", "smsc", "smseagle", "smseagles"])
    | frozenset(["smsmanager", "smsmgr", "smstunnel", "sns", "telesign", "telnyx", "twilio", "voipms", "vonage"])
)
PAGER_SCHEMES = KEYED_SCHEMES | _CALLING_SCHEMES | _SMS_SCHEMES
"""Services that wake people: on-call services, SMS and calls."""


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
