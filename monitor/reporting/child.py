"""The child that makes a scheduled report, ``python -m monitor.reporting.child``, so that the daemon's loop does none
of its work.

A ``Wanted`` comes as JSON on standard input, a ``Letter`` goes as JSON to standard output. Where none can be made, it
exits 1 with the reason on standard error.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from monitor.client.errors import ClientError
from monitor.client.prometheus import QueryClient
from monitor.reporting import price
from monitor.reporting.asked import Asked
from monitor.reporting.collect import collect
from monitor.reporting.letter import Letter, Wanted
from monitor.reporting.make import report
from monitor.reporting.schema import Period
from monitor.reporting.writing import letter


async def make(wanted: Wanted) -> Letter:
    """Ask the daemon, and write. Raises ``ClientError``."""
    prices = tuple(price.parse(text) for text in wanted.prices)
    asked = Asked(Period(wanted.start_ms, wanted.end_ms), prices, wanted.name, wanted.zone, wanted.remarks)
    async with QueryClient(wanted.target) as client:
        return letter(report(asked, await collect(client, asked)))


def main() -> int:
    """One request, one answer."""
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    try:
        made = asyncio.run(make(wanted))
    except ClientError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
