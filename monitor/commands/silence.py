"""``gpumon silence``: add, list and end silences of a daemon or of an Alertmanager.

The JSON of ``list`` is Alertmanager's own, sorted; that of ``add`` is ``{"id": …, "warning": …}``.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from monitor.client import format as words
from monitor.client.alertmanager import AlertClient, ManagedAlert, NewSilence, SilenceMatcher, SilenceRow
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.commands.for_programs import json_text
from monitor.matchers import LabelMatcher, MatcherError, all_match, parse_matcher, parse_matchers
from monitor.yaml_reader import parse_duration_ms

DEFAULT_MS = 3_600_000
_OPERATOR = re.compile(r"[=~!{]")
_LEAST_PREFIX = 4
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


class Wrong(Exception):
    """A command line that cannot be meant. The text says why, over several lines where it points at a place."""


@dataclass(frozen=True, slots=True)
class Where:
    """Whose silences: what ``--url`` and ``--alertmanager`` say."""

    url: str | None = None
    alertmanager: str | None = None

    def target(self) -> str:
        """The address. Raises ``ClientError`` where there is none."""
        if self.alertmanager:
            return self.alertmanager
        found = find(self.url)
        if found is None:
            raise ClientError(
                "no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url"
            )
        return found.target


def add(
    where: Where,
    matchers: Sequence[str],
    *,
    comment: str | None,
    by: str | None,
    lasting: str | None = None,
    until: str | None = None,
    start: str | None = None,
    as_json: bool = False,
) -> int:
    """Make a silence; 0, 1 where it could not be made, 2 where the command line cannot be meant."""
    try:
        wanted = matchers_of(matchers)
        if not (comment or "").strip():
            raise Wrong('a comment is needed, so that others know why: --comment "fan is being replaced"')
        if lasting is not None and until is not None:
            raise Wrong("give --for or --until, not both")
        asked = Times(lasting, until, start)
        asked.check()
        return asyncio.run(_add(where, wanted, asked, comment or "", by or user(), as_json))
    except Wrong as error:
        click.echo(f"gpumon silence add: {error}", err=True)
        return 2
    except ClientError as error:
        click.echo(f"gpumon silence add: {error}", err=True)
        return 1


async def _add(
    where: Where, matchers: Sequence[LabelMatcher], times: Times, comment: str, by: str, as_json: bool
) -> int:
    async with AlertClient(where.target()) as client:
        now_ms = await _now_ms(client)
        starts_ms, ends_ms = times.at(now_ms)
        rows = tuple(
            SilenceMatcher(one.name, one.value, one.op in ("=~", "!~"), one.op in ("=", "=~")) for one in matchers
        )
        ident, warning = await client.add_silence(NewSilence(rows, _rfc3339(starts_ms), _rfc3339(ends_ms), by, comment))
        if as_json:
            click.echo(json_text({"id": ident, "warning": warning}))
            return 0
        begins = f"from {words.clock(starts_ms, date=True)} " if starts_ms > now_ms else ""
        lasts = words.duration((ends_ms - max(starts_ms, now_ms)) / 1000)
        click.echo(f"silenced {begins}until {words.clock(ends_ms, date=True)} ({lasts}): {', '.join(map(str, rows))}")
        if warning:
            click.echo(f"warning: {words.clean(warning)}", err=True)
        click.echo(_meant(matchers, await client.managed_alerts()))
        click.echo(f"id {ident}; end it early with: gpumon silence expire {ident[:8]}")
    return 0


async def _now_ms(client: AlertClient) -> int:
    """The node's clock, which is what its silences go by; ours for an Alertmanager."""
    try:
        return (await client.capabilities()).now_ms
    except Refused:
        return time.time_ns() // 1_000_000


def _meant(matchers: Sequence[LabelMatcher], alerts: Sequence[ManagedAlert]) -> str:
    meant = [one for one in alerts if all_match(matchers, one.labels)]
    if not meant:
        return "no alert that fires now is meant; it holds for those to come"
    names = sorted({words.clean(one.labels.get("alertname", "")) for one in meant})
    some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"it keeps back {words.count(len(meant), 'alert')} that {'fires' if len(meant) == 1 else 'fire'} now: {some}"


def show(where: Where, *, expired: bool, as_json: bool) -> int:
    """List the silences; 0, or 1 where they could not be had."""
    try:
        rows, now_ms = asyncio.run(_list(where))
    except ClientError as error:
        click.echo(f"gpumon silence list: {error}", err=True)
        return 1
    chosen = [row for row in rows if expired or row.state != "expired"]
    if as_json:
        click.echo(json_text(chosen, indent=2))
        return 0
    if not chosen:
        over = len(rows) - len(chosen)
        click.echo("no silences" + (f" now; --expired lists {over} that ended" if over else ""))
        return 0
    table = [["ID", "STATE", "ENDS", "BY", "MATCHERS", "COMMENT"], *(_row(row, now_ms) for row in chosen)]
    cells = [[words.clean(cell) for cell in row] for row in table]
    widths = [max(words.cells(row[column]) for row in cells) for column in range(5)]
    for row in cells:
        fitted = [words.fit(cell, size) for cell, size in zip(row, widths, strict=False)]
        click.echo("  ".join([*fitted, row[5]]).rstrip())
    return 0


async def _list(where: Where) -> tuple[list[SilenceRow], int]:
    async with AlertClient(where.target()) as client:
        return list(await client.silences()), await _now_ms(client)


def _row(row: SilenceRow, now_ms: int) -> list[str]:
    starts_ms, ends_ms = row.starts_at_ms, row.ends_at_ms
    if starts_ms is None or ends_ms is None:
        when = words.ABSENT
    elif row.state == "expired":
        when = f"{words.clock(ends_ms, date=True)}, {words.duration((now_ms - ends_ms) / 1000)} ago"
    elif row.state == "pending":
        when = f"{words.clock(starts_ms, date=True)} to {words.clock(ends_ms, date=True)}"
    else:
        when = f"{words.clock(ends_ms, date=True)}, in {words.duration((ends_ms - now_ms) / 1000)}"
    return [row.id[:8], row.state, when, row.created_by, ", ".join(map(str, row.matchers)), row.comment]


def expire(where: Where, idents: Sequence[str], *, as_json: bool = False) -> int:
    """End silences now, by their ids or the beginnings of those; 0, or 1 where one could not be ended. As JSON:
    {"schema": 1, "silences": [{"id", "ended"}…]}, where ``ended`` is false for one that was over already."""
    try:
        return asyncio.run(_expire(where, idents, as_json=as_json))
    except ClientError as error:
        click.echo(f"gpumon silence expire: {error}", err=True)
        return 1


async def _expire(where: Where, idents: Sequence[str], *, as_json: bool) -> int:
    code = 0
    told: list[dict[str, object]] = []
    async with AlertClient(where.target()) as client:
        rows = await client.silences()
        for ident in idents:
            try:
                row = _find(rows, ident)
            except Wrong as error:
                click.echo(f"gpumon silence expire: {error}", err=True)
                code = 1
                continue
            said = ", ".join(words.clean(str(one)) for one in row.matchers)
            told.append({"id": row.id, "ended": row.state != "expired"})
            if row.state == "expired":
                if not as_json:
                    click.echo(f"{row.id[:8]} was over already: {said}")
                continue
            warning = await client.expire_silence(row.id)
            if not as_json:
                click.echo(f"{row.id[:8]} ended: {said}")
            if warning:
                click.echo(f"warning: {words.clean(warning)}", err=True)
    if as_json:
        click.echo(json.dumps({"schema": 1, "silences": told}))
    return code


def _find(rows: Sequence[SilenceRow], ident: str) -> SilenceRow:
    found = [row for row in rows if row.id == ident.lower()]
    if not found and len(ident) >= _LEAST_PREFIX:
        found = [row for row in rows if row.id.startswith(ident.lower())]
    shown = words.clean(ident, 80)
    if not found and len(ident) < _LEAST_PREFIX:
        raise Wrong(f'"{shown}" is too short: give {_LEAST_PREFIX} characters of the id, or more')
    if not found:
        raise Wrong(f'there is no silence "{shown}": `gpumon silence list --expired` shows them all')
    if len(found) > 1:
        raise Wrong(f'"{shown}" begins {len(found)} ids: give more of it')
    return found[0]


# -- what the command line says ----------------------------------------------------------------------------------------


def matchers_of(texts: Sequence[str]) -> tuple[LabelMatcher, ...]:
    """Matchers as people write them: one each, or several in one text. The first may be an alert's bare name, as
    amtool has it. Raises ``Wrong`` with a mark below the bad place."""
    found: list[LabelMatcher] = []
    for number, text in enumerate(texts):
        try:
            if number == 0 and text.strip() and not _OPERATOR.search(text):
                found.append(LabelMatcher("alertname", "=", text.strip()))
            elif text.lstrip().startswith("{"):
                found += parse_matchers(text)
            else:
                found.append(parse_matcher(text))
        except MatcherError as error:
            shown = words.clean(text)
            mark = "" if error.position is None else f"\n  {' ' * words.cells(shown[: error.position])}^"
            raise Wrong(f"bad matcher: {words.clean(str(error))}\n  {shown}{mark}") from None
    if not found:
        raise Wrong("which alerts? Give matchers: an alert's name, or LABEL=VALUE, !=, =~, !~")
    if all(one.accepts("") for one in found):
        raise Wrong("that would silence everything: at least one matcher has to ask for a label that is there")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Times:
    """When a silence begins and ends, as the person says it."""

    lasting: str | None = None
    until: str | None = None
    start: str | None = None

    def check(self) -> None:
        """Raises ``Wrong`` for what no clock makes good."""
        self.at(time.time_ns() // 1_000_000)

    def at(self, now_ms: int) -> tuple[int, int]:
        """Start and end. Raises ``Wrong``."""
        start_ms = now_ms if self.start is None else moment(self.start, now_ms, "--start")
        if self.until is not None:
            end_ms = moment(self.until, max(now_ms, start_ms), "--until")
        else:
            lasting_ms = DEFAULT_MS if self.lasting is None else parse_duration_ms(self.lasting)
            if not lasting_ms:
                raise Wrong(f'--for "{self.lasting}" is no length of time: write 30m, 2h, 1d12h')
            end_ms = start_ms + lasting_ms
        if end_ms <= now_ms:
            raise Wrong(f"it would be over already: {words.clock(end_ms, date=True)} is past")
        if end_ms <= start_ms:
            raise Wrong("it would end before it starts")
        if end_ms >= _LATEST_MS:
            raise Wrong("it would end after the year 9999")
        return start_ms, end_ms


_LATEST_MS = 253_402_300_800_000 - 86_400_000


def moment(text: str, now_ms: int, option: str) -> int:
    """A time as people write it, where they are: ``18:00`` (the next one), ``2026-11-21``, ``2026-11-21T18:00``; or
    with its time zone. Raises ``Wrong``."""
    try:
        clock = _CLOCK.fullmatch(text.strip())
        if clock is not None:
            now = datetime.fromtimestamp(now_ms / 1000)  # the person's own time is meant
            found = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            if found <= now:
                found += timedelta(days=1)
        else:
            found = datetime.fromisoformat(text.strip().upper())
        return round(found.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise Wrong(
            f'{option} "{words.clean(text, 60)}" is no time: write 18:00, 2026-11-21T18:00, or with a time zone '
            "2026-11-21T18:00:00Z"
        ) from None


def user() -> str:
    """Who runs this."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _rfc3339(at_ms: int) -> str:
    whole = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
