"""``gpumon backtest``: which alerts rules would have fired over the stored past, and what other rules change about it.

The past comes from a history file, or from the query API of a daemon or a Prometheus. The rules are evaluated by the
daemon's own engine, at every moment at which it would have been done.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from monitor.client import format as words
from monitor.client.discover import Found, find, user_state
from monitor.client.errors import ClientError
from monitor.commands.backtest_difference import compare
from monitor.commands.backtest_feeds import ApiFeed, SharedFeed, StoredFeed, open_history
from monitor.commands.backtest_json import as_json as report_json
from monitor.commands.backtest_replay import Replay, replay_all
from monitor.commands.backtest_report import Report, render
from monitor.commands.for_programs import json_text
from monitor.commands.times import BadTime, moment
from monitor.config_values import SYSTEM_STATE
from monitor.rules.rule_file import RuleSet, load_rules
from monitor.store.history_schema import HistoryError
from monitor.yaml_reader import ConfigError, format_duration, parse_duration_ms

DEFAULT_INTERVAL_MS = 15_000
HISTORY = "history.sqlite"


@dataclass(frozen=True, slots=True)
class Range:
    """The stretch of the past that is asked for, as the person says it."""

    since: str = "24h"
    until: str | None = None

    def at(self, now_ms: int) -> tuple[int, int]:
        """Start and end. Raises ``BadTime``."""
        end_ms = now_ms if self.until is None else moment(self.until, now_ms, "--until")
        back_ms = parse_duration_ms(self.since)
        start_ms = moment(self.since, end_ms, "--since") if back_ms is None else end_ms - back_ms
        if start_ms >= end_ms:
            said = [words.clock(at, date=True) for at in (start_ms, end_ms)]
            raise BadTime(f"the range is empty: --since is {said[0]}, and it ends at {said[1]}")
        return max(0, start_ms), end_ms


def run(
    files: tuple[Path, ...],
    *,
    asked: Range,
    old_files: tuple[Path, ...] = (),
    interval: str | None = None,
    url: str | None = None,
    history: Path | None = None,
    everything: bool = False,
    as_json: bool = False,
) -> int:
    """Print what would have fired. 0; 1 where that could not be found out, or a rule failed at any evaluation; 2 where
    the command line cannot be meant."""
    try:
        interval_ms = _interval(interval)
        asked.at(time.time_ns() // 1_000_000)
        rules, old = load_rules(files), load_rules(old_files) if old_files else None
        for name, each in ((files, rules), (old_files, old)):
            if each is not None and not len(each):
                raise ClientError("there is no rule", ", ".join(map(str, name)))
        feed = _open(url, history)
        try:
            report = _replay(feed, asked, rules, files, old, old_files, interval_ms)
        finally:
            feed.close()
    except BadTime as error:
        click.echo(f"gpumon backtest: {error}", err=True)
        return 2
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        return 1
    except (ClientError, HistoryError) as error:
        click.echo(f"gpumon backtest: {error}", err=True)
        return 1
    if as_json:
        click.echo(json_text(report_json(report), indent=2))
    else:
        width = max(60, shutil.get_terminal_size((100, 24)).columns)
        click.echo(render(report, width, everything=everything), nl=False, color=words.wants_color())
    return 1 if report.outcome.errors or (report.old is not None and report.old.errors) else 0


def _interval(text: str | None) -> int:
    if text is None:
        return DEFAULT_INTERVAL_MS
    interval_ms = parse_duration_ms(text)
    if interval_ms is None or not 1_000 <= interval_ms <= 3_600_000:
        raise BadTime(f'--interval "{words.clean(text, 60)}" is no interval: write 15s, 1m, from 1s to 1h')
    return interval_ms


def _replay(
    feed: ApiFeed | StoredFeed,
    asked: Range,
    rules: RuleSet,
    files: Sequence[Path],
    old_rules: RuleSet | None,
    old_files: Sequence[Path],
    interval_ms: int,
) -> Report:
    start_ms, end_ms = asked.at(feed.now_ms())
    shared = SharedFeed(feed)
    sets = [rules] if old_rules is None else [rules, old_rules]
    replays = [Replay(one, shared, start_ms, end_ms, interval_ms) for one in sets]
    intervals = sorted({group.interval_ms or interval_ms for one in sets for group in one.groups} or {interval_ms})
    progress = _Progress(start_ms, end_ms)
    try:
        past = replay_all(replays, shared, start_ms, end_ms, math.gcd(*intervals), progress.tell, feed.oldest_ms())
    finally:
        progress.end()
    if past.oldest_ms is None or past.newest_ms is None or past.newest_ms < start_ms:
        times = f"{words.clock(start_ms, date=True)} and {words.clock(end_ms, date=True)}"
        raise ClientError(f"nothing is stored between {times}", feed.place, "Ask for another time: --since, --until")
    if feed.damage:
        click.echo(f"gpumon backtest: damaged, and left out: {feed.damage}", err=True)
    outcomes = [one.outcome() for one in replays]
    return Report(
        files=tuple(map(str, files)),
        place=feed.place,
        intervals=tuple(map(format_duration, intervals)),
        past=past,
        outcome=outcomes[0],
        old_files=tuple(map(str, old_files)),
        old=outcomes[1] if old_rules is not None else None,
        difference=compare(outcomes[0], outcomes[1], end_ms) if old_rules is not None else None,
    )


class _Progress:
    """How far it is, on a terminal."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self._start_ms = start_ms
        self._end_ms = end_ms
        self._shows = sys.stderr.isatty()

    def tell(self, now_ms: int) -> None:
        """It is at ``now_ms`` of the past."""
        if self._shows:
            share = max(0.0, (now_ms - self._start_ms) / (self._end_ms - self._start_ms))
            click.echo(f"\r\x1b[K{words.clock(now_ms, date=True)}  {share * 100:.0f} %", nl=False, err=True)

    def end(self) -> None:
        """Take it away."""
        if self._shows:
            click.echo("\r\x1b[K", nl=False, err=True)


# -- where the past is -------------------------------------------------------------------------------------------------


def _open(url: str | None, history: Path | None) -> ApiFeed | StoredFeed:
    """What is named; else the daemon's history file where it can be read, else its API."""
    if history is not None:
        return open_history(history)
    if url or os.environ.get("GPUMON_URL"):
        return ApiFeed(url or os.environ["GPUMON_URL"])
    found, refused = None, None
    try:
        found = find()
    except ClientError as error:  # it hangs, or is another user's: its file may be readable all the same
        refused = error
    for path in _histories(found):
        if os.access(path, os.R_OK):
            try:
                return open_history(path)
            except HistoryError as error:
                if found is None:
                    raise
                click.echo(f"gpumon backtest: {error}; asking the daemon instead", err=True)
    if found is not None:
        return ApiFeed(found.target)
    raise refused or ClientError(
        "no daemon runs here, and there is no history file that can be read",
        "this node",
        "Name one with --history FILE, or a daemon or a Prometheus with --url",
    )


def _histories(found: Found | None) -> list[Path]:
    """Where the history is of the daemon that runs, or of those that may have run."""
    places = {"system": [SYSTEM_STATE], "user": [user_state()]}
    return [place / HISTORY for place in places.get(found.how if found else "", [SYSTEM_STATE, user_state()])]
