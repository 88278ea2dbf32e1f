"""`/api/v2`: Alertmanager's API, so that amtool, and what else people have for an Alertmanager, works against a node.

GET    alerts, alerts/groups, silences, silence/{id}, status, receivers
POST   silences        the right to change something: the unix socket, or the token (``monitor.api.rights``)
DELETE silence/{id}    the same

The answers, down to what is refused in which words, are those of Alertmanager 0.33; alerts come from the node's own
rules alone.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor import __version__, told
from monitor.api.alertmanager_config import config_text
from monitor.api.alertmanager_forms import (
    Refused,
    Wanted,
    alert_json,
    coded,
    filters,
    in_order,
    is_about,
    posted_silence,
    silence_json,
    stamp,
)
from monitor.api.http import bounded_body, json_response
from monitor.api.node import Node
from monitor.notify.mute_times import is_muted
from monitor.notify.notifier import Notifier
from monitor.notify.policy import Suppression
from monitor.notify.silences import Silence, SilenceError, UnknownSilence
from monitor.rules.transition import Alert

log = logging.getLogger(__name__)

BASE = "/api/v2"
SPOKEN = "0.33.1"
"""The Alertmanager whose API this is. Clients go by it: amtool warns of another one, and others ask for less."""
_UUID = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")


def routes(node: Node) -> list[Route]:
    """The routes of `/api/v2`."""
    started = stamp(node.clock.now_ms())

    async def alerts(request: Request) -> Response:
        if request.method == "POST":
            raise coded(405, "alerts come from this node's own rules: send others to an Alertmanager")
        wanted = Wanted(request)
        now_ms = node.clock.now_ms()
        found = []
        for alert in sorted(_firing(node), key=lambda one: one.key):
            names = node.notifier.receivers_of(alert.labels) if node.notifier is not None else []
            suppression = _suppression(node, alert, now_ms)
            if wanted.receiver(names) and wanted.takes(alert, suppression):
                found.append(alert_json(node, alert, now_ms, names, suppression))
        return json_response(found)

    async def groups(request: Request) -> Response:
        wanted = Wanted(request)
        now_ms = node.clock.now_ms()
        found: list[dict[str, Any]] = []
        if node.notifier is None:
            return json_response(found)
        notifier = node.notifier

        def names(alert: Alert) -> list[str]:
            return [name for name in notifier.receivers_of(alert.labels) if wanted.receiver([name])]

        for route, receiver, labels, members in notifier.groups_of(_firing(node)):
            muted_by = is_muted(route, node.config.time_intervals, now_ms)
            if not wanted.receiver([receiver]) or (muted_by and not wanted.muted):
                continue
            shown = [
                alert_json(node, alert, now_ms, names(alert), suppression, muted_by)
                for alert in sorted(members, key=lambda one: one.key)
                if wanted.takes(alert, suppression := _suppression(node, alert, now_ms))
            ]
            if shown:
                found.append({"alerts": shown, "labels": dict(labels), "receiver": {"name": receiver}})
        return json_response(sorted(found, key=lambda one: (sorted(one["labels"].items()), one["receiver"]["name"])))

    async def silences(request: Request) -> Response:
        if request.method == "POST":
            return await post(request)
        matchers = filters(request)
        now_ms = node.clock.now_ms()
        known = node.notifier.silences.all() if node.notifier is not None else []
        found = (one for one in known if is_about(one, matchers))
        return json_response([silence_json(one, now_ms) for one in in_order(found, now_ms)])

    async def post(request: Request) -> Response:
        await _check_right(request, node)
        content = await bounded_body(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content and kind != "application/json":
            raise coded(415, f'unsupported media type "{kind[:80]}", only [application/json] are allowed')
        wanted = posted_silence(content)
        notifier = _notifier(node)
        try:
            change = notifier.silences.set(wanted, node.clock.now_ms())
        except UnknownSilence:
            raise Refused(404, "silence not found") from None
        except SilenceError as error:
            said = str(error)
            raise Refused(400, said if said.startswith("invalid") else f"Failed to create silence: {said}") from None
        warnings = [await notifier.save_silence(change.silence)]
        if change.replaced is not None:
            warnings.append(await notifier.save_silence(change.replaced))
        _log(change.silence, "set")
        node.tell(told.silenced(node.clock.now_ms(), change.silence))
        return _warned(json_response({"silenceID": change.silence.id}), warnings)

    async def silence(request: Request) -> Response:
        ident = request.path_params["id"]
        if _UUID.fullmatch(ident) is None:
            raise coded(422, f'silenceID in path must be of type uuid: "{ident[:80]}"', 601)
        if request.method == "DELETE":
            await _check_right(request, node)
        known = node.notifier.silences.get(str(uuid.UUID(ident))) if node.notifier is not None else None
        if known is None:
            raise Refused(404, None)
        now_ms = node.clock.now_ms()
        if request.method != "DELETE":
            return json_response(silence_json(known, now_ms))
        warnings = []
        if known.state(now_ms) != "expired":  # to end it again changes nothing, and is no error
            notifier = _notifier(node)
            ended = notifier.silences.expire(known.id, now_ms)
            warnings.append(await notifier.save_silence(ended))
            _log(ended, "ended")
            node.tell(told.silence_over(ended, by_hand=True))
        return _warned(Response(status_code=200), warnings)

    async def status(request: Request) -> Response:
        version = {"branch": "gpumon", "buildDate": "", "buildUser": "", "goVersion": "", "revision": __version__}
        return json_response(
            {
                "cluster": {"peers": [], "status": "disabled"},
                "config": {"original": config_text(node.config)},
                "uptime": started,
                "versionInfo": {**version, "version": SPOKEN},
            }
        )

    async def receivers(request: Request) -> Response:
        names = node.notifier.receiver_names if node.notifier is not None else []
        return json_response([{"labels": {"name": name}, "name": name} for name in names])

    return [
        Route(f"{BASE}/alerts", alerts, methods=["GET", "POST"]),
        Route(f"{BASE}/alerts/groups", groups),
        Route(f"{BASE}/silences", silences, methods=["GET", "POST"]),
        Route(f"{BASE}/silence/{{id}}", silence, methods=["GET", "DELETE"]),
        Route(f"{BASE}/status", status),
        Route(f"{BASE}/receivers", receivers),
    ]


async def refused(request: Request, error: Exception) -> Response:
    """The answer to a request that is refused."""
    assert isinstance(error, Refused)  # noqa: S101 # registered for this class alone
    return Response(status_code=error.status) if error.body is None else json_response(error.body, error.status)


HANDLERS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {Refused: refused}
"""For the application that has the routes."""


def unknown(path: str) -> Response:
    """The answer to a path that there is not."""
    return json_response({"code": 404, "message": f"path {path} was not found"}, 404)


def unauthorized(why: str) -> Response:
    """The answer to who has not shown that he may read."""
    return json_response({"code": 401, "message": why}, 401)


def wrong_method(method: str) -> Response:
    """The answer to a method that a path does not have."""
    return json_response({"code": 405, "message": f"method {method} is not allowed"}, 405)


def _firing(node: Node) -> list[Alert]:
    return [alert for alert in node.engine.alerts() if alert.state == "firing"]


def _suppression(node: Node, alert: Alert, now_ms: int) -> Suppression:
    return Suppression() if node.notifier is None else node.notifier.suppression(alert.labels, now_ms)


def _notifier(node: Node) -> Notifier:
    if node.notifier is None:
        raise Refused(400, "this daemon notifies nobody, so there is nothing to silence")
    return node.notifier


async def _check_right(request: Request, node: Node) -> None:
    if reason := await node.rights.why_not(request):
        raise coded(403, reason)


def _log(silence: Silence, what: str) -> None:
    matchers = ",".join(map(str, silence.matchers))
    log.info(
        "silence %s %s by %r until %s: {%s}", silence.id, what, silence.created_by, stamp(silence.ends_at_ms), matchers
    )


def _warned(response: Response, warnings: list[str]) -> Response:
    """Say what went wrong beside, in a header: Alertmanager's answers have no place for it."""
    for warning in filter(None, warnings):
        log.warning("silence: %s", warning)
        text = warning.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
        response.headers["Warning"] = f'299 gpumon "{"".join(c if c.isprintable() else " " for c in text)}"'
    return response
