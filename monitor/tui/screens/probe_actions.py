"""What can be done with probe runs, from their list and from the page of one: begin, cancel, compare, name, delete."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from monitor.client.errors import ClientError
from monitor.client.format import ABSENT, clean, clock
from monitor.probes.schema import ENDED, RunRow, Spec
from monitor.tui.panels.probe_words import headline_text
from monitor.tui.screens.choose import Choice, ChooseWindow
from monitor.tui.screens.page import Page
from monitor.tui.screens.probe_windows import BaselineWindow, ProfileWindow, Question, lines
from monitor.tui.screens.silence_window import told

if TYPE_CHECKING:
    from monitor.client.probes import KnownServer, WorkloadRow
    from monitor.tui.probing import Probing


class WideChoose(ChooseWindow):
    """Choices that say more."""

    WIDTH = 100


class ProbeActions(Page):
    """``run_row`` is the run that keys are about; ``servers`` are those that can be probed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "a new probe"),
        Binding("x", "cancel", "cancel the run"),
        Binding("c", "compare", "compare with another"),
        Binding("b", "baseline", "name it as a baseline"),
        Binding("d", "delete", "delete the result"),
        Binding("P", "profile", "torch profiler"),
    ]

    def tell(self, words: str) -> None:
        """Say what came of what was asked for."""
        raise NotImplementedError

    def run_row(self) -> RunRow | None:
        """The run that keys are about."""
        raise NotImplementedError

    def servers(self) -> Sequence[KnownServer]:
        """Those that can be probed without their address."""
        raise NotImplementedError

    def refusal(self) -> str:
        """Why nothing may be begun or changed from here, as the server says; "" where it may."""
        raise NotImplementedError

    def may_not(self) -> bool:
        """Whether nothing may be begun or changed from here; then it was said."""
        why = ""
        if self.shell.readonly:
            why = "the TUI was started with --readonly: it begins, ends and deletes nothing"
        elif self.view.at_ms is not None:
            why = "that is of now, and the past is looked at: l is live again"
        elif self.refusal():
            why = self.refusal()
        if why:
            self.tell(why)
        return bool(why)

    def probing(self) -> Probing:
        """Who is asked. Raises ``ClientError``."""
        server = self.shell.server
        if server is None:
            raise ClientError("there is nobody to ask")
        return server.probing

    # -- a new one ---------------------------------------------------------------------------------------------------

    def action_new(self) -> None:
        """Choose a workload, then fill in its form."""
        if not self.may_not():
            self.shell.do(self._choose(), "probes")

    async def _choose(self) -> None:
        try:
            listing = await self.probing().listing()
            workloads = await self.probing().workloads()
        except ClientError as error:
            self.tell(told(error))
            return
        if not self.is_current:
            return  # another was turned to meanwhile
        if listing.refusal:
            self.tell(listing.refusal)
            return
        row = self.run_row()
        server = row.server if row is not None else ""
        choices = [
            Choice(f"{one.name:10}", partial(self.fill_in, one, listing.servers, None, server), more=clean(one.summary))
            for one in workloads
        ]
        self.shell.cover(WideChoose("which probe?", choices))

    def fill_in(
        self, workload: WorkloadRow, servers: Sequence[KnownServer], spec: Spec | None, server: str = ""
    ) -> None:
        """The form of a run, filled in like ``spec`` where there is one."""
        from monitor.tui.screens.new_probe import NewProbe

        self.shell.cover(NewProbe(self, workload, servers, spec, server))

    # -- one that there is -------------------------------------------------------------------------------------------

    def action_cancel(self) -> None:
        """Ask whether it is to end."""
        row = self.run_row()
        if row is None:
            return
        if row.state in ENDED:
            self.tell("it is over already: d deletes it")
        elif not self.may_not():
            texts = lines(
                f"{row.workload} of {row.server}", "What was measured until now is kept. Requests in flight are let go."
            )
            self.shell.cover(Question(self, "cancel this run?", texts, partial(self._cancel, row), "not cancelled"))

    async def _cancel(self, row: RunRow) -> str:
        await self.probing().cancel(row.id)
        return f"{row.workload} of {row.server} is told to end"

    def action_baseline(self) -> None:
        """Ask for the name under which it is a baseline."""
        row = self.run_row()
        if row is None:
            return
        if row.state not in ENDED:
            self.tell("it goes on: a baseline is a run that is done")
        elif not self.may_not():
            suggested = row.name if row.name not in ("", row.workload) else row.workload
            self.shell.cover(BaselineWindow(self, row.baseline, suggested, partial(self._baseline, row)))

    async def _baseline(self, row: RunRow, name: str) -> str:
        self.changed(await self.probing().baseline(row.id, name))
        return f"the baseline {name} is {row.workload} of {clock(row.began_ms)}" if name else "it is no baseline now"

    def action_delete(self) -> None:
        """Ask whether it is to be deleted."""
        row = self.run_row()
        if row is None:
            return
        if row.state not in ENDED:
            self.tell("it goes on: x cancels it")
        elif row.baseline:
            self.tell(f"it is the baseline {row.baseline}: b with no name makes it none, then it can be deleted")
        elif not self.may_not():
            texts = lines(
                f"{row.workload} of {row.server}, {clock(row.began_ms, date=True)}",
                headline_text(row.headline, 70),
                "Its files are deleted too. This cannot be undone.",
            )
            self.shell.cover(Question(self, "delete this result?", texts, partial(self._delete, row), "not deleted"))

    async def _delete(self, row: RunRow) -> str:
        await self.probing().delete(row.id)
        self.deleted(row)
        return f"deleted {row.id}"

    def changed(self, row: RunRow) -> None:
        """This is how it stands in the list from now on."""

    def deleted(self, row: RunRow) -> None:
        """It is there no more."""

    def action_profile(self) -> None:
        """Start or stop a server's torch profiler."""
        if self.may_not():
            return
        names = [one.server for one in self.servers()]
        row = self.run_row()
        if names:
            self.shell.cover(ProfileWindow(self, names, row.server if row is not None else ""))
        else:
            self.tell("no server is known whose profiler could be started")

    # -- two of them -------------------------------------------------------------------------------------------------

    def compare(self, before: RunRow, after: RunRow) -> None:
        """Open the comparison of two."""
        if before.state not in ENDED or after.state not in ENDED:
            self.tell("one of them goes on: what is over can be compared")
        else:
            self.shell.open("comparison", before=before, after=after)

    def choose_other(self, row: RunRow, rows: Sequence[RunRow]) -> None:
        """Choose what a run is compared with: baselines and runs of its workload first."""
        if row.state not in ENDED:
            self.tell("it goes on: what is over can be compared")
            return
        others = [one for one in rows if one.id != row.id and one.state in ENDED and one.headline]
        if not others:
            self.tell("there is no other result to compare it with")
            return
        others.sort(key=lambda one: (one.workload != row.workload, not one.baseline, -one.began_ms))
        choices = [Choice(_title(one), partial(self._in_order, row, one), more=_more(one)) for one in others]
        self.shell.cover(WideChoose("compare with", choices))

    def _in_order(self, one: RunRow, other: RunRow) -> None:
        before, after = sorted((one, other), key=lambda row: (not row.baseline, row.began_ms))
        self.compare(before, after)


def _title(row: RunRow) -> str:
    name = row.workload if row.name in ("", row.workload) else f"{row.workload} {clean(row.name)}"
    return f"{name}   {clock(row.began_ms, date=True)[:16]}   {row.server or ABSENT}"


def _more(row: RunRow) -> str:
    parts = [f"baseline {row.baseline}" if row.baseline else "", "" if row.valid else "not valid"]
    return "  ".join(one for one in (*parts, headline_text(row.headline, 40)) if one)
