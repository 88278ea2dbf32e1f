"""What is read for the screen that is open, beside the picture of the node: what happened, what the screen itself wants
to read, what its queries say, and pictures of the past. All of it runs beside the screen, and nothing piles up: where
something is wanted again while it is being read, it is read once more, at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from monitor.client.errors import ClientError
from monitor.client.format import clean
from monitor.tui.screens.page import Page

if TYPE_CHECKING:
    from monitor.tui.app import GpumonApp
    from monitor.tui.server import Asked

RANGE = 600
"""What graphs look back on, in seconds, where nothing else was chosen."""
_HAPPENED_SECONDS = 5.0
"""How often it is asked what has happened."""
_AGAIN_SECONDS = 2.0
"""After so long what was refused is asked for again."""


class Reading:
    """Reads of a server for an application. Without a server nothing is read."""

    def __init__(self, app: GpumonApp, server: Asked | None) -> None:
        self._app = app
        self._server = server
        self._read = -1e9
        self._watched: Page | None = None
        """The screen whose answers of one moment are being read."""
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
            await asyncio.sleep(_HAPPENED_SECONDS)

    async def _learn(self, server: Asked) -> None:
        told = self._app.chronicle
        try:
            new = told.take(await server.happened(told.since_ms(self._app.now_ms)))
        except ClientError as error:
            new = told.refuse(clean(error.what))
        if new:
            self._app.show_page()

    # -- what the open screen reads ----------------------------------------------------------------------------------

    def again(self, now: float) -> None:
        """Read anew whatever the open screen reads."""
        self.page(now)
        self._watch_page()

    def page(self, now: float) -> None:
        """Let the open screen read what is neither in the picture nor a query."""
        self._read = now
        running = any(one.name == "list" and one.is_running for one in self._app.workers)
        if self._server is None or running:
            return
        page = self._app.page
        if page.READ_SECONDS is not None:
            self._run(partial(self._fill, page, self._server), name="list")
        elif page.HEEDS:
            self._run(partial(self._learn, self._server), name="list")

    async def _fill(self, page: Page, server: Asked) -> None:
        travel = self._app.travel
        try:
            await page.read(server, travel.at_ms, travel.range_seconds or RANGE)
            page.refused = ""
        except ClientError as error:
            page.refused = clean(error.what)
        if page is self._app.page:
            page.show(self._app.view())

    def _watch_page(self) -> None:
        """Listen to what the open screen's own queries say, and to none of the screen before."""
        page = self._app.page
        running = [one for one in self._app.workers if one.name == "watch" and one.is_running]
        if running and self._watched is page and self._app.travel.at_ms is not None:
            self._again = True
            return
        for worker in running:
            worker.cancel()
        self._watched = None
        if self._server is not None and type(page).asked is not Page.asked:
            self._run(partial(self._watch, page, self._server), name="watch")

    async def _watch(self, page: Page, server: Asked) -> None:
        travel = self._app.travel
        while True:
            at_ms, range_seconds = travel.at_ms, travel.range_seconds or RANGE
            self._watched, self._again = (None if at_ms is None else page), False
            try:
                async for answers in server.watch(page.asked, at_ms, range_seconds):
                    first, page.answers, page.refused = page.answers is None, answers, ""
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
