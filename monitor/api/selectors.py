"""``match[]`` of Prometheus' API, and how it words what is wrong with a query."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.api.http import BadRequest
from monitor.promql.errors import PromQLError
from monitor.promql.parse import parse_selector
from monitor.selector import Matcher


def read_matchers(text: str, where: str = "") -> Sequence[Matcher]:
    """The matchers of a selector. ``where`` stands before what is wrong with it. Raises ``BadRequest``."""
    try:
        return parse_selector(text)
    except PromQLError as error:
        if error.message == "vector selector must contain at least one non-empty matcher":
            raise BadRequest(f"{where}match[] must contain at least one non-empty matcher") from None
        raise BadRequest(f"{where}{error_text(error, text)}") from None


def error_text(error: PromQLError, text: str) -> str:
    """An error as Prometheus words it: where there is nothing, there is no place either."""
    return str(error) if text else f"unknown position: parse error: {error.message}"
