"""Silences: who wants to hear nothing of which alerts, until when, and why. Alertmanager's semantics.

Pure: in memory, with the time passed in. What changes is handed back, and whoever called keeps it on the disk; ``load``
is how it comes back after a restart. An expired silence is kept for a while, so that people see who silenced what.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import msgspec

from monitor.matchers import LabelMatcher, MatcherError, Op, all_match
from monitor.records import replace
from monitor.samples import Labels

State = Literal["pending", "active", "expired"]

RETENTION_MS = 5 * 24 * 3600_000
"""How long a silence is still shown after its end: Alertmanager's 120 hours."""
MAX_SILENCES = 10_000
"""With the expired ones. Each is looked at for every new alert; nobody has so many by hand."""
_MAX_CACHED = 10_000


class SilenceError(ValueError):
    """A silence that is refused. The text says why, in Alertmanager's words where it has some."""


class UnknownSilence(SilenceError):
    """There is no silence with this id."""

    def __init__(self, ident: str) -> None:
        super().__init__(f"silence {ident[:80]} not found")
        self.ident = ident


class Silence(msgspec.Struct, frozen=True):
    """One silence. Times are epoch milliseconds. ``id`` is a UUID, or "" for one that is only asked for."""

    id: str
    matchers: tuple[LabelMatcher, ...]
    starts_at_ms: int
    ends_at_ms: int
    created_by: str
    comment: str
    updated_at_ms: int = 0

    def state(self, now_ms: int) -> State:
        """Whether it begins later, holds, or is over. Its end does not belong to it."""
        if now_ms >= self.ends_at_ms:
            return "expired"
        return "pending" if now_ms < self.starts_at_ms else "active"

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is meant, whatever the time."""
        return all_match(self.matchers, labels)


class Change(msgspec.Struct, frozen=True):
    """What a ``set`` changed, all of which is to be kept."""

    silence: Silence
    """As it is now."""
    replaced: Silence | None = None
    """The old one, ended, where the change was more than may be done to it."""


class Silences:
    """All silences of a node. Times are epoch milliseconds."""

    def __init__(self, silences: Iterable[Silence] = ()) -> None:
        self._silences: dict[str, Silence] = {}
        # The ids of all that mean an alert's labels, in any state: who is asked each second stays the same.
        self._meant: dict[Labels, tuple[str, ...]] = {}
        self.load(silences)

    def load(self, silences: Iterable[Silence]) -> None:
        """Put back what was kept; what is here already with the same id stays where it is the newer one."""
        for silence in silences:
            known = self._silences.get(silence.id)
            if known is None or known.updated_at_ms <= silence.updated_at_ms:
                self._silences[silence.id] = silence
        self._meant.clear()

    def get(self, ident: str) -> Silence | None:
        """The silence with an id."""
        return self._silences.get(ident)

    def all(self) -> list[Silence]:
        """Every silence, in the order in which they came."""
        return list(self._silences.values())

    def set(self, wanted: Silence, now_ms: int) -> Change:
        """Make a silence, or change the one whose id ``wanted`` has.

        A change keeps the id where the matchers stay and no past is rewritten: of an active one, end, creator and
        comment; of a pending one, the start as well, to a time from now on. Any other change ends the old one and makes
        a new one; so does a change of an expired one. A start in the past becomes now.

        Raises ``SilenceError``, ``UnknownSilence`` for an id that is none.
        """
        self._check(wanted, now_ms)
        before = self._silences.get(wanted.id)
        if wanted.id and before is None:
            raise UnknownSilence(wanted.id)
        if before is not None and _may_become(before, wanted, now_ms):
            # An active silence's start is compared in whole seconds, as clients that show no more send it back.
            starts_at_ms = before.starts_at_ms if before.state(now_ms) == "active" else wanted.starts_at_ms
            return Change(self._put(replace(wanted, starts_at_ms=starts_at_ms, updated_at_ms=now_ms)))
        if len(self._silences) >= MAX_SILENCES:
            raise SilenceError(f"there are {MAX_SILENCES} silences already, with those that ended in the last days")
        replaced = None
        if before is not None and before.state(now_ms) != "expired":
            replaced = self.expire(before.id, now_ms)
        new = replace(wanted, id=str(uuid.uuid4()), starts_at_ms=max(wanted.starts_at_ms, now_ms), updated_at_ms=now_ms)
        return Change(self._put(new), replaced)

    def expire(self, ident: str, now_ms: int) -> Silence:
        """End a silence now. Raises ``SilenceError`` where it is over already, ``UnknownSilence``."""
        silence = self._silences.get(ident)
        if silence is None:
            raise UnknownSilence(ident)
        if silence.state(now_ms) == "expired":
            raise SilenceError(f"silence {ident} already expired")
        starts_at_ms = min(silence.starts_at_ms, now_ms)  # one that never began ends as it begins
        return self._put(replace(silence, starts_at_ms=starts_at_ms, ends_at_ms=now_ms, updated_at_ms=now_ms))

    def silenced_by(self, labels: Labels, now_ms: int) -> tuple[str, ...]:
        """The ids of the active silences that mean these labels, sorted."""
        meant = self._meant.get(labels)
        if meant is None:
            names = dict(labels)
            meant = tuple(sorted(one.id for one in self._silences.values() if one.matches(names)))
            if len(self._meant) >= _MAX_CACHED:
                self._meant.clear()
            self._meant[labels] = meant
        if not meant:
            return ()
        return tuple(ident for ident in meant if self._silences[ident].state(now_ms) == "active")

    def prune(self, now_ms: int, retention_ms: int = RETENTION_MS) -> tuple[str, ...]:
        """Forget what ended so long ago; the ids of those."""
        old = tuple(one.id for one in self._silences.values() if one.ends_at_ms + retention_ms <= now_ms)
        for ident in old:
            del self._silences[ident]
        if old:
            self._meant.clear()
        return old

    def _put(self, silence: Silence) -> Silence:
        known = self._silences.get(silence.id)
        self._silences[silence.id] = silence
        if known is None or known.matchers != silence.matchers:
            self._meant.clear()
        return silence

    @staticmethod
    def _check(wanted: Silence, now_ms: int) -> None:
        if not wanted.matchers:
            raise SilenceError("invalid silence: at least one matcher required")
        if all(matcher.accepts("") for matcher in wanted.matchers):
            raise SilenceError("invalid silence: at least one matcher must not match the empty string")
        if wanted.starts_at_ms >= wanted.ends_at_ms:
            raise SilenceError("start time must be before end time")
        if wanted.ends_at_ms <= now_ms:
            raise SilenceError("end time can't be in the past")


def _may_become(before: Silence, wanted: Silence, now_ms: int) -> bool:
    if _sorted(before.matchers) != _sorted(wanted.matchers):
        return False
    match before.state(now_ms):
        case "active":
            return wanted.starts_at_ms // 1000 == before.starts_at_ms // 1000
        case "pending":
            return wanted.starts_at_ms >= now_ms
        case "expired":
            return False


def _sorted(matchers: Iterable[LabelMatcher]) -> list[LabelMatcher]:
    return sorted(matchers, key=LabelMatcher.sort_key)


# -- on the disk -------------------------------------------------------------------------------------------------------


class _Kept(msgspec.Struct):
    """A silence as text; the matchers as name, operator, value."""

    id: str
    matchers: list[tuple[str, str, str]]
    starts_at_ms: int
    ends_at_ms: int
    created_by: str
    comment: str
    updated_at_ms: int


def to_json(silence: Silence) -> str:
    """A silence as one line of text, for ``from_json``."""
    kept = _Kept(
        silence.id,
        [(one.name, one.op, one.value) for one in silence.matchers],
        silence.starts_at_ms,
        silence.ends_at_ms,
        silence.created_by,
        silence.comment,
        silence.updated_at_ms,
    )
    return msgspec.json.encode(kept).decode()


def from_json(text: str) -> Silence:
    """What ``to_json`` wrote. Raises ``SilenceError``."""
    try:
        kept = msgspec.json.decode(text, type=_Kept)
        return Silence(
            kept.id,
            tuple(LabelMatcher(name, op_of(op), value) for name, op, value in kept.matchers),
            kept.starts_at_ms,
            kept.ends_at_ms,
            kept.created_by,
            kept.comment,
            kept.updated_at_ms,
        )
    except (msgspec.DecodeError, MatcherError) as error:
        raise SilenceError(f"a kept silence cannot be read: {error}") from None


def op_of(text: str) -> Op:
    """A matcher's operator. Raises ``MatcherError``."""
    for op in get_args(Op):
        if op == text:
            found: Op = op
            return found
    raise MatcherError(f"{text!r} is no operator of a matcher")
