"""The daemon's HTTP server: one application on a unix socket and on a TCP port, each with a server of its own, because
TLS is the port's alone and because who fills one does not fill the other.

We bind the unix socket ourselves and hand uvicorn the descriptor: on its own it makes it writable for everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import logging
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor import threads
from monitor.api import alertmanager, gpumon, landing, notifications, probes, prometheus, reports, runbooks
from monitor.api.exposition import CONTENT_TYPE, Exposition
from monitor.api.gpumon import Ticker
from monitor.api.http import BadRequest, failure
from monitor.api.listening import Listener
from monitor.api.node import Node
from monitor.api.rights import Right, is_unix
from monitor.api.tls import BadTls, fingerprint, server_context, tell_if_ended

log = logging.getLogger(__name__)

_places = threads.Places(4)

GROUP = "gpumon"
_TURN_SECONDS = 5.0
"""How long another that begins in the same directory is waited for: it takes a moment, or two seconds where it asks a
daemon that hangs."""
_LOOK_SECONDS = 30.0
"""How often the files of TLS are looked at."""
_PUBLIC = re.compile(r"/-/(?:healthy|ready)|/runbooks(?:/.*)?", re.DOTALL)
"""What everybody may read: nothing of it is about this node, but that it is well."""
_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]", "::1"}


class CannotListen(Exception):
    """A socket that cannot be had. The text says which, why, and what to do."""


class ApiServer:
    """Serves ``node``. ``bind`` first, so that a socket that cannot be had is told before anything is started."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ticker = Ticker(node)
        self._unix: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._path: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._app = application(self._ticker)
        self._servers: list[Listener] = []
        self._tcp_server: Listener | None = None
        self._certificates: object = None
        """What the files of TLS looked like when they were read."""
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    def bind(self, path: Path, listen: tuple[str, int] | None) -> None:
        """Bind both, and read what TLS needs. Raises ``CannotListen``."""
        tls = self._node.config.api.tls if listen is not None else None
        try:
            context = server_context(tls) if tls is not None else None
        except BadTls as error:
            raise CannotListen(f"no TLS: {error}") from None
        if tls is not None:
            tell_if_ended(tls)
            self._certificates = fingerprint(tls)
        self._unix = bind_unix(path)
        self._path = path
        found = path.stat()
        self._identity = (found.st_dev, found.st_ino)
        self._servers = [Listener(_uvicorn(self._app), None)]
        if listen is not None:
            try:
                self._tcp = _bind_tcp(*listen)
            except CannotListen:
                self._unix.close()
                self._unlink()
                raise
            self._tcp_server = Listener(_uvicorn(self._app), context)
            self._servers.append(self._tcp_server)

    @property
    def routes(self) -> list[Route]:
        """All that is answered."""
        return [one for one in self._app.inner.routes if isinstance(one, Route)]

    @property
    def port(self) -> int | None:
        """The port of the TCP listener."""
        return self._tcp.getsockname()[1] if self._tcp is not None else None

    async def run(self) -> None:
        """Serve until ``close``."""
        sockets = [one for one in (self._unix, self._tcp) if one is not None]
        watch = asyncio.create_task(self._watch_certificates())
        try:
            async with asyncio.TaskGroup() as serving:
                for server, bound in zip(self._servers, sockets, strict=True):
                    serving.create_task(server.serve(sockets=[bound]))
        finally:
            watch.cancel()
            self._node.queries.close()
            self._unlink()

    async def renew(self) -> None:
        """Take other certificates where the files have changed; bad ones change nothing, and are told in the log."""
        tls, server = self._node.config.api.tls, self._tcp_server
        if tls is None or server is None:
            return
        seen = await _places.apart(fingerprint, tls)
        if seen == self._certificates:
            return
        try:
            server.context = await _places.apart(server_context, tls)
        except BadTls as error:
            self._certificates = seen
            log.error("the certificates of the API were changed and are not taken, the old ones stay: %s", error)
        else:
            self._certificates = seen
            log.info("the API shows the certificate of %s as it is now", tls.cert_file)
            await _places.apart(tell_if_ended, tls)

    async def _watch_certificates(self) -> None:
        """Whoever renews certificates tells nobody: the files are looked at."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.renew()
            except OSError as error:  # no thread could be had
                log.warning("the API's certificates cannot be looked at: %s", error)

    def close(self) -> None:
        """End the streams and then the server."""
        self._ticker.close()
        for server in self._servers:
            server.end()

    def _unlink(self) -> None:
        """Remove our socket's file, unless another daemon has put its own there meanwhile."""
        if self._path is None:
            return
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._identity:
                self._path.unlink()
        self._path = None


def _uvicorn(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        limit_concurrency=256,
        h11_max_incomplete_event_size=65536,
    )


def application(ticker: Ticker) -> _Guard:
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
            answer = alertmanager.wrong_method(request.method)
        else:
            answer = failure(BadRequest(f"{request.method} is not for {request.url.path}", "bad_data", 405))
        if isinstance(error, HTTPException) and error.headers is not None:
            answer.headers.update(error.headers)
        return answer

    app = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
            *prometheus.routes(node),
            *gpumon.routes(ticker),
            *probes.routes(node),
            *notifications.routes(node),
            *reports.routes(node),
            *alertmanager.routes(node),
            *runbooks.routes(),
            *landing.routes(node),
        ],
        exception_handlers={BadRequest: refused, 404: unknown, 405: wrong_method, **alertmanager.HANDLERS},
    )
    return _Guard(app, node)


class _Guard:
    """Stands before the application on TCP. On loopback only names of this machine are answered, so that a web page
    that makes a name of its own point here (DNS rebinding) reads nothing. Pages of other sites are answered nowhere:
    they could not read it, but a browser's certificate would be shown for them, and work done. Where others reach us,
    too, only those who show that they may read."""

    def __init__(self, app: Starlette, node: Node) -> None:
        self.inner = app
        self._node = node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_unix(scope) and (answer := await self._refusal(scope)) is not None:
            await answer(scope, receive, send)
        else:
            await self.inner(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host:
            return failure(
                BadRequest(f"a page of {origin[:80]!r} asks: other sites are not answered", "forbidden", 403)
            )
        if not self._node.config.api.is_open:
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if name in _LOCAL_NAMES:
                return None
            return failure(BadRequest(f"the host {name[:80]!r} is not this machine's", "forbidden", 403))
        if scope["method"] in ("GET", "HEAD") and _PUBLIC.fullmatch(scope["path"]):
            return None
        given = await self._node.rights.of(scope)
        if given.right is not Right.NOTHING:
            return None
        answer = (
            alertmanager.unauthorized(given.why)
            if scope["path"].startswith(f"{alertmanager.BASE}/")
            else failure(BadRequest(given.why, "unauthorized", 401))
        )
        answer.headers["WWW-Authenticate"] = 'Bearer realm="gpumon"' + (
            ', error="invalid_token"' if given.wrong else ""
        )
        return answer


def bind_unix(path: Path) -> socket.socket:
    """Bind a unix socket: 0660, in a directory of 0750 where we make it, both of the group gpumon where we may.

    What a dead daemon left is replaced; a living one is not. Whoever finds the socket finds somebody who listens: it is
    bound under another name, and gets its own when all is done. Raises ``CannotListen``.
    """
    try:
        made = not path.parent.exists()
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotListen(
            f"cannot make the directory {path.parent} for the socket: {error.strerror}. "
            f"Run as a service, or name another with --socket."
        ) from None
    with _turn(path.parent):
        _check_dead(path)
        bound = _bind_beside(path)
    if made:
        _give_to_group(path.parent)
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
        _give_to_group(beside)
        os.replace(beside, path)
    except OSError as error:
        bound.close()
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise CannotListen(f"cannot make the socket {path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    return bound


def _give_to_group(path: Path) -> None:
    """Make it the group's where it is not. As a service it is from the start, and a sandbox may kill whoever so much as
    asks for another owner."""
    if (group := _group()) is not None and path.lstat().st_gid != group:
        with contextlib.suppress(PermissionError):
            os.chown(path, -1, group, follow_symlinks=False)


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
    except PermissionError:
        raise CannotListen(
            f"this user may not enter {path.parent}, where the socket is to be: give it the directory "
            f"(`chown {os.getuid()} {path.parent}`), or name another with --socket"
        ) from None
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
    # asyncio sends at once, with TCP_NODELAY, over none but a socket that says that it is of TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
