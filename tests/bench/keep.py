"""Keeps what a run of the benchmark found, in docs/weight.json, and writes docs/weight.md from that.

    python -m tests.bench --keep                  # a run, and what changed in it
    python -m tests.bench.keep [--gpus FILE]      # the page anew, with what tests.gpu.weigh --json wrote
    python -m tests.bench.keep [--soak FILE]      # the same, with what tests.bench.soak wrote

A run is kept with its commit, day and machine, and of its rows those that are further from the last one of the same
machine than the noise of both. In the page, what stands between two marks is written from the file; the rest is by
hand, and stays.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.marks import PAGE, commit, machine, replaced, table
from tests.bench.slopes import Soaked, exponent
from tests.bench.slopes import read as read_soak
from tests.bench.table import NOT_JUDGED, Row, written

KEPT = PAGE.with_suffix(".json")


def read(path: Path | None = None) -> dict[str, Any]:
    """All that is kept: ``runs``, oldest first, ``gpus`` and ``soak``."""
    path = path or KEPT
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": [], "gpus": None, "soak": None}
    return found


def as_kept(row: Row) -> dict[str, Any]:
    """A row as the file has it."""
    return {
        "name": row.name,
        "what": row.what,
        "unit": row.unit,
        "ours": _short(row.value),
        "noise": _short(row.noise),
        "judged": None if row.judged is None else _short(row.judged),
        "peers": {name: _short(statistics.median(each)) for name, each in row.peers.items()},
        "aim": row.aim,
        "verdict": row.verdict,
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def changed(kept: Mapping[str, Any], rows: Sequence[Row], on: str) -> list[dict[str, Any]]:
    """The rows that are not what they were on this machine, or are new, or meet an aim that they missed, or miss it."""
    last = {row["name"]: row for run in kept["runs"] if run["machine"] == on for row in run["rows"]}
    out = []
    for row in rows:
        before = last.get(row.name)
        if (
            before is None
            or abs(row.value - before["ours"]) > row.noise + before["noise"]
            or (row.verdict != before["verdict"] and row.verdict != NOT_JUDGED)
        ):
            out.append(as_kept(row))
    return out


def keep(rows: Sequence[Row], *, quick: bool = False) -> str:
    """Keep a run and write the page: what was done, in words. A quick run is kept as such."""
    kept, on = read(), machine()
    new = changed(kept, rows, on)
    if not new:
        return "nothing changed beyond the noise: nothing kept"
    run = {"commit": commit(), "date": datetime.now(UTC).strftime("%Y-%m-%d"), "machine": on, "rows": new}
    kept["runs"].append({**run, "quick": True} if quick else run)
    save(kept)
    return f"{len(new)} of {len(rows)} rows changed and were kept: {', '.join(row['name'] for row in new)}"


def keep_soak(found: Soaked) -> None:
    """Keep what a soak found, and write the page."""
    kept = read()
    kept["soak"] = {"measured": found.measured, "hours": round(found.hours, 1), "rows": found.rows()}
    save(kept)


def save(kept: Mapping[str, Any]) -> None:
    """Write the file and the page."""
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    if PAGE.exists():
        PAGE.write_text(page(PAGE.read_text(), kept))


# -- the page ----------------------------------------------------------------------------------------------------------


def page(text: str, kept: Mapping[str, Any]) -> str:
    """The page with its tables written anew. Raises ``ValueError`` where a mark is missing."""
    made = {"now": _now(kept), "history": _history(kept), "gpus": _gpus(kept["gpus"]), "soak": _soak(kept["soak"])}
    for name, each in made.items():
        text = replaced(text, name, each)
    return text


def latest(kept: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The last row of each name on the machine of the last run, and the run that it was kept in, in the file's order
    of first appearance."""
    if not kept["runs"]:
        return {}
    on = kept["runs"][-1]["machine"]
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for run in kept["runs"]:
        if run["machine"] == on:
            for row in run["rows"]:
                found[row["name"]] = (row, run)
    return found


def _texts(row: Mapping[str, Any]) -> tuple[str, str]:
    ours = written(row["ours"], row["unit"])
    if row["judged"] is not None:
        ours += f", worst {written(row['judged'], row['unit'])}"
    return ours, "; ".join(f"{name} {written(value, row['unit'])}" for name, value in row["peers"].items())


def _now(kept: Mapping[str, Any]) -> str:
    found = latest(kept)
    if not found:
        return "Nothing is kept yet."
    rows = []
    for row, run in found.values():
        ours, beside = _texts(row)
        verdict = f"**{row['verdict']}**" if row["verdict"] == "missed" else row["verdict"]
        rows.append((row["what"], ours, beside, row["aim"], verdict, run["commit"]))
    judged = [row["verdict"] for row, _ in found.values() if row["verdict"]]
    unknown = f", {judged.count(NOT_JUDGED)} cannot be judged" if NOT_JUDGED in judged else ""
    said = f"{judged.count('met')} of {len(judged)} aims are met{unknown}. On {kept['runs'][-1]['machine']}."
    return f"{said}\n\n" + table(("what", "gpumon", "beside", "aim", "", "commit"), rows)


def _history(kept: Mapping[str, Any]) -> str:
    rows = []
    for run in kept["runs"]:
        quick = ", quick" if run.get("quick") else ""
        for row in run["rows"]:
            ours, beside = _texts(row)
            rows.append((run["commit"], run["date"] + quick, row["what"], ours, beside, row["verdict"]))
    if not rows:
        return "Nothing is kept yet."
    return table(("commit", "day", "what", "gpumon", "beside", "aim"), rows)


def _gpus(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "Nothing is kept yet."
    rows = []
    for row in found["programs"]:
        if row["what"] == "nothing":
            continue
        looks = row["poll_ms"]
        look = f"{statistics.median(looks):.1f} ms, worst {max(looks):.1f} ms" if looks else ""
        cpu = "" if row["cpu"] is None else f"{row['cpu']:.2f} %"
        rows.append((row["what"], cpu, "" if row["pss"] is None else f"{row['pss']:.0f} MiB", look))
    costs = [
        (name, *(f"{statistics.median(each):+.2f} % ({min(each):+.2f} to {max(each):+.2f})" for each in parts))
        for name, parts in found["cost"].items()
        if name != "without"
    ]
    grown = [
        (name, *(f"{float(ms):.2f} ms" for ms in points.values()), _exponent(points))
        for name, points in found["growth"].items()
    ]
    counts: Mapping[str, float] = next(iter(found["growth"].values()), {})
    parts = [f"On {found['machine']}.", table(("", "CPU of a core", "memory (PSS)", "one look"), rows)]
    if costs:
        parts.append(table(("polling by", "matrix products a second", "short kernels a second"), costs))
    if grown:
        head = (
            "one poll",
            *(f"{count} GPU{'s' if int(count) > 1 else ''}" for count in counts),
            "grows with the power",
        )
        parts.append(table(head, grown))
    return "\n\n".join(parts)


def _soak(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "Nothing is kept yet."
    head = (f"{found['hours']} hours of the node", "in each fifth", "a node hour", "", "a node hour, last third", "")
    return f"{found['measured']}\n\n{table(head, found['rows'])}"


def _exponent(points: Mapping[str, float]) -> str:
    known = {int(count): float(ms) for count, ms in points.items() if float(ms) > 0}
    found = exponent(list(known), list(known.values()))
    return f"{found:.2f}" if math.isfinite(found) else ""


def main() -> int:
    """Write the page anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gpus", type=Path, metavar="FILE", help="what tests.gpu.weigh --json wrote")
    parser.add_argument("--soak", type=Path, metavar="FILE", help="what tests.bench.soak wrote")
    options = parser.parse_args()
    if options.soak is not None:
        keep_soak(read_soak(options.soak))
    kept = read()
    if options.gpus is not None:
        kept["gpus"] = _without_each_poll(json.loads(options.gpus.read_text()))
    save(kept)
    return 0


def _without_each_poll(found: dict[str, Any]) -> dict[str, Any]:
    """The same, with the quickest, the median and the slowest of each row's polls."""
    for row in found["programs"]:
        looks = row["poll_ms"]
        row["poll_ms"] = [round(of(looks), 3) for of in (min, statistics.median, max)] if looks else []
    return found


if __name__ == "__main__":
    sys.exit(main())
