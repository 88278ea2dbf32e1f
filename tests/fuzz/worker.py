"""One target under atheris, in a process of its own: ``python -m tests.fuzz.worker TARGET CORPUS FOUND [OPTION…]``.

The modules of gpumon are loaded with counters at every branch, by which libFuzzer tells which inputs are new. An
exception does not end it: its input is written into FOUND, once for each place that it came from, and it goes on.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import traceback
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

from tests.fuzz.earlier import SLOW_SECONDS


class Findings:
    """Writes each new finding down: its input, and its traceback as JSON."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {path.stem for path in folder.glob("*.json")}

    def note(self, error: BaseException, data: bytes) -> None:
        """An input that raised."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/monitor/" in frame.filename] or frames
        where = f"{Path(ours[-1].filename).stem}:{ours[-1].lineno}"
        self._write(f"{type(error).__name__} at {where}", "".join(traceback.format_exception(error)), data)

    def slow(self, seconds: float, data: bytes) -> None:
        """An input that took long."""
        self._write("slow", f"{seconds:.1f} s of CPU", data)

    def _write(self, what: str, story: str, data: bytes) -> None:
        key = hashlib.sha256(what.encode()).hexdigest()[:12]
        if key in self._known:
            return
        self._known.add(key)
        (self._folder / f"{key}.bin").write_bytes(data)
        (self._folder / f"{key}.json").write_text(json.dumps({"what": what, "story": story[-3000:]}) + "\n")
        print(f"finding: {what}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    name, corpus, found, *options = arguments
    with atheris.instrument_imports(include=["monitor"]):
        from tests.fuzz.target import load

        target = load(name)
    findings = Findings(Path(found))

    def one(data: bytes) -> None:
        began = time.thread_time()
        try:
            target.run(data)
        except Exception as error:
            findings.note(error, data)
        taken = time.thread_time() - began
        if taken > SLOW_SECONDS:
            findings.slow(taken, data)

    folder = Path(corpus)
    for seed in target.seeds():
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed[: target.longest])
    if target.words:
        words = folder.with_suffix(".dict")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words if word))
        options.append(f"-dict={words}")
    atheris.Setup(
        [sys.argv[0], *options, f"-max_len={target.longest}", "-print_final_stats=1", str(folder)],
        one,
    )
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02X}" for byte in word.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
