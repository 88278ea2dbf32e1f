"""What earlier runs of the fuzzer found, and whether it is still so.

``python -m tests.fuzz.earlier TARGET FILE`` ends with 0 where nothing is wrong with an input any more: with the
fuzzer's counters where it is on the path, as it was found.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

SLOW_SECONDS = 3.0
"""CPU time of this thread for one input; instrumented code takes several times what it takes elsewhere."""


def sift(found: Path, still: Callable[[Path], bool]) -> list[Path]:
    """Delete of a target's findings each, with its story, that is no longer one. Gives the inputs that are left."""
    inputs = sorted(path for path in found.iterdir() if path.suffix != ".json")
    left = [path for path in inputs if still(path)]
    for path in inputs:
        if path not in left:
            path.unlink()
    for story in found.glob("*.json"):
        if not story.with_suffix(".bin").exists():
            story.unlink()
    return left


def main(arguments: list[str]) -> int:
    """The command, for one input: 1 where it still raises or is slow. What never ends is for the caller to end."""
    name, path = arguments
    counted: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    with contextlib.suppress(ImportError):
        import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

        counted = atheris.instrument_imports(include=["monitor"])
    with counted:
        from tests.fuzz.target import load

        run = load(name).run
    data = Path(path).read_bytes()
    began = time.thread_time()
    run(data)
    return int(time.thread_time() - began > SLOW_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
