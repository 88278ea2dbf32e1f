"""Probe runs, below `/api/gpumon/v1/probes`; `monitor.client.probes` has the types.

GET    probes                    every run, the servers that can be probed, and why not, where one may not
GET    probes/workloads          what can be asked for, with the options of each
GET    probes/compare            ?before=&after=: two results, by id or name
POST   probes                    starts a run
GET    probes/{id}               all of one but its records
GET    probes/{id}/changes       ?revision=&steps=&notes=&wait=: the same, once something has changed
POST   probes/{id}/cancel        ends it; it keeps what it has
POST   probes/{id}/baseline      {"name": …}: makes it a baseline; "" takes that from it
DELETE probes/{id}               deletes it with its files
GET    probes/{id}/files/{name}  one of the files that it lists
POST   probes/profile            starts or stops a server's torch profiler

What changes something needs the right to (`monitor.api.rights`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from monitor.api.http import BadRequest, json_body, json_response
from monitor.api.node import Node
from monitor.probes.errors import BadOptions, ProbeError
from monitor.probes.kept import InTheWay, NoSuchRun
from monitor.probes.runs import Runs
from monitor.probes.schema import Secrets, Spec
from monitor.probes.servers import choose

T = TypeVar("T")

_MAX_WAIT = 30.0
_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # A report is a page with a server's own words in it: it is to be saved, and to run nothing where it is shown.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class StartBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be run. ``Spec.url`` may be "" where ``Spec.server`` names a server that is known."""

    spec: Spec
    secrets: Secrets = Secrets()
    by: str = ""


class BaselineBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a result is to be the baseline of; "" for none."""

    name: str


class ProfileBody(msgspec.Struct, forbid_unknown_fields=True):
    """Whose profiler is to be started or stopped."""

    action: str
    server: str = ""
    url: str = ""
    seconds: float = 30.0
    secrets: Secrets = Secrets()


def routes(node: Node) -> list[Route]:
    """The routes of probes."""

    def runs() -> Runs:
        if node.runs is None:
            raise BadRequest("this daemon runs no probes", "not_found", 404)
        return node.runs

    async def listing(request: Request) -> Response:
        known = runs()
        return json_response(
            {
                "runs": known.rows(),
                "servers": [
                    {"server": one.name, "url": one.url, "model": one.model, "simulated": one.simulated}
                    for one in known.servers()
                ],
                "refusal": await node.rights.why_not(request),
                "keep": known.kept.limits.runs,
            }
        )

    async def workloads(request: Request) -> Response:
        from monitor.probes.workloads import WORKLOADS

        return json_response(
            [
                {"name": name, "summary": one.summary, "options": one.fields(), "repeats": one.repeats}
                for name, one in WORKLOADS.items()
            ]
        )

    async def start(request: Request) -> Response:
        await _may(request, node)
        body = await _body(request, StartBody)
        return json_response(await runs().start(body.spec, body.secrets, body.by))

    async def detail(request: Request) -> Response:
        found = await runs().detail(request.path_params["id"])
        if found.files:
            found = msgspec.structs.replace(found, folder=str(runs().kept.folder(found.row.id)))
        return json_response(found)

    async def changes(request: Request) -> Response:
        revision, steps, notes = (_number(request, name, -1) for name in ("revision", "steps", "notes"))
        wait = min(max(_number(request, "wait", 0), 0), _MAX_WAIT)
        found = await runs().changes(
            request.path_params["id"], int(revision), max(0, int(steps)), max(0, int(notes)), wait
        )
        return json_response(dict(zip(("revision", "detail", "steps_before", "notes_before"), found, strict=True)))

    async def cancel(request: Request) -> Response:
        await _may(request, node)
        return json_response(runs().cancel(request.path_params["id"]))

    async def baseline(request: Request) -> Response:
        await _may(request, node)
        body = await _body(request, BaselineBody)
        return json_response(await runs().baseline(request.path_params["id"], body.name))

    async def delete(request: Request) -> Response:
        await _may(request, node)
        await runs().delete(request.path_params["id"])
        return json_response({})

    async def one(request: Request) -> Response:
        return await (delete if request.method == "DELETE" else detail)(request)

    async def every(request: Request) -> Response:
        return await (start if request.method == "POST" else listing)(request)

    async def file(request: Request) -> Response:
        path = await runs().kept.file(request.path_params["id"], request.path_params["name"])
        return _file(path)

    async def compare(request: Request) -> Response:
        before, after = (request.query_params.get(name, "") for name in ("before", "after"))
        if not before or not after:
            raise BadRequest("compare needs before= and after=: the ids or names of two runs")
        return json_response(await runs().compare(before, after))

    async def profile(request: Request) -> Response:
        await _may(request, node)
        body = await _body(request, ProfileBody)
        if body.action not in ("start", "stop"):
            raise BadRequest(f"action is start or stop, not {body.action[:40]!r}")
        server = choose(runs().servers(), body.server, body.url, node.config.hostname)
        if server.simulated:
            raise ProbeError(f"{server.name} is simulated, and has no profiler")
        secrets = await runs().secrets_of(server, body.secrets)
        profiles = runs().profiles
        if body.action == "start":
            text = await profiles.start(server.name, server.url, secrets, body.seconds)
        else:
            text = await profiles.stop(server.name, server.url, secrets)
        return json_response({"server": server.name, "running": profiles.running(server.name), "text": text})

    base = "/api/gpumon/v1/probes"
    return [
        Route(base, told(every), methods=["GET", "POST"]),
        Route(f"{base}/workloads", told(workloads)),
        Route(f"{base}/compare", told(compare)),
        Route(f"{base}/profile", told(profile), methods=["POST"]),
        Route(f"{base}/{{id}}", told(one), methods=["GET", "DELETE"]),
        Route(f"{base}/{{id}}/changes", told(changes)),
        Route(f"{base}/{{id}}/cancel", told(cancel), methods=["POST"]),
        Route(f"{base}/{{id}}/baseline", told(baseline), methods=["POST"]),
        Route(f"{base}/{{id}}/files/{{name:path}}", told(file)),
    ]


def told(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A handler whose ``ProbeError`` is an answer."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except NoSuchRun as error:
            raise BadRequest(str(error), "not_found", 404) from None
        except InTheWay as error:
            raise BadRequest(str(error), "conflict", 409) from None
        except BadOptions as error:
            raise BadRequest(str(error)) from None
        except ProbeError as error:
            raise BadRequest(str(error), "execution", 422) from None

    return handle


async def _may(request: Request, node: Node) -> None:
    if reason := await node.rights.why_not(request):
        raise BadRequest(reason, "forbidden", 403)


async def _body(request: Request, kind: type[T]) -> T:
    return await json_body(request, kind, "the body cannot be read")


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e12:
        raise BadRequest(f'invalid parameter "{name}": {text[:40]!r} is no number')
    return number


def _file(path: Path) -> Response:
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=kind, headers=_HEADERS, filename=path.name)
