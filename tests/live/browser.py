"""A real Chromium, over its DevTools protocol: a page is opened, keys are typed, and what came to it is kept."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_PATIENCE = 30.0


class Page:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.received = bytearray()
        """What came to it over web sockets."""
        self.elsewhere: list[str] = []
        """Every address that it asked for."""
        self.problems: list[str] = []
        """What stands in its console: errors, warnings, what a policy forbade."""

    async def listen(self) -> None:
        """Take what the browser tells, until it ends."""
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told.get("result"))
            elif told["method"] == "Network.webSocketFrameReceived":
                frame = told["params"]["response"]
                if frame["opcode"] == 2:
                    self.received += base64.b64decode(frame["payloadData"])
            elif told["method"] == "Network.requestWillBeSent":
                self.elsewhere.append(told["params"]["request"]["url"])
            elif told["method"] == "Log.entryAdded":
                self.problems.append(told["params"]["entry"]["text"])
            elif told["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.problems.append(json.dumps(told["params"]))

    async def call(self, method: str, **params: object) -> Any:
        """A command of the protocol; its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        return await asyncio.wait_for(answer, _PATIENCE)

    async def open(self, url: str) -> None:
        """Go there."""
        for part in ("Network", "Log", "Runtime", "Page"):
            await self.call(f"{part}.enable")
        await self.call("Page.navigate", url=url)

    async def ask(self, expression: str) -> Any:
        """What an expression of JavaScript gives there."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def focus(self, selector: str) -> None:
        """Let keys go to an element."""
        await self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)}).focus()")

    async def press(self, key: str) -> None:
        """Type a letter."""
        await self.call(
            "Input.dispatchKeyEvent", type="keyDown", key=key, text=key, windowsVirtualKeyCode=ord(key.upper())
        )
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=ord(key.upper()))

    async def wait(self, what: Callable[[], object], words: str) -> None:
        """Wait until something is true."""
        limit = time.monotonic() + _PATIENCE
        while not what():
            assert time.monotonic() < limit, f"waited {_PATIENCE:g} s for {words}"
            await asyncio.sleep(0.1)

    async def picture(self) -> bytes:
        """What it looks like, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def page(width: int = 1400, height: int = 900) -> AsyncIterator[Page]:
    """A page of a Chromium that ends with the block."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        options += [f"--user-data-dir={folder}", f"--window-size={width},{height}", "--disable-background-networking"]
        options += ["--enable-unsafe-swiftshader", "--remote-allow-origins=*", "about:blank"]
        process = subprocess.Popen(  # noqa: ASYNC220
            [chromium, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": folder},
        )
        try:
            async with aiohttp.ClientSession() as session:
                address = await _address(session, Path(folder) / "DevToolsActivePort")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    one = Page(socket)
                    listening = asyncio.create_task(one.listen())
                    yield one
                    listening.cancel()
        finally:
            process.terminate()
            process.wait(20)


async def _address(session: aiohttp.ClientSession, file: Path) -> str:
    limit = time.monotonic() + _PATIENCE
    while True:
        assert time.monotonic() < limit, "Chromium did not start"
        lines = file.read_text().splitlines() if file.exists() else []  # noqa: ASYNC240
        if len(lines) > 1:
            async with session.get(f"http://127.0.0.1:{lines[0]}/json") as response:
                for target in await response.json():
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
        await asyncio.sleep(0.1)
