"""Pictures of a probe's report for the docs, in a real Chromium: ``python -m tests.probes.pictures [FOLDER]``.

The numbers are made up (``tests.probes.made_results``)."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import tempfile
from pathlib import Path

import msgspec
from PIL import Image

from monitor.probes import report_html
from monitor.probes.headline import headline
from tests.live.browser import page
from tests.probes.made_results import made

_FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
_WIDTH, _HEIGHT = 1400, 1450


async def draw(folder: Path) -> list[Path]:
    """The top of a report, light and dark."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "report.html"
        result = made("throughput")
        result = msgspec.structs.replace(result, headline=headline("throughput", result.steps))
        source.write_text(report_html.report(result))
        async with page(_WIDTH, _HEIGHT) as one:
            for scheme in ("light", "dark"):
                await one.call(
                    "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
                )
                await one.open(source.as_uri())
                await one.ask("new Promise(done => document.readyState == 'complete' ? done() : onload = done)")
                clip = {"x": 0, "y": 0, "width": _WIDTH, "height": _HEIGHT, "scale": 1}
                shot = await one.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
                path = folder / f"probe-report-{scheme}.png"
                seen = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
                seen.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
                found.append(path)
    return found


if __name__ == "__main__":
    for drawn in asyncio.run(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else _FOLDER)):
        print(drawn)
