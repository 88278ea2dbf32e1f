"""The daemon's log: as text on a terminal, as the journal's own fields under systemd, as JSON lines elsewhere."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

from monitor import journal
from monitor.log_stream import PatientHandler
from monitor.repeats import Collapsing

FORMATS: Final = ("auto", "text", "json", "journal")
_NOISY = ("httpx", "httpcore", "asyncio")


def about(**what: str) -> dict[str, dict[str, str]]:
    """What a line concerns, for ``extra``: ``source``, ``server``, ``rule``, ``alert``, ``gpu``, ``receiver``. The
    journal has it as GPUMON_SOURCE and so on, JSON by its name; what is empty is left out."""
    return {"about": {name: value for name, value in what.items() if value}}


def set_up(form: str, *, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send all log records to where ``form`` says: one of ``FORMATS``, or "" for what $GPUMON_LOG_FORMAT or else the
    place says. Raises ``ValueError`` for a form that is none."""
    out = stream or sys.stderr
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, Collapsing):
            old.close()
    root.addHandler(Collapsing(_handler(chosen(form, out), out)))
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def settle() -> None:
    """Tell of lines that were held back because they came too often, where it is time to."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Collapsing):
            handler.settle()


def chosen(form: str, stream: TextIO) -> str:
    """The form to log in: ``text``, ``json`` or ``journal``. Raises ``ValueError``."""
    form = form or os.environ.get("GPUMON_LOG_FORMAT", "") or "auto"
    if form not in FORMATS:
        raise ValueError(f'$GPUMON_LOG_FORMAT: "{form}" is none of {", ".join(FORMATS)}')
    if form != "auto":
        return form
    if journal.reads(stream):
        return "journal"
    return "text" if stream.isatty() else "json"


class JsonFormatter(logging.Formatter):
    """An object a line: time (UTC), level, logger, message, what it concerns, and the traceback of a fault."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        concerns: Mapping[str, str] = getattr(record, "about", {})
        line |= {name: value for name, value in concerns.items() if name not in line}
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _handler(form: str, stream: TextIO) -> logging.Handler:
    if form == "journal":
        return journal.JournalHandler(journal.SOCKET, stream)
    handler = PatientHandler(stream)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    return handler
