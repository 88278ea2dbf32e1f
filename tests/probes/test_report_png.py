"""Plots as PNG, with the extra; and what to install without it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from monitor.probes import report_png, results
from monitor.probes.report_charts import charts
from tests.probes.made_results import made


def test_a_picture_for_each_plot(tmp_path: Path) -> None:
    result = made("prefix", few=True)
    names = report_png.draw(result, tmp_path / "plots")
    assert names == tuple(f"{chart.key}.png" for chart in charts(result))
    for name in names:
        with Image.open(tmp_path / "plots" / name) as picture:
            assert picture.size == (1200, 712)
            assert len(picture.convert("RGB").getcolors(1_000_000) or ()) > 20


def test_strangers_names_are_no_formulas(tmp_path: Path) -> None:
    result = made("latency", few=True)
    bad = msgspec.structs.replace(result.steps[0], name=r"$\frac{")
    two = msgspec.structs.replace(result, steps=(bad, *made("throughput", few=True).steps[:1]))
    both = tuple(msgspec.structs.replace(step, workload="latency") for step in two.steps)
    names = report_png.draw(msgspec.structs.replace(two, steps=both), tmp_path)
    assert names == ("cdf-ttft.png", "cdf-itl.png")


def test_with_the_other_files_where_asked_for(tmp_path: Path) -> None:
    names = results.write(tmp_path / "run", made("latency", few=True), png=True)
    assert {"plots/cdf-ttft.png", "plots/cdf-itl.png"} <= set(names)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(report_png.NoMatplotlib, match=r"pip install 'gpumon-node\[report\]'"):
        report_png.draw(made("latency", few=True), tmp_path)
    names = results.write(tmp_path / "run", made("latency", few=True), png=True)
    assert "report.html" in names
    assert not any(name.endswith(".png") for name in names)


def test_only_drawing_loads_it() -> None:
    code = (
        "import sys, monitor.probes.results, monitor.probes.compare, monitor.probes.compare_text, "
        "monitor.probes.report_html, monitor.probes.report_png\n"
        "print([name for name in ('matplotlib', 'numpy', 'aiohttp', 'textual') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
