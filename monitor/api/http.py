"""What all our HTTP answers share: JSON through msgspec, Prometheus' error format, numbers as Go writes them."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from monitor.api.go_values import Moment, parse_duration_ns, parse_moment, quoted

T = TypeVar("T")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding JSON that others wrote may raise: it is wrong, is no UTF-8, or is nested without end."""
_MAX_BODY = 256 * 1024
_BODY_SECONDS = 30.0


class BadRequest(Exception):
    """A request that is refused. ``kind`` is Prometheus' ``errorType``."""

    def __init__(self, message: str, kind: str = "bad_data", status: int = 400) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


def json_response(content: Any, status: int = 200) -> Response:
    """``content`` as JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def success(data: Any, warnings: list[str] | None = None) -> Response:
    """Prometheus' envelope around an answer."""
    body: dict[str, Any] = {"status": "success", "data": data}
    if warnings:
        body["warnings"] = warnings
    return json_response(body)


def failure(error: BadRequest) -> Response:
    """Prometheus' envelope around an error."""
    return json_response({"status": "error", "errorType": error.kind, "error": str(error)}, error.status)


async def parameters(request: Request) -> dict[str, list[str]]:
    """Parameters of the query string and, for a POST, of the form in the body, as Prometheus merges them: those of
    the form come first, and a body that does not say that it is a form counts as none.

    Raises ``BadRequest`` for a body that is too large or no text.
    """
    found: dict[str, list[str]] = {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind == "application/x-www-form-urlencoded":
        from urllib.parse import parse_qsl

        body = await bounded_body(request)
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
        except ValueError as error:
            raise BadRequest(f"the body is no form: {error}") from None
        for key, value in pairs:
            found.setdefault(key, []).append(value)
    for key, value in request.query_params.multi_items():
        found.setdefault(key, []).append(value)
    return found


async def bounded_body(request: Request) -> bytes:
    """The body, refused when it is larger than any honest one."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > _MAX_BODY:
                    raise BadRequest(f"the body has more than {_MAX_BODY} bytes", status=413)
                chunks.append(chunk)
    except TimeoutError:
        raise BadRequest(f"the body was not whole within {_BODY_SECONDS:g} s", status=408) from None
    except ClientDisconnect:
        raise BadRequest("the client left before its request was whole") from None
    return b"".join(chunks)


async def json_body(request: Request, kind: type[T], why: str) -> T:
    """The body as JSON of a type; none is an empty object. Raises ``BadRequest``, whose text ``why`` begins."""
    try:
        return msgspec.json.decode(await bounded_body(request) or b"{}", type=kind)
    except UNREADABLE as error:
        raise BadRequest(f"{why}: {error}") from None


def parse_time(text: str, name: str) -> Moment:
    """Prometheus' times: seconds since the epoch, or RFC 3339. Raises ``BadRequest``."""
    moment = parse_moment(text)
    if moment is None:
        raise BadRequest(f'invalid parameter "{name}": cannot parse {quoted(text)} to a valid timestamp')
    return moment


def optional_time(found: dict[str, list[str]], name: str, otherwise: Moment) -> Moment:
    """A time that need not be there. Raises ``BadRequest``."""
    text = first(found, name)
    if not text:
        return otherwise
    moment = parse_moment(text)
    if moment is None:
        why = f"invalid time value for '{name}': cannot parse {quoted(text)} to a valid timestamp"
        raise BadRequest(f'invalid parameter "{name}": {why}')
    return moment


def parse_step_ns(text: str, name: str) -> int:
    """A step or a timeout: seconds, or a duration such as ``15s``; in nanoseconds. Raises ``BadRequest``."""
    try:
        return parse_duration_ns(text)
    except ValueError as error:
        raise BadRequest(f'invalid parameter "{name}": {error}') from None


def first(found: dict[str, list[str]], name: str) -> str:
    """The first value of a parameter; "" where it is not there."""
    return found.get(name, [""])[0]


def go_float(value: float) -> str:
    """A number as Prometheus' JSON has it: shortest digits, no exponent between 1e-6 and 1e21."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value)) if value or math.copysign(1, value) > 0 else "-0"
    text = repr(value)
    size = abs(value)
    if 1e-6 <= size < 1e21:
        if "e" not in text:
            return text.removesuffix(".0")
        mantissa, _, exponent = text.partition("e")
        return _plain(mantissa, int(exponent))
    if "e" not in text:
        text = f"{value:e}"
    mantissa, _, exponent = text.partition("e")
    power = int(exponent)
    return f"{mantissa.removesuffix('.0')}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _plain(mantissa: str, power: int) -> str:
    """Write ``mantissa`` times ten to ``power`` without an exponent."""
    sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    whole, _, fraction = digits.partition(".")
    if power < 0:
        return f"{sign}0.{'0' * (-power - len(whole))}{whole}{fraction.rstrip('0') if fraction != '0' else ''}"
    moved = fraction[:power].ljust(power, "0")
    rest = fraction[power:]
    return f"{sign}{whole}{moved}{'.' + rest if rest else ''}"


def seconds(ms: int) -> float:
    """Milliseconds as the seconds of Prometheus' JSON: whole ones without a point."""
    return ms / 1000 if ms % 1000 else ms // 1000


def rfc3339(ms: int) -> str:
    """A moment as Prometheus writes it in alerts and rules."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    fraction = f".{ms % 1000:03d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"
