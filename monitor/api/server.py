"""The daemon's HTTP server: one application on a unix socket and, read-only without a token, on a loopback port.

We bind the unix socket ourselves and hand uvicorn the descriptor: on its own it makes it writable for everybody.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.api import alertmanager, gpumon, notifications, probes, prometheus
from monitor.api.exposition import CONTENT_TYPE, Exposition
from monitor.api.gpumon import Ticker
from monitor.api.http import BadRequest, failure
from monitor.api.node import Node
from monitor.api.rights import is_unix

log = logging.getLogger(__name__)

GROUP = "gpumon"
_TURN_SECONDS = 5.0
"""How long another that begins in the same directory is waited for: it takes a moment, or two seconds where it asks a
daemon that hangs."""
_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]", "::1"}


class CannotListen(Exception):
    """A socket that cannot be had. The text says which, why, and what to do."""


class _Server(uvicorn.Server):
    """Signals are the daemon's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """Serves ``node``. ``bind`` first, so that a socket that cannot be had is told before anything is started."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ticker = Ticker(node)
        self._sockets: list[socket.socket] = []
        self._path: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._server = _Server(
            uvicorn.Config(
                application(self._ticker),
                http="h11",
                ws="none",
                lifespan="off",
                loop="none",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
                limit_concurrency=256,
                h11_max_incomplete_event_size=65536,
            )
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    def bind(self, path: Path, listen: tuple[str, int] | None) -> None:
        """Bind both. Raises ``CannotListen``."""
        self._sockets.append(bind_unix(path))
        self._path = path
        found = path.stat()
        self._identity = (found.st_dev, found.st_ino)
        if listen is not None:
            try:
                self._sockets.append(_bind_tcp(*listen))
            except CannotListen:
                self._unlink()
                raise

    @property
    def port(self) -> int | None:
        """The port of the TCP listener."""
        return self._sockets[1].getsockname()[1] if len(self._sockets) > 1 else None

    async def run(self) -> None:
        """Serve until ``close``."""
        try:
            await self._server.serve(sockets=self._sockets)
        finally:
            self._node.queries.close()
            self._unlink()

    def close(self) -> None:
        """End the streams and then the server."""
        self._ticker.close()
        self._server.should_exit = True

    def _unlink(self) -> None:
        """Remove our socket's file, unless another daemon has put its own there meanwhile."""
        if self._path is None:
            return
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._identity:
                self._path.unlink()
        self._path = None


def application(ticker: Ticker) -> ASGIApp:
    """The ASGI application."""
    node = ticker.node
    exposition = Exposition(node.head)

    async def metrics(request: Request) -> Response:
        if "x-prometheus-scrape-timeout-seconds" in request.headers:  # and not somebody with a browser
            node.last_scrape_ms = node.clock.now_ms()
        collect = set(request.query_params.getlist("collect[]"))
        return Response(exposition.render(collect), media_type=CONTENT_TYPE)

    async def healthy(request: Request) -> Response:
        return PlainTextResponse("gpumon is Healthy.\n")

    async def ready(request: Request) -> Response:
        if node.ready:
            return PlainTextResponse("gpumon is Ready.\n")
        return PlainTextResponse("gpumon is not ready: no source has answered yet\n", 503)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, BadRequest)  # noqa: S101 # registered for this class alone
        return failure(error)

    async def unknown(request: Request, error: Exception) -> Response:
        if request.url.path.startswith(f"{alertmanager.BASE}/"):
            return alertmanager.unknown(request.url.path)
        return failure(BadRequest(f"there is no {request.url.path} here", "not_found", 404))

    async def wrong_method(request: Request, error: Exception) -> Response:
        if request.url.path.startswith(f"{alertmanager.BASE}/"):
            return alertmanager.wrong_method(request.method)
        return failure(BadRequest(f"{request.method} is not for {request.url.path}", "bad_data", 405))

    app = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
            *prometheus.routes(node),
            *gpumon.routes(ticker),
            *probes.routes(node),
            *notifications.routes(node),
            *alertmanager.routes(node),
        ],
        exception_handlers={BadRequest: refused, 404: unknown, 405: wrong_method, **alertmanager.HANDLERS},
    )
    return _Guard(app)


class _Guard:
    """Stands before the application on TCP: only names of this machine are answered, so that a web page that makes a
    name of its own point here (DNS rebinding) reads nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_unix(scope):
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if name not in _LOCAL_NAMES:
                answer = failure(BadRequest(f"the host {name[:80]!r} is not this machine's", "forbidden", 403))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def bind_unix(path: Path) -> socket.socket:
    """Bind a unix socket: 0660, in a directory of 0750 where we make it, both of the group gpumon where we may.

    What a dead daemon left is replaced; a living one is not. Whoever finds the socket finds somebody who listens: it is
    bound under another name, and gets its own when all is done. Raises ``CannotListen``.
    """
    made = not path.parent.exists()
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotListen(
            f"cannot make the directory {path.parent} for the socket: {error.strerror}. "
            f"Run as a service, or name another with --socket."
        ) from None
    with _turn(path.parent):
        _check_dead(path)
        bound = _bind_beside(path)
    if made and (group := _group()) is not None:
        with contextlib.suppress(PermissionError):
            os.chown(path.parent, -1, group)
    return bound


def _bind_beside(path: Path) -> socket.socket:
    beside = path.with_name(path.name[:-1] + ("~" if path.name[-1] != "~" else "-"))  # a longer one may be too long
    if _check_dead(beside):  # of one that was killed just here
        beside.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)  # from the first moment nobody else can connect
    try:
        bound.bind(os.fspath(beside))
        os.umask(mask)
        bound.listen(128)
        if (group := _group()) is not None:
            with contextlib.suppress(PermissionError):
                os.chown(beside, -1, group)
        os.replace(beside, path)
    except OSError as error:
        bound.close()
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise CannotListen(f"cannot make the socket {path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    return bound


def _group() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        log.debug("no group %s: the socket is its owner's alone", GROUP)
        return None


@contextlib.contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Be the only one that makes a socket in a directory: else two that begin at once would each replace the other's.
    Where directories cannot be locked, nobody waits."""
    with contextlib.ExitStack() as held:
        until = time.monotonic() + _TURN_SECONDS
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            held.callback(os.close, handle)
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise CannotListen(
                            f"another gpumon daemon is beginning in {directory}, and does not get on: "
                            "end it first, or name another socket with --socket"
                        ) from None
                    time.sleep(0.02)
        except OSError as error:
            log.debug("%s cannot be locked: %s", directory, error.strerror)
        yield


def _check_dead(path: Path) -> bool:
    """Whether a dead daemon's socket is there; False where there is nothing. Raises ``CannotListen`` for all else."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(kind):
        raise CannotListen(f"{path} is there and is no socket: move it away, or name another with --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except PermissionError:
            raise CannotListen(f"{path} belongs to another user's daemon: name another socket with --socket") from None
        except OSError as error:
            raise CannotListen(f"{path} is there and does not answer: {error.strerror or error}") from None
    raise CannotListen(f"a gpumon daemon is running already at {path}: end it first, or name another with --socket")


def _bind_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error.strerror}. "
            "Name another port with --listen HOST:PORT, or --listen none."
        ) from None
    bound.listen(128)
    return bound
