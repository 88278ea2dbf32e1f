"""The lines of a target's modules that its corpus reaches, as JSON: ``python -m tests.fuzz.lines TARGET CORPUS``.

libFuzzer counts edges, which says nothing to a person. Lines that run when a module is loaded count too.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_SECONDS = 10.0
"""CPU time for a corpus: tracing costs many times what a run does. The smallest inputs come first."""
_ROOT = Path(__file__).resolve().parents[2]


def lines_of(path: Path) -> set[int]:
    """The lines of a source file that hold code."""
    return {line for code in _codes(compile(path.read_text(), str(path), "exec")) for line in _lines(code)}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _lines(code: CodeType) -> set[int]:
    return {line for _, _, line in code.co_lines() if line}


def measure(name: str, corpus: Path) -> dict[str, Any]:
    """``{"hit": …, "lines": …, "missed": {module: [line, …]}}``."""
    hit: dict[str, set[int]] = defaultdict(set)
    inside = f"{_ROOT}/monitor/"

    def local(frame: FrameType, event: str, _: object) -> Any:
        hit[frame.f_code.co_filename].add(frame.f_lineno)
        return local

    def trace(frame: FrameType, event: str, _: object) -> Any:
        return local(frame, event, None) if frame.f_code.co_filename.startswith(inside) else None

    sys.settrace(trace)
    from tests.fuzz.target import load

    target = load(name)
    ends = time.process_time() + _SECONDS
    for path in sorted(corpus.iterdir(), key=lambda one: one.stat().st_size):
        if time.process_time() > ends:
            break
        try:
            target.run(path.read_bytes())
        except Exception:  # noqa: S112 - the fuzzer has told of it
            continue
    sys.settrace(None)
    there = reached = 0
    missed = {}
    for module in target.modules:
        file = _ROOT / f"{module.replace('.', '/')}.py"
        code = lines_of(file)
        there += len(code)
        reached += len(code & hit[str(file)])
        missed[module] = sorted(code - hit[str(file)])
    return {"hit": reached, "lines": there, "missed": missed}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
