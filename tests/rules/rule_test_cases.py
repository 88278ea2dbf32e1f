"""What promtool 3.5 said to test files of every kind, good and odd: ``promtool_rule_tests.json``.

``python -m tests.rules.rule_test_cases PROMTOOL`` asks a promtool again and writes its answers into the file.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from monitor.records import replace

RECORD = Path(__file__).parent / "promtool_rule_tests.json"

_OUR_PLACES = re.compile(r"^        at: .+:\d+:\d+\n", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """What a program said and how it ended."""

    code: int
    stdout: str
    stderr: str

    def without_places(self) -> Answer:
        """Less the places in the test file, which only gpumon tells."""
        return replace(self, stderr=_OUR_PLACES.sub("", self.stderr))


@dataclass(frozen=True)
class Recorded:
    """A test file, ``tests.yml``, the files beside it, and the answer."""

    name: str
    files: dict[str, str]
    arguments: list[str]
    answer: Answer

    def lay(self, folder: Path) -> None:
        """Write the files."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def recorded() -> list[Recorded]:
    """All of them."""
    return [
        Recorded(one["name"], one["files"], one["arguments"], Answer(**one["answer"]))
        for one in json.loads(RECORD.read_text(encoding="utf-8"))
    ]


def ask(promtool: Path | str, folder: Path, *arguments: str) -> Answer:
    """What promtool says to ``test rules`` with these arguments."""
    done = subprocess.run(
        [promtool, "test", "rules", *arguments], cwd=folder, capture_output=True, timeout=600, check=False
    )
    return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def record(promtool: str) -> None:
    """Ask anew, and write the answers."""
    out = []
    for one in recorded():
        with tempfile.TemporaryDirectory() as folder:
            one.lay(Path(folder))
            out.append(asdict(replace(one, answer=ask(promtool, Path(folder), *one.arguments, "tests.yml"))))
    RECORD.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(sys.argv[1])
