"""Sends the alerts on to real Alertmanagers, as Prometheus sends its own.

What holds, and what Prometheus does alike:

- A firing alert is sent when it begins, and again each minute; one that ended at once, and again each minute for as
  long as the engine tells of it (15 minutes). Pending ones are never sent.
- ``endsAt`` of one that fires is four minutes ahead (or four evaluations, where they are rarer than one a minute), so
  that an Alertmanager resolves what a dead daemon no longer resends. A rule that fails keeps its alerts, and they are
  resent: unlike in Prometheus, they do not end at the Alertmanager.
- Each send is tried once, to every Alertmanager: what makes it reliable is the resending.
- An alert's own labels win over the external ones.

Each Alertmanager has a queue and a worker of its own, so that one that hangs delays no other. A queue holds the newest
state of an alert alone, 10,000 of them at most; beyond that the oldest are dropped, and counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx
import msgspec

from monitor.notify.http import UNSENDABLE, Refused, distrusted, make_client, reason, reveal, text_of
from monitor.notify.route import Revealing
from monitor.repeats import Trouble
from monitor.rules.transition import Alert, Transition
from monitor.samples import Labels, ScrapeBuilder

log = logging.getLogger(__name__)

RESEND_MS = 60_000
QUEUE_CAPACITY = 10_000
BATCH = 256
DEADLINE = 10.0
DRAIN = 2.0
_PATH = "/api/v2/alerts"
_ENDS_AFTER = 4
"""How many resends an alert outlives at an Alertmanager that gets none."""


class Peer(Protocol):
    """An Alertmanager as ``monitor.config.AlertmanagerServer``."""

    @property
    def url(self) -> str: ...

    @property
    def bearer_token(self) -> Revealing | None: ...

    @property
    def ca_file(self) -> Path | None: ...

    @property
    def insecure_skip_verify(self) -> bool: ...


class AlertmanagerStatus(msgspec.Struct, frozen=True):
    """How sending to one Alertmanager goes."""

    url: str
    """Without user and password."""
    queued: int
    sent: int
    """Alerts that it took, since the start."""
    errors: int
    """Alerts whose send failed."""
    dropped: int
    """Alerts that the queue had no room for."""
    last_ok_ms: int | None
    last_error: str
    """Why the last send failed; "" where it did not, or none was needed yet."""


@dataclass(slots=True, eq=False)
class _Outlet:
    """One Alertmanager's queue."""

    peer: Peer
    name: str
    queue: dict[Labels, tuple[int, bytes]] = field(default_factory=dict)
    """By the alert's labels: when it was offered, and how it is written. Oldest first."""
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether all that was put in was tried."""
    client: httpx.AsyncClient | None = None
    sent: int = 0
    errors: int = 0
    dropped: int = 0
    last_ok_ms: int | None = None
    last_error: str = ""
    trouble: Trouble = field(init=False)

    def __post_init__(self) -> None:
        self.settled.set()
        self.trouble = Trouble(log, about={"alertmanager": self.name})

    def put(self, labels: Labels, now_ms: int, written: bytes, capacity: int) -> None:
        self.queue.pop(labels, None)
        self.queue[labels] = now_ms, written
        while len(self.queue) > capacity:
            del self.queue[next(iter(self.queue))]
            self.dropped += 1
        self.settled.clear()
        self.filled.set()

    def take(self) -> tuple[int, list[bytes]]:
        """The next batch, and when its newest part was offered."""
        labels = list(self.queue)[:BATCH]
        parts = [self.queue.pop(each) for each in labels]
        return max(at_ms for at_ms, _ in parts), [written for _, written in parts]


class Alertmanagers:
    """Wires alerts to Alertmanagers. Used from one event loop.

    ``offer`` after each evaluation; ``run()`` as a task; ``close()`` ends it. ``interval_ms`` is the longest that lies
    between two evaluations. ``client`` is for tests, and then used for all. The other options are there for tests too.
    """

    def __init__(
        self,
        servers: Iterable[Peer],
        external_labels: Iterable[tuple[str, str]] = (),
        external_url: str = "",
        interval_ms: int = RESEND_MS,
        client: httpx.AsyncClient | None = None,
        *,
        resend_ms: int = RESEND_MS,
        capacity: int = QUEUE_CAPACITY,
        deadline: float = DEADLINE,
    ) -> None:
        self._client = client
        self._resend_ms = resend_ms
        self._capacity = capacity
        self._deadline = deadline
        self._outlets: list[_Outlet] = []
        self._known: dict[tuple[str, int | None, int | None], int] = {}
        """When an alert was last sent, by its key, its beginning and its end."""
        self._workers: dict[_Outlet, asyncio.Task[None]] = {}
        self._running = False
        self._closing = asyncio.Event()
        self._retired: list[httpx.AsyncClient] = []
        self.reload(servers, external_labels, external_url, interval_ms)

    def reload(
        self, servers: Iterable[Peer], external_labels: Iterable[tuple[str, str]], external_url: str, interval_ms: int
    ) -> None:
        """Take over another configuration. An Alertmanager that stays keeps its queue and its counts; all get what
        fires at the next ``offer``, as it may be written otherwise now."""
        self._external = tuple(external_labels)
        self._external_url = external_url
        self._ends_after_ms = _ENDS_AFTER * max(interval_ms, self._resend_ms)
        before = {outlet.peer: outlet for outlet in self._outlets}
        self._outlets = [
            before.pop(peer) if peer in before else _Outlet(peer, _shown(peer.url)) for peer in dict.fromkeys(servers)
        ]
        for outlet in before.values():
            worker = self._workers.pop(outlet, None)
            if worker is not None:
                worker.cancel()
            if outlet.client is not None:
                self._retired.append(outlet.client)
        self._known.clear()
        if self._running:
            self._start_workers()

    def offer(self, alerts: Iterable[Alert], resolved: Iterable[Transition], now_ms: int) -> None:
        """Queue what is due, from all active alerts and all that ended lately. Cheap, and sends nothing itself."""
        if not self._outlets:
            return
        known: dict[tuple[str, int | None, int | None], int] = {}
        firing: set[Labels] = set()
        for alert in alerts:
            if alert.state == "firing":
                firing.add(alert.labels)
                self._consider(alert, None, "", now_ms, known)
        for transition in resolved:
            # Another rule may fire with the very same labels: then the alert did not end for an Alertmanager.
            if transition.alert.labels not in firing:
                self._consider(transition.alert, transition.at_ms, transition.reason, now_ms, known)
        self._known = known

    async def run(self) -> None:
        """Send what is queued until ``close``."""
        self._running = True
        self._start_workers()
        try:
            await self._closing.wait()
        finally:
            self._running = False
            if not self._closing.is_set():  # cancelled
                await self._end()

    async def close(self, drain: float = DRAIN) -> None:
        """Send what is queued within ``drain`` seconds, then stop, and ``run`` with it."""
        self._start_workers()
        try:
            async with asyncio.timeout(drain):
                await self.settled()
        except TimeoutError:
            log.debug("not all alerts were sent on before the end")
        self._closing.set()
        await self._end()

    async def settled(self) -> None:
        """Wait until all that is queued was tried."""
        await asyncio.gather(*(outlet.settled.wait() for outlet in self._outlets))

    def status(self) -> tuple[AlertmanagerStatus, ...]:
        """How it goes, by Alertmanager, in the configuration's order."""
        return tuple(
            AlertmanagerStatus(
                outlet.name,
                len(outlet.queue),
                outlet.sent,
                outlet.errors,
                outlet.dropped,
                outlet.last_ok_ms,
                outlet.last_error,
            )
            for outlet in self._outlets
        )

    def add_to(self, builder: ScrapeBuilder) -> None:
        """Add gpumon's own series on forwarding to a scrape; counters begin at 0."""
        sent, errors, dropped, queued = FAMILIES
        for name, kind, text in FAMILIES:
            builder.family(name, kind, text)
        for status in self.status():
            labels = (("alertmanager", status.url),)
            builder.add(sent[0], status.sent, labels)
            builder.add(errors[0], status.errors, labels)
            builder.add(dropped[0], status.dropped, labels)
            builder.add(queued[0], status.queued, labels)

    # What is due

    def _consider(
        self,
        alert: Alert,
        ended_ms: int | None,
        why: str,
        now_ms: int,
        known: dict[tuple[str, int | None, int | None], int],
    ) -> None:
        ident = alert.key, alert.fired_at_ms, ended_ms
        last_ms = self._known.get(ident)
        if last_ms is not None and 0 <= now_ms - last_ms <= self._resend_ms:
            known[ident] = last_ms
            return
        known[ident] = now_ms
        labels = dict(self._external) | dict(alert.labels)
        written = self._write(alert, labels, ended_ms, why, now_ms)
        for outlet in self._outlets:
            outlet.put(alert.labels, now_ms, written, self._capacity)

    def _write(self, alert: Alert, labels: Mapping[str, str], ended_ms: int | None, why: str, now_ms: int) -> bytes:
        annotations = dict(alert.annotations)
        if why:  # lost data is no recovery
            annotations["gpumon_reason"] = why
        starts_ms = alert.active_at_ms if alert.fired_at_ms is None else alert.fired_at_ms
        ends_ms = now_ms + self._ends_after_ms if ended_ms is None else ended_ms
        entry: dict[str, object] = {
            "labels": dict(labels),
            "annotations": annotations,
            # Where the clock went back, it would end before it began, and an Alertmanager would refuse it.
            "startsAt": _rfc3339(min(starts_ms, ends_ms)),
            "endsAt": _rfc3339(ends_ms),
        }
        if self._external_url:
            entry["generatorURL"] = self._external_url
        # Text may hold halves of characters, from a log or a label, which are no UTF-8.
        return json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace")

    # Sending

    def _start_workers(self) -> None:
        for outlet in self._outlets:
            if outlet not in self._workers:
                self._workers[outlet] = asyncio.create_task(self._work(outlet), name=f"alertmanager {outlet.name}")

    async def _end(self) -> None:
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for outlet in self._outlets:
            if outlet.client is not None:
                self._retired.append(outlet.client)
                outlet.client = None
        await self._close_retired()

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().aclose()

    async def _work(self, outlet: _Outlet) -> None:
        while True:
            await outlet.filled.wait()
            await self._close_retired()
            while outlet.queue:
                at_ms, batch = outlet.take()
                try:
                    async with asyncio.timeout(self._deadline):
                        await self._post(outlet, batch)
                    error = ""
                except (Refused, TimeoutError, httpx.HTTPError) as failure:
                    if distrusted(failure) and outlet.client is not None:
                        self._retired.append(outlet.client)
                        outlet.client = None
                    error = reason(failure, self._deadline)
                except Exception as failure:  # a bug must not silence the Alertmanager
                    # Where it happened, and not its text, which may hold a secret.
                    where = "".join(traceback.format_tb(failure.__traceback__))
                    log.error("sending to %s failed unforeseen: %s\n%s", outlet.name, type(failure).__name__, where)
                    error = f"unforeseen: {type(failure).__name__}"
                self._settle(outlet, at_ms, len(batch), error)
            outlet.filled.clear()
            outlet.settled.set()

    def _settle(self, outlet: _Outlet, at_ms: int, count: int, error: str) -> None:
        if error:
            outlet.errors += count
            outlet.trouble.again(f"Alertmanager {outlet.name}: {error}; it gets what fires each minute again")
        else:
            outlet.sent += count
            outlet.last_ok_ms = at_ms
            outlet.trouble.over(f"Alertmanager {outlet.name} takes alerts again")
        outlet.last_error = error

    async def _post(self, outlet: _Outlet, batch: Sequence[bytes]) -> None:
        peer = outlet.peer
        headers = {"Content-Type": "application/json"}
        token = ""
        if peer.bearer_token is not None:
            token = await reveal(peer.bearer_token)
            headers["Authorization"] = f"Bearer {token}"
        client = self._client or outlet.client
        if client is None:
            client = outlet.client = await make_client(
                tls=peer.url.lower().startswith("https:"),
                deadline=self._deadline,
                ca_file=peer.ca_file,
                insecure=peer.insecure_skip_verify,
            )
        url = peer.url.rstrip("/") + _PATH
        content = b"[" + b",".join(batch) + b"]"
        try:
            async with client.stream("POST", url, content=content, headers=headers) as response:
                if response.is_success:
                    return
                text = await text_of(response, lambda text: text.replace(token, "***") if token else text)
        except UNSENDABLE:
            # Their texts show the header, and so the token in it.
            raise Refused("its URL or its bearer_token is not valid") from None
        raise Refused(f"HTTP {response.status_code}" + (f": {text}" if text else ""))


def _shown(url: str) -> str:
    """The URL without what may be secret in it."""
    try:
        split = urlsplit(url)
        host = split.hostname or ""
        port = f":{split.port}" if split.port is not None else ""
    except ValueError:  # a port that is no number: then nothing of it is known to be safe
        return "***"
    host = f"[{host}]" if ":" in host else host
    return urlunsplit(SplitResult(split.scheme, host + port, split.path.rstrip("/"), "", ""))


def _rfc3339(at_ms: int) -> str:
    """As Alertmanager has it: UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


FAMILIES = (
    ("gpumon_alertmanager_sent_total", "counter", "Alerts that an Alertmanager took."),
    ("gpumon_alertmanager_errors_total", "counter", "Alerts whose send to an Alertmanager failed."),
    ("gpumon_alertmanager_dropped_total", "counter", "Alerts that an Alertmanager's queue had no room for."),
    ("gpumon_alertmanager_queued", "gauge", "Alerts that are still to be sent to an Alertmanager."),
)
"""Name, kind and help text of gpumon's own series on forwarding."""
