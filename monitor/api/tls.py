"""The TLS of the TCP listener: what it shows, whose certificates it takes, and the look at both beforehand."""

from __future__ import annotations

import logging
import os
import ssl
import time
from pathlib import Path

import msgspec

from monitor.config import Tls

log = logging.getLogger(__name__)

_TURNS = 10
_EXPIRED, _NOT_YET = 10, 9
"""OpenSSL's numbers of the two: X509_V_ERR_CERT_HAS_EXPIRED and …_NOT_YET_VALID."""


class BadTls(Exception):
    """Certificates or a key that cannot be used. The text names the file and says why; ``denied`` where this user may
    not read it, which the daemon may."""

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


class Certificate(msgspec.Struct, frozen=True):
    """The one that the listener shows: the names and addresses that it is for, and the seconds that it is still good,
    0 where it has ended, None where its time has not begun."""

    names: tuple[str, ...]
    seconds_left: float | None


def server_context(tls: Tls) -> ssl.SSLContext:
    """What connections are taken with. A client's certificate is asked for where one counts, and has to be good then;
    who shows none is let in, and told by HTTP what is missing. Raises ``BadTls``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_TICKET  # a session that goes on was let in by certificates that may be gone
    context.num_tickets = 0
    context.options |= ssl.OP_NO_RENEGOTIATION  # which costs us much, and whoever asks for it little
    for path in (tls.cert_file, tls.key_file, tls.client_ca_file):
        if path is not None:
            _check_readable(path)
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, _no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = f"{tls.cert_file}, {tls.key_file}"
        raise BadTls(
            f"{files} cannot be used: {_words(error)}. Both are in PEM form, the key's without a password, and "
            "the key is the first certificate's"
        ) from None
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except OSError as error:
            raise BadTls(
                f"{tls.client_ca_file} cannot be used: {_words(error)}. It holds certificates in PEM form"
            ) from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def fingerprint(tls: Tls) -> tuple[tuple[int, int, int, int], ...]:
    """Another one where a file was changed or replaced. A file that cannot be looked at is zeros."""
    found = []
    for path in (tls.cert_file, tls.key_file, tls.client_ca_file):
        try:
            seen = os.stat(path) if path is not None else None
        except OSError:
            seen = None
        found.append((seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size) if seen is not None else (0, 0, 0, 0))
    return tuple(found)


def look(tls: Tls) -> Certificate:
    """What a client would be shown, found out by a handshake in memory. Raises ``BadTls``."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context(tls)
    server.load_cert_chain(tls.cert_file, tls.key_file, _no_password)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    try:
        client.load_verify_locations(tls.cert_file)
    except OSError as error:
        raise BadTls(f"{tls.cert_file} cannot be used: {_words(error)}") from None
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it is trusted itself, whoever made it
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(there, back, server_side=True)
    theirs = client.wrap_bio(back, there, server_side=False)
    try:
        for _ in range(_TURNS):
            if _turn(theirs) & _turn(ours):
                break
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return Certificate((), 0.0)
        if error.verify_code == _NOT_YET:
            return Certificate((), None)
        raise BadTls(f"{tls.cert_file} cannot be used: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise BadTls(f"{tls.cert_file} cannot be used: {_words(error)}") from None
    shown = theirs.getpeercert() or {}
    names = [str(value) for pair in shown.get("subjectAltName", ()) for value in pair[1:] if isinstance(value, str)]
    ends = shown.get("notAfter")
    left = ssl.cert_time_to_seconds(ends) - time.time() if isinstance(ends, str) else None
    return Certificate(tuple(names), left)


def tell_if_ended(tls: Tls) -> None:
    """A certificate that has ended is shown all the same: a client that looks at none goes on. But somebody has to hear
    of it."""
    try:
        ended = look(tls).seconds_left == 0
    except BadTls:  # of which who reads it for use tells
        return
    if ended:
        log.error("the certificate of the API, %s, has ended: clients refuse it. Renew it", tls.cert_file)


def _turn(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise BadTls(
            f"{path} cannot be read: {error.strerror or error}", denied=isinstance(error, PermissionError)
        ) from None


def _no_password() -> str:
    raise ValueError("the key has a password")  # else OpenSSL asks the terminal for it, and waits


def _words(error: Exception) -> str:
    why = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    return str(why).lower().replace("_", " ")
