"""``gpumon check --against``: whether a server has the series that rules select; where not, what there is instead.

Series that the same rules record count as being there, and so do the rules' own ``ALERTS``. A selector that is to match
nothing (in ``absent(…)``, behind ``unless``), or one of several that stand in for each other (``a or b``), is a note.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from monitor.client.errors import Refused
from monitor.client.format import clean
from monitor.client.prometheus import QueryClient
from monitor.commands.check_findings import Finding, Weight
from monitor.promql.parse import parse_selector
from monitor.promql.plan import LOOKBACK_MS
from monitor.rules.rule_file import Group, Rule
from monitor.rules.selector_text import SelectorText, selector_texts
from monitor.samples import NAME
from monitor.selector import Matcher
from monitor.yaml_reader import format_duration

T = TypeVar("T")

_PAST_MS = 3_600_000
"""How far back a selector with ``offset`` or ``@`` is asked for: what it looks at may be long gone."""
_AT_ONCE = 4
_VALUES = 6
"""Values of a label that are named, at most."""
_SYNTHETIC = ("ALERTS", "ALERTS_FOR_STATE")


@dataclass(frozen=True, slots=True)
class _Use:
    """A selector where a rule uses it."""

    group: Group
    rule: Rule
    text: SelectorText
    matchers: tuple[Matcher, ...]

    @property
    def name(self) -> str:
        """The metric's name, or "" where the selector does not say one."""
        return next((matcher.value for matcher in self.matchers if matcher.name == NAME and matcher.op == "="), "")

    @property
    def shown(self) -> str:
        """The selector in one line."""
        return clean(" ".join(self.text.text.split()), 4096)

    @property
    def window_ms(self) -> int:
        """How far back there may be samples that serve it."""
        return max(_PAST_MS if self.text.past else LOOKBACK_MS, self.text.range_ms)


async def look(groups: Sequence[Group], target: str) -> list[Finding]:
    """A finding for every selector that matches nothing there. Raises ``ClientError`` where nobody can be asked."""
    uses = [
        _Use(group, rule, text, parse_selector(text.text))
        for group in groups
        for rule in group.rules
        for text in selector_texts(rule.expr)
    ]
    recorded = _Recorded(groups)
    async with QueryClient(target) as client:
        server = _Server(client, recorded)
        there: list[bool | str] = [True] * len(uses)
        asked = list(dict.fromkeys((use.text.text, use.window_ms) for use in uses if not recorded.has(use.matchers)))
        answers = dict(zip(asked, await server.all_of(server.has_or_says, asked), strict=True))
        for i, use in enumerate(uses):
            if not recorded.has(use.matchers):
                there[i] = answers[use.text.text, use.window_ms]
        missing = [use for use, found in zip(uses, there, strict=True) if not found]
        reasons = iter(await server.all_of(server.why, [(use,) for use in missing]))
    found: list[Finding] = []
    for use, answer in zip(uses, there, strict=True):
        if isinstance(answer, str):
            found.append(
                _finding(use, "warning", f"the server was asked for {use.shown}, and refused: {clean(answer)}")
            )
        elif not answer:
            weight, remark = _weight(use, uses, there)
            found.append(_finding(use, weight, f"nothing matches {use.shown}: {next(reasons)}{remark}"))
    return found


def _finding(use: _Use, weight: Weight, message: str) -> Finding:
    line, column = use.rule.place_of(use.text.start)
    kind = "record" if use.rule.records else "alert"
    words = f'{message} (group "{clean(use.group.name)}", {kind} "{clean(use.rule.name)}")'
    return Finding(use.rule.path, line, column, weight, words, use.group.name, use.rule.name, use.shown)


def _weight(use: _Use, uses: Sequence[_Use], there: Sequence[bool | str]) -> tuple[Weight, str]:
    """How bad it is that nothing is there, and why it is not so bad."""
    if use.text.absent:
        return "note", "; that is what absent() asks"
    if use.text.excepted:
        return "note", "; it stands behind `unless`"
    for number, side in use.text.choices:
        others = [
            (other, found)
            for other, found in zip(uses, there, strict=True)
            if other.rule is use.rule and any(number == choice and side != own for choice, own in other.text.choices)
        ]
        if any(found for _, found in others):
            return "note", "; another side of its `or` has series"
        if not others:  # such as `or vector(0)`
            return "note", "; its `or` has a side that needs no series"
    return "warning", ""


class _Recorded:
    """What the rules themselves make."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._made: list[dict[str, str]] = []
        for group in groups:
            for rule in group.rules:
                labels = {name: template.text for name, template in rule.labels.items()}
                if rule.records:
                    self._made.append({**labels, NAME: rule.name})
                else:
                    plain = {name: text for name, text in labels.items() if "{{" not in text}
                    self._made += [{**plain, "alertname": rule.name, NAME: name} for name in _SYNTHETIC]

    def has(self, matchers: Sequence[Matcher]) -> bool:
        """Whether a rule makes such series, as far as its labels tell."""
        names = [matcher for matcher in matchers if matcher.name == NAME]
        others = [matcher for matcher in matchers if matcher.name != NAME]
        return bool(names) and any(
            all(matcher.matches(made[NAME]) for matcher in names)
            and all(matcher.matches(made[matcher.name]) for matcher in others if matcher.name in made)
            for made in self._made
        )


class _Server:
    def __init__(self, client: QueryClient, recorded: _Recorded) -> None:
        self._client = client
        self._recorded = recorded
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._names: asyncio.Task[tuple[str, ...]] | None = None

    async def all_of(self, ask: Callable[..., Coroutine[Any, Any, T]], what: Sequence[tuple[Any, ...]]) -> list[T]:
        """The answers to ``ask(*one)``, in order; a few at once. The first error ends them all."""

        async def turn(one: tuple[Any, ...]) -> T:
            async with self._turns:
                return await ask(*one)

        tasks = [asyncio.create_task(turn(one)) for one in what]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def has_or_says(self, selector: str, window_ms: int) -> bool | str:
        """Whether any series has a sample in the window before now, or why the server does not tell."""
        try:
            return await self.has(selector, window_ms)
        except Refused as error:
            if error.status in (401, 403, 404):
                raise
            return error.what

    async def has(self, selector: str, window_ms: int) -> bool:
        """Whether any series has a sample in the window before now."""
        return bool((await self._client.evaluate(f"count(last_over_time({selector}[{window_ms}ms]))")).series)

    async def why(self, use: _Use) -> str:
        """Why a selector matches nothing, in words."""
        others = [matcher for matcher in use.matchers if matcher.name != NAME]
        if not use.name:
            return await self._why_nameless(use, others)
        names = await self.names()
        base = '{__name__="' + use.name.replace("\\", "\\\\").replace('"', '\\"') + '"}'
        if not await self.has(base, use.window_ms):
            if use.name in names:
                return f'"{use.name}" was there, but has had no sample for {format_duration(use.window_ms)}'
            if self._recorded.has([matcher for matcher in use.matchers if matcher.name == NAME]):
                return f'"{use.name}" is recorded by these files, but with other labels'
            near = difflib.get_close_matches(use.name, names, n=1, cutoff=0.75)
            return f'there is no metric "{use.name}"' + (f', did you mean "{near[0]}"?' if near else "")
        return f'"{use.name}" is there, but ' + await self._why_labels(base, others)

    async def _why_nameless(self, use: _Use, others: Sequence[Matcher]) -> str:
        patterns = [matcher for matcher in use.matchers if matcher.name == NAME]
        named = [name for name in await self.names() if all(pattern.matches(name) for pattern in patterns)]
        if patterns and not named:
            return "no metric has such a name"
        if not patterns:
            return "no series has these labels"
        some = ", ".join(f'"{clean(name)}"' for name in named[:3])
        return f"{some}{', …' if len(named) > 3 else ''} have no series with these labels"

    async def _why_labels(self, base: str, matchers: Sequence[Matcher]) -> str:
        for matcher in matchers:
            try:
                values = await self._client.label_values(matcher.name, [base])
            except Refused:
                continue
            if not values and not matcher.matches(""):
                return f'no series of it has a label "{matcher.name}"'
            if not any(matcher.matches(value) for value in (*values, "")):
                near = difflib.get_close_matches(matcher.value, values, n=_VALUES, cutoff=0.5)
                chosen = list(dict.fromkeys((*near, *values)))[:_VALUES]
                some = ", ".join(f'"{clean(value, 80)}"' for value in chosen)
                more = f", … ({len(values)} in all)" if len(values) > _VALUES else ""
                return f'its "{matcher.name}" is {"one of " if len(values) > 1 else ""}{some}{more}'
        return "no series of it has all of these labels at once"

    async def names(self) -> tuple[str, ...]:
        """All metrics' names, asked once."""
        if self._names is None:
            self._names = asyncio.ensure_future(self._client.label_values(NAME))
        return await self._names
