"""``gpumon tui --web`` in a real browser."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyte
import pytest
from PIL import Image

from tests.daemons import daemon
from tests.live.browser import page
from tests.live.servers import free_port

pytestmark = pytest.mark.live


def text(received: bytes) -> str:
    """What a terminal shows that was sent this."""
    screen = pyte.Screen(240, 80)
    pyte.ByteStream(screen).feed(re.sub(rb"\x1b\[[<>=?][0-9;]*(?:u|\$p)|\x1b\][^\x07]*\x07", b"", received))
    return "\n".join(screen.display)


def test_a_browser_shows_the_node_and_takes_keys(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"

    async def look(url: str) -> None:
        async with page() as one:
            await one.open(url)
            await one.wait(lambda: "°C" in text(bytes(one.received)), "the overview")
            seen = Image.open(io.BytesIO(await one.picture())).convert("RGB")
            assert len(seen.getcolors(1 << 24) or ()) > 50, "the page is drawn"
            await one.focus("textarea")
            await one.press("4")
            await one.wait(lambda: "severity" in text(bytes(one.received)), "the alerts")
            assert {re.sub(r"/.*", "", re.sub(r"^\w+://", "", asked)) for asked in one.elsewhere} == {listen}

    with daemon(tmp_path, "--simulate", "--past", "60") as node:
        command = [sys.executable, "-m", "monitor", "tui", "--url", f"unix:{node.socket}", "--web", "--listen", listen]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                told = re.search(r"http://\S+", process.stdout.readline())
                assert told is not None
                asyncio.run(look(told[0]))
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)
        assert process.returncode == 0
