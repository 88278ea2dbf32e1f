"""What `gpumon check` and `gpumon doctor` see of `api:`: tokens in the clear, certificates that end, files that every
user of the machine reads."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monitor.client.format import duration
from monitor.config import Api, Secret, Tls

_SHORT = 16
"""Characters of a token that others can try from elsewhere."""
_SOON_SECONDS = 14 * 86_400


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing, and what to do. ``place`` is its line and column, 0 for none."""

    state: Literal["warning", "problem"]
    seen: str
    cure: str
    place: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.seen}. {self.cure}"


def look_at_access(api: Api) -> Iterator[Seen]:
    """What is wrong with who may read and change over TCP, and what is only unwise."""
    if api.listen is None:
        return
    tokens = {"token": api.token, "read_token": api.read_token}
    named = [name for name, secret in tokens.items() if secret is not None]
    if api.is_open and api.tls is None and named:
        yield Seen(
            "warning",
            f"{' and '.join(named)} and all that is read cross the network in the clear, for whoever listens there",
            "Set `tls: {cert_file: …, key_file: …}` in `api:`, or listen on 127.0.0.1 behind something that has TLS",
        )
    yield from _tokens(api, tokens)
    if api.tls is not None:
        yield from _certificates(api.tls)
    files = {name: Path(one.value) for name, one in tokens.items() if one is not None and one.where == "file"}
    if api.tls is not None:
        files["key_file"] = api.tls.key_file
    for name, path in files.items():
        if _everybody_reads(path):
            yield Seen("warning", f"{name}: {path} may be read by every user here", f"`chmod o-rwx {path}`")


def _tokens(api: Api, tokens: dict[str, Secret | None]) -> Iterator[Seen]:
    """Those that can be had; that one cannot, is told elsewhere."""
    had: dict[str, str] = {}
    for name, secret in tokens.items():
        if secret is None:
            continue
        try:
            had[name] = secret.reveal()
        except ValueError:
            continue
        if api.is_open and len(had[name]) < _SHORT:
            yield Seen(
                "warning",
                f"{name} has fewer than {_SHORT} characters, and the port can be reached from elsewhere",
                "Make one with `openssl rand -hex 24`",
                secret.place,
            )
    if api.read_token is not None and len(had) == 2 and had["token"] == had["read_token"]:
        yield Seen(
            "warning",
            "read_token is the same as token: who is given it to read may change things, too",
            "Make another one with `openssl rand -hex 24`",
            api.read_token.place,
        )


def _certificates(tls: Tls) -> Iterator[Seen]:
    from monitor.api.tls import BadTls, look

    try:
        shown = look(tls)
    except BadTls as error:
        # A service's key is not for everybody who looks at its configuration.
        state: Literal["warning", "problem"] = "warning" if error.denied else "problem"
        yield Seen(state, f"tls: {error}", "The daemon does not start without it", tls.place)
        return
    if shown.seconds_left is None:
        yield Seen("warning", f"tls: {tls.cert_file} is not good yet", "Is this machine's clock right?", tls.place)
    elif shown.seconds_left <= 0:
        yield Seen("problem", f"tls: {tls.cert_file} has ended: clients refuse it", "Renew it", tls.place)
    elif shown.seconds_left < _SOON_SECONDS:
        yield Seen("warning", f"tls: {tls.cert_file} ends in {duration(shown.seconds_left)}", "Renew it", tls.place)


def _everybody_reads(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
