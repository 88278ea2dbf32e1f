"""textual-serve's server with a door: a token, and pages of this server's alone. It imports the extra ``web``."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

import click
from aiohttp import web
from textual_serve.server import Server

from monitor.commands.web import is_loopback

_COOKIE = "gpumon"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_host: ContextVar[str] = ContextVar("host")
"""What the browser calls this server: through a tunnel that is another port."""


class WebServer(Server):
    """Serves ``command``. ``only_here`` is whether it listens on a loopback address."""

    def __init__(self, command: str, host: str, port: int, token: str, *, only_here: bool) -> None:
        super().__init__(command, host, port, title="gpumon", templates_path=Path(__file__).parent / "web_page")
        self._token = token
        self._only_here = only_here

    @property
    def public_url(self) -> str:
        """Where the page's own parts are."""
        return f"http://{_host.get(f'{self.host}:{self.port}')}"

    @public_url.setter
    def public_url(self, value: str) -> None:
        pass  # what it was told is its own address, which a browser may know by another name

    def run(self) -> int:
        """Serve until it is interrupted; the exit code."""
        logging.basicConfig(level=logging.WARNING, format="gpumon: %(message)s")
        self.initialize_logging = lambda: None  # type: ignore[method-assign]
        try:
            self.serve()
        except OSError as error:
            raise click.ClickException(f"cannot listen on {self.host}:{self.port}: {error.strerror}") from None
        return 0

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._door)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Say where it is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        click.echo(f"Open http://{host}:{self.port}/?token={self._token}\nCtrl-C ends it.")

    @web.middleware
    async def _door(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        refused = self._refused(request)
        if refused:
            return web.Response(status=403, text=f"gpumon: {refused}\n")
        _host.set(request.host)
        response = await handler(request)
        if request.path == "/" and not response.prepared:
            response.set_cookie(_COOKIE, self._token, httponly=True, samesite="Strict")
        return response

    def _refused(self, request: web.Request) -> str:
        """Why a request is not let in; empty for one that is."""
        if self._only_here and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            return f"this server is not {request.host}"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            return f"a page of {origin} may not use this"
        if request.path.startswith("/static/"):
            return ""
        given = request.query.get("token") or request.cookies.get(_COOKIE, "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return "open the address that `gpumon tui --web` printed, with its token"
        return ""
