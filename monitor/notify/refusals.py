"""What an HTTP server's refusal means for the next attempt."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

PERMANENT = frozenset([400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 422, 431])
"""Statuses that the same request gets again. Others of 4xx pass: 408, 409, 425, 429."""
_LONGEST_WAIT = 86_400.0


def seconds_until(header: str) -> float | None:
    """``Retry-After``: seconds, or an HTTP date. None where it is neither; a day at most."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return min(float(header[:9]), _LONGEST_WAIT)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), _LONGEST_WAIT)
