"""The sender's child, with every HTTP request sent to a server of the test: ``… redirected_child HOST:PORT``.

The path, the body and all else are as apprise makes them; ``X-Meant-For`` says where they would have gone.
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

import requests
from apprise.url import URLBase

from monitor.notify.sender_child import main

_plain = requests.Session.send


def _send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    parts = urlsplit(request.url or "")
    request.headers["X-Meant-For"] = parts.netloc
    request.url = parts._replace(scheme="http", netloc=sys.argv[1]).geturl()
    return _plain(self, request, **options)


def _throttle(self: URLBase, *_args: Any, **_options: Any) -> None:
    """No pause between messages: 5.5 s at most services."""


if __name__ == "__main__":
    URLBase.throttle = _throttle  # type: ignore[method-assign]
    requests.Session.send = _send  # type: ignore[method-assign]
    main()
