"""Makes the picture of docs/report.md anew: ``python -m tests.reporting.pictures REPORT.json``, of a report as
`gpumon report --json` writes it, by Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from monitor.reporting.html import html
from monitor.reporting.schema import Report

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "report.png"


def main(path: str) -> None:
    """Draw it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium here: install the package chromium, and run this again")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(html(msgspec.json.decode(Path(path).read_bytes(), type=Report)), encoding="utf-8")
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1080,1500")
        subprocess.run(
            [chromium, *flags, f"--screenshot={PICTURE}", page.as_uri()], check=True, capture_output=True, timeout=60
        )
    from PIL import Image

    with Image.open(PICTURE) as image:
        image.convert("RGB").quantize(64).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
