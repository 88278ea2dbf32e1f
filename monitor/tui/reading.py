"""What is read for the screen that is open, beside the picture of the node: what happened, what the screen itself wants
to read, what its queries say, and pictures of the past. All of it runs beside the screen, and nothing piles up: where
something is wanted again while it is being read, it is read once more, at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from monitor.client.errors import ClientError
from monitor.client.format import clean, percent
from monitor.probes.schema import ENDED
from monitor.tui.screens.page import Page

if TYPE_CHECKING:
    from textual.worker import Worker

    from monitor.client.results import Lens
    from monitor.client.wire import Query
    from monitor.probes.schema import RunRow
    from monitor.tui.app import GpumonApp
    from monitor.tui.server import Asked

RANGE = 600
"""What graphs look back on, in seconds, where nothing else was chosen."""
_HAPPENED_SECONDS = 5.0
"""How often it is asked what has happened."""
_AGAIN_SECONDS = 2.0
"""After so long what was refused is asked for again."""
_LATE_SECONDS = 1.5
"""A picture that has not come for so long is not waited for."""


class Reading:
    """Reads of a server for an application. Without a server nothing is read."""

    def __init__(self, app: GpumonApp, server: Asked | None) -> None:
        self._app = app
        self._server = server
        self._read = -1e9
        self._filled: Page | None = None
        """The screen that reads what is no query,"""
        self._more = False
        """and whether it was to read that anew meanwhile."""
        self._wanted = False
        """Whether somebody waits for it. What is read by and by is drawn with the next picture, where that comes."""
        self._watched: Page | None = None
        """The screen whose answers of one moment are being read."""
        self._asked: tuple[Lens, Sequence[Query]] | None = None
        """What they are answers to."""
        self._again = False
        """Whether another moment was wanted meanwhile."""

    def start(self) -> None:
        """Begin to heed what happens."""
        if self._server is not None:
            self._run(partial(self._heed, self._server), name="happened")

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run beside the screen. Work that is cancelled before it began leaves no coroutine behind."""
        self._app.run_worker(cast(Any, work), name=name)

    def tick(self, now: float) -> None:
        """Read what is due; ``now`` is the monotonic time."""
        every = self._app.page.READ_SECONDS
        if every is not None and now - self._read >= every:
            self.page(now)
        if self._app.travel.is_due(now):
            self._app.travel.asked = True
            self.fetch()

    async def _heed(self, server: Asked) -> None:
        """Learn of what happens, for the list of it and for the marks on graphs."""
        while True:
            await self._learn(server)
            await self._probes(server)
            await asyncio.sleep(_HAPPENED_SECONDS)

    async def _probes(self, server: Asked) -> None:
        """Learn how far a probe is, while one goes on: what every screen shows meanwhile is its load."""
        told = self._app.chronicle
        rows: Sequence[RunRow] = ()
        if told.marks.goes_on:
            with suppress(ClientError):  # who may not know of it sees its marks
                rows = [one for one in (await server.probing.listing()).runs if one.state not in ENDED]
        told.probe = probe_text(rows)

    async def _learn(self, server: Asked) -> None:
        told = self._app.chronicle
        try:
            new = told.take(await server.happened(told.since_ms(self._app.now_ms)))
        except ClientError as error:
            new = told.refuse(clean(error.what))
        if new:
            self._app.show_page()

    # -- what the open screen reads ----------------------------------------------------------------------------------

    def _at_work(self, name: str) -> list[Worker[object]]:
        return [one for one in self._app.workers if one.name == name and one.is_running]

    def again(self, now: float) -> None:
        """Read anew whatever the open screen reads."""
        self._more = self._wanted = True
        self.page(now)
        self._watch_page()

    def page(self, now: float) -> None:
        """Let the open screen read what is neither in the picture nor a query. What another screen reads is let go."""
        self._read = now
        if self._server is None:
            return
        page = self._app.page
        running = self._at_work("list")
        if running and self._filled is page:
            return
        for worker in running:
            worker.cancel()
        self._filled = page
        if page.READ_SECONDS is not None:
            self._run(partial(self._fill, page, self._server), name="list")
        elif page.HEEDS:
            self._run(partial(self._learn, self._server), name="list")

    async def _fill(self, page: Page, server: Asked) -> None:
        travel = self._app.travel
        self._more = True
        while self._more:
            self._more = False
            try:
                await page.read(server, travel.at_ms, travel.range_seconds or RANGE)
                if not _has_queries(page):  # else their refusal is no longer told
                    page.refused = ""
            except ClientError as error:
                page.refused = clean(error.what)
            view = self._app.view()
            if page is self._app.page and (self._wanted or view.age_seconds > _LATE_SECONDS):
                self._wanted = False
                page.show(view)

    def _watch_page(self) -> None:
        """Listen to what the open screen's own queries say, and to none of the screen before."""
        page = self._app.page
        running = self._at_work("watch")
        if running and self._watched is page and self._app.travel.at_ms is not None and self._is_about_the_same(page):
            self._again = True
            return
        for worker in running:
            worker.cancel()
        self._watched = None
        if self._server is not None and _has_queries(page):
            self._run(partial(self._watch, page, self._server), name="watch")

    def _is_about_the_same(self, page: Page) -> bool:
        """Whether what is being read is what the screen wants still, be it of another moment."""
        return self._asked is None or tuple(page.asked(self._asked[0])) == self._asked[1]

    async def _watch(self, page: Page, server: Asked) -> None:
        travel = self._app.travel

        def asked(lens: Lens) -> Sequence[Query]:
            self._asked = lens, tuple(page.asked(lens))
            return self._asked[1]

        while True:
            at_ms, range_seconds = travel.at_ms, travel.range_seconds or RANGE
            self._watched, self._again, self._asked = (None if at_ms is None else page), False, None
            try:
                async for answers in server.watch(asked, at_ms, range_seconds):
                    first, page.answers, page.refused = page.answers is None, answers, ""
                    page.answered = self._app.clock()
                    # What comes live is drawn with the next picture of the node, which comes as often.
                    if first or at_ms is not None:
                        page.show(self._app.view())
            except ClientError as error:
                page.refused = clean(error.what)
                page.show(self._app.view())
                if not self._again:
                    await asyncio.sleep(_AGAIN_SECONDS)
            else:
                if not self._again:
                    self._watched = None
                    return

    # -- the past ----------------------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Get the picture that is wished for, if there is a wish and none is on its way."""
        if self._app.travel.asked and not self._app.travel.fetching:
            self._run(self._fetch, name="past")

    async def _fetch(self) -> None:
        await self._app.travel.fetch(self._app.clock())
        self._app.show_page()


def _has_queries(page: Page) -> bool:
    return type(page).asked is not Page.asked


def probe_text(rows: Sequence[RunRow]) -> str:
    """What goes on, for the first line: ``probe throughput 43 %``."""
    if not rows:
        return ""
    if len(rows) > 1:
        return f"{len(rows)} probes"
    progress = rows[0].progress
    far = f" {percent(progress.fraction)}" if progress is not None and progress.fraction is not None else ""
    return f"probe {rows[0].workload}{far}"
