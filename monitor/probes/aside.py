"""What the daemon has done beside itself, since it takes a whole result with all its requests:

    python -m monitor.probes.aside summary FOLDER     all of a run but its records, a ``RunDetail``
    python -m monitor.probes.aside compare A B        two results, a ``Comparison``

One line of JSON on standard output; what goes wrong, in a sentence, on standard error, and exit code 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from monitor.probes import results
from monitor.probes.errors import ProbeError
from monitor.probes.schema import RunDetail


def detail(folder: Path) -> RunDetail:
    """A result's summary. Raises ``ProbeError``."""
    result = results.read(folder)
    return RunDetail(
        row=results.row(result),
        spec=result.spec,
        facts=result.facts,
        steps=tuple(msgspec.structs.replace(step, records=None) for step in result.steps),
        notes=result.notes,
        findings=result.findings,
        invalid=result.invalid,
        accuracy=result.accuracy,
        files=results.names(folder),
    )


def main(arguments: list[str]) -> int:
    """Do what is asked."""
    answer: msgspec.Struct
    try:
        match arguments:
            case ["summary", folder]:
                answer = detail(Path(folder))
            case ["compare", before, after]:
                from monitor.probes.compare import compare

                answer = compare(results.read(Path(before)), results.read(Path(after)))
            case _:
                raise ProbeError("usage: summary FOLDER | compare A B")
    except ProbeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
