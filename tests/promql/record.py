"""Records what Prometheus answers, for the tests that have none: ``python -m tests.promql.record`` writes
``promtool_answers.json``, with the promtool that the live tier installs.

Each function and aggregation alone and random expressions, over random series; and broken texts with the words and the
place of the refusal. Kept are answers that are not decided by chance, nor too long, and refusals whose words are ours:
what may differ is for the live tier, which asks tens of thousands."""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from monitor.promql.errors import PromQLError
from monitor.promql.plan import plan
from monitor.samples import is_stale
from tests.live.install_prometheus import prometheus_bin
from tests.promql.broken import Broken
from tests.promql.generate import COUNT, STEP_MS, Expressions, Made, make_series
from tests.promql.promtool import Outcome, ask, verdicts
from tests.promql.same import CHAOTIC, FORGETFUL, MISPLACED, catalogue, ours, same

RECORD = Path(__file__).with_name("promtool_answers.json")
_SEED = 9
_TIMES = (45_000, 615_000, 1_400_000)
_RANDOM = 1500
_BROKEN = 6000
_ROWS = 6
"""The longest answer kept."""
_ALIKE = 4
"""So many refusals of one kind: the same words but for what is quoted."""


def main() -> int:
    """Write the file. Raises ``AssertionError`` where an answer that should be ours is not."""
    promtool = str(prometheus_bin() / "promtool")
    rng = random.Random(_SEED)
    series = make_series(rng)
    make = Expressions(rng)
    queries = [(expr, at_ms) for expr in catalogue() for at_ms in _TIMES]
    queries += [(make.any(rng.choice((1, 2, 2, 3))), rng.randrange(COUNT * STEP_MS + 400_000)) for _ in range(_RANDOM)]
    with tempfile.TemporaryDirectory() as folder:
        first, again = (ask(promtool, series, queries, Path(folder)) for _ in range(2))
        broken = Broken(rng)
        texts = list(dict.fromkeys(broken.one()[0] for _ in range(_BROKEN)))
        told = verdicts(promtool, texts, Path(folder))
    answers: list[list[object]] = []
    for (expr, at_ms), theirs, second, mine in zip(queries, first, again, ours(series, queries), strict=True):
        if not (_kept(expr, theirs) and same(theirs, second, expr)):
            continue
        assert same(theirs, mine, expr), (expr, at_ms, theirs, mine)
        answers.append([expr, at_ms, theirs if isinstance(theirs, str) else [[k, v] for k, v in theirs.items()]])
    refusals: list[list[object]] = []
    kinds: Counter[str] = Counter()
    for text, theirs_told in zip(texts, told, strict=True):
        if theirs_told is None or theirs_told != _refusal(text):
            continue
        kind = re.sub(r'"[^"]*"|\d+', "", theirs_told)
        kinds[kind] += 1
        if kinds[kind] <= _ALIKE and len(text) < 200:
            refusals.append([text, theirs_told])
    rows: dict[str, list[list[object]]] = {
        "series": [_written(one) for one in series],
        "answers": answers,
        "refusals": refusals,
    }
    # A row a line: what a new promtool answers differently shows in the diff.
    parts = [f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in part) + "\n]" for name, part in rows.items()]
    RECORD.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")
    print(f"{RECORD}: {len(answers)} answers of {len(queries)}, {len(refusals)} refusals of {len(texts)}")
    return 0


def _kept(expr: str, theirs: Outcome) -> bool:
    if isinstance(theirs, str):
        return "too many samples" not in theirs and "unexpected all postings" not in theirs
    return len(theirs) <= _ROWS and not any(odd.search(expr) for odd in (CHAOTIC, FORGETFUL, MISPLACED))


def _refusal(text: str) -> str | None:
    try:
        plan(text)
    except PromQLError as error:
        return str(error)
    return None


def _written(one: Made) -> list[object]:
    return [one.labels, ["stale" if v is not None and is_stale(v) else v for v in one.values]]


if __name__ == "__main__":
    sys.exit(main())
