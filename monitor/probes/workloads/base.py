"""What a workload is, and how its options are typed, listed and read.

An options class is a frozen ``msgspec.Struct`` whose fields all have defaults and are annotated with what they mean and
their range; what the command line and the screens show is made of that::

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        requests: Annotated[int, Meta(ge=1, le=10_000, description="measured requests")] = 30

What does not fit together is refused in ``__post_init__`` with ``BadOptions``. Nothing here or in a workload loads an
HTTP client: daemon, command line and screens list workloads, too.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from monitor.durations import parse_duration_ms
from monitor.probes.context import Ask, Context
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.schema import Step, WorkloadName

Kind: TypeAlias = Literal["int", "float", "seconds", "bool", "str", "choice", "ints", "floats", "strs"]
"""``float`` may be written ``10%``; ``seconds`` is a float that may be written ``90s`` or ``2m``; the last three are
lists: ``1,2,4``."""

_WORDS: dict[Kind, str] = {
    "int": "a whole number",
    "float": "a number",
    "seconds": "a duration in seconds, or as 90s, 2m, 1h",
    "bool": "true or false",
    "str": "a text",
    "choice": "one of",
    "ints": "whole numbers, as 1,2,4",
    "floats": "numbers, as 0,0.5,1",
    "strs": "texts, as a,b",
}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class OptionField(msgspec.Struct, frozen=True):
    """One option of a workload, as it is shown and asked for."""

    name: str
    kind: Kind
    default: Any
    """None where the workload finds it out itself; ``help`` says how."""
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    """Of each, where it is a list."""
    maximum: float | None = None
    optional: bool = False
    """Whether None may be given."""

    @property
    def must_be(self) -> str:
        """``a whole number of 1 to 100``: what a value of it has to be."""
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        words = _WORDS[self.kind]
        if self.kind in ("ints", "floats", "strs"):
            words += "; each"
        if self.minimum is not None and self.maximum is not None:
            return f"{words} from {_number(self.minimum)} to {_number(self.maximum)}"
        if self.minimum is not None:
            return f"{words} of at least {_number(self.minimum)}"
        if self.maximum is not None:
            return f"{words} of at most {_number(self.maximum)}"
        return words.removesuffix("; each")


O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741 -- the workload's options


@dataclass(frozen=True, slots=True)
class Workload(Generic[O]):
    """A sort of load, with what it can be asked."""

    name: WorkloadName
    summary: str
    """One line."""
    options: type[O]
    run: Callable[[Context, O], Awaitable[None]]
    """``await workload.run(context, options)``. Raises ``ProbeError``."""
    limit_s: Callable[[O], float]
    """How long all steps may take once; the run ends by itself after that, times the repeats, where the person named
    no limit."""
    repeats: int = 1
    """How often each step is measured where the person named no number; its ``run`` keeps to it by ``repeats()``."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Options for when there are seconds, as in ``suite --quick``."""
    quick_s: float = 20.0
    """How long it may take with those."""
    headline: Callable[[Sequence[Step]], dict[str, float]] | None = None
    """What stands for a run in a list and is held against a baseline, from the steps that count; None for latencies
    and rates, each the median over the steps (``monitor.probes.headline.plain``)."""

    def fields(self) -> tuple[OptionField, ...]:
        """Its options, in the order in which they are declared."""
        return tuple(_field(each) for each in _struct_fields(self.options))

    def parse(self, options: Mapping[str, Any]) -> O:
        """Options as they came from a request, a file or words: numbers and lists may be text. Raises ``BadOptions``
        with the option's name and what it must be."""
        known = {each.name: each for each in self.fields()}
        types = {each.name: each.type for each in msgspec.structs.fields(self.options)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            which = known.get(name)
            if which is None:
                has = ", ".join(known) or "none"
                raise BadOptions(f"{self.name} has no option '{name}'; it has {has}")
            try:
                values[name] = msgspec.convert(_read(which, value), types[name], strict=True)
            except (ValueError, TypeError, msgspec.ValidationError):
                raise BadOptions(f"{self.name}: {name} must be {which.must_be}, not {value!r}") from None
        return self.options(**values)

    def quick_options(self) -> O:
        """Its options for when there are seconds."""
        return self.parse(self.quick)


def _struct_fields(options: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(options)
    return info.fields if isinstance(info, inspect.StructType) else ()


def _field(each: inspect.Field) -> OptionField:
    kind_of, optional = _unwrap(each.type)
    description = _description(each.type)
    default = each.default_factory() if each.default_factory is not msgspec.NODEFAULT else each.default
    kind: Kind
    choices: tuple[str, ...] = ()
    bounds = kind_of
    match kind_of:
        case inspect.BoolType():
            kind = "bool"
        case inspect.IntType():
            kind = "int"
        case inspect.FloatType():
            kind = "seconds" if each.name.endswith("seconds") else "float"
        case inspect.LiteralType(values=values):
            kind, choices = "choice", tuple(str(value) for value in values)
        case inspect.VarTupleType(item_type=item):
            bounds, _ = _unwrap(item)
            kind = (
                "ints"
                if isinstance(bounds, inspect.IntType)
                else "floats"
                if isinstance(bounds, inspect.FloatType)
                else "strs"
            )
        case inspect.StrType():
            kind = "str"
        case _:
            raise TypeError(f"an option cannot be {kind_of}: {each.name}")
    minimum = _bound(getattr(bounds, "ge", None), getattr(bounds, "gt", None))
    maximum = _bound(getattr(bounds, "le", None), getattr(bounds, "lt", None))
    return OptionField(each.name, kind, default, description, choices, minimum, maximum, optional)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _bound(closed: float | None, opened: float | None) -> float | None:
    return closed if closed is not None else opened


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, bool]:
    """The type without its notes and without ``| None``, and whether None was there."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        others = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        if len(others) == 1:
            return _unwrap(others[0])[0], len(others) != len(kind.types)
    return kind, False


def _description(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        schema = kind.extra_json_schema or {}
        return str(schema.get("description", "")) or _description(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((words for each in kind.types if (words := _description(each))), "")
    return ""


def _read(which: OptionField, value: Any) -> Any:
    """A text as what it stands for; what is no text stays. Raises ``ValueError``."""
    if value is None and which.optional:
        return None
    if which.kind in ("ints", "floats", "strs"):
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if isinstance(parts, int | float):
            parts = [parts]
        item: Kind = "int" if which.kind == "ints" else "float" if which.kind == "floats" else "str"
        return tuple(_read_one(item, part) for part in parts)
    return _read_one(which.kind, value)


def _read_one(kind: Kind, value: Any) -> Any:
    if isinstance(value, bool) and kind not in ("bool",):
        raise ValueError(value)
    if kind == "int":
        return int(value) if isinstance(value, str) else value
    if kind in ("float", "seconds"):
        if isinstance(value, str):
            ms = parse_duration_ms(value) if kind == "seconds" else None
            share = kind == "float" and value.endswith("%")
            value = ms / 1000 if ms is not None else float(value[:-1]) / 100 if share else float(value)
        if isinstance(value, int | float):
            value = float(value)
            if not math.isfinite(value):
                raise ValueError(value)
        return value
    if kind == "bool" and isinstance(value, str):
        if value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        raise ValueError(value)
    return value


# -- what several workloads need ------------------------------------------------------------------------------------


def fresh(context: Context, input_len: int, output_len: int, group: str = "") -> Iterator[Ask]:
    """Requests without end, each with a random prompt of its own: none is served from the cache."""
    while True:
        yield Ask(context.tokens(input_len), output_len, group=group)


def room(context: Context, input_len: int, output_len: int) -> int | None:
    """By how many tokens these lengths are too many for the model; 0 where they fit, None where it is not known."""
    limit = context.facts.max_model_len
    return None if limit is None else max(0, input_len + output_len - limit)


def require_room(context: Context, input_len: int, output_len: int) -> None:
    """Raises ``CannotStart`` where the model takes no such lengths."""
    if room(context, input_len, output_len):
        raise CannotStart(
            f"{input_len} tokens in and {output_len} out are more than the {context.facts.max_model_len} that "
            f"{context.facts.model or 'the model'} takes: lower input_len or output_len"
        )


def repeats(context: Context, habit: int) -> int:
    """How often each step is measured: as the person says, else the workload's habit."""
    return habit if context.spec.repeats is None else max(1, context.spec.repeats)
