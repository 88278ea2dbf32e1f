"""Makes docs/pictures/tui/*.png anew: ``python -m tests.tui.pictures [FOLDER]``. Takes six minutes.

Simulated nodes run into the demo's trouble, and the real program shows them in pseudo-terminals of three sizes, dark
and light. What these terminals hold is drawn here, with DejaVu Sans Mono; braille and blocks dot by dot.
"""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from PIL import Image, ImageDraw, ImageFont

from monitor.client.probing import Probing
from monitor.probes.schema import Slo, Spec
from monitor.rules.rule_file import default_rules_path
from tests.daemons import RunningDaemon, daemon
from tests.tui.pty.terminal import Terminal, terminal, tui

FOLDER = Path(__file__).parents[2] / "docs" / "pictures" / "tui"
LIMIT = 60_000
SIZES = ((80, 24), (120, 40), (200, 50))
SPEED = 6
TROUBLE = 'ALERTS{alertname="GpuTooHot",alertstate="firing"}'

SCREENS: Mapping[str, Sequence[str]] = {
    "overview": ("1",),
    "gpus": ("2",),
    "gpu": (":", *"GPU 3", "enter"),
    "vllm": ("3",),
    "server": (":", *"server", "enter"),
    "alerts": ("4", "g"),
    "runbook": ("4", "g", "r"),
    "rules": ("4", "R"),
    "silences": ("4", "S"),
    "processes": ("5",),
    "host": ("6",),
    "events": ("7",),
    "probes": ("8",),
    "probe-choose": ("8", "n"),
    "probe-new": ("8", "n", *"throughput", "enter"),
    "probe-running": ("8", "g", "enter"),
    "probe-result": ("8", "g", "down", "enter"),
    "probe-compare": ("8", "g", "down", "space", "down", "c"),
    "past": ("1", "shift+left"),
    "help": ("l", "1", "?"),
    "palette": ("l", "1", ":"),
}
"""Pictures by name, and the keys that lead to them."""

_SANS = Path("/usr/share/fonts/truetype/dejavu")
_DARK = {"fg": "#d4d4d4", "bg": "#101418"}
_LIGHT = {"fg": "#24292f", "bg": "#ffffff"}
_NAMED = {
    "black": "#000000",
    "red": "#cd3131",
    "green": "#0dbc79",
    "brown": "#e5e510",
    "blue": "#2472c8",
    "magenta": "#bc3fbc",
    "cyan": "#11a8cd",
    "white": "#e5e5e5",
}
_BRAILLE = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
"""Column and row of each dot, by its bit."""
_EIGHTHS = "▁▂▃▄▅▆▇█"
_LEFT = "▏▎▍▌▋▊▉█"


class Painter:
    """Draws a terminal's screen, ``cell`` pixels a character."""

    def __init__(self, colours: Mapping[str, str], cell: tuple[int, int]) -> None:
        self._colours = colours
        self._cell = cell
        size = cell[0] / 0.602  # what a character of DejaVu Sans Mono is wide
        try:
            self._plain = ImageFont.truetype(_SANS / "DejaVuSansMono.ttf", size)
            self._bold = ImageFont.truetype(_SANS / "DejaVuSansMono-Bold.ttf", size)
        except OSError:
            raise SystemExit("there is no DejaVu Sans Mono here: install the package fonts-dejavu-core") from None

    def picture(self, shown: Terminal) -> Image.Image:
        """The screen, with a small margin."""
        columns, lines = shown.screen.columns, shown.screen.lines
        wide, high = self._cell
        margin = wide
        image = Image.new("RGB", (columns * wide + 2 * margin, lines * high + 2 * margin), self._colours["bg"])
        draw = ImageDraw.Draw(image)
        for y in range(lines):
            for x in range(columns):
                char = shown.screen.buffer[y][x]
                fg, bg = self._colour(char.fg, "fg"), self._colour(char.bg, "bg")
                if char.reverse:
                    fg, bg = bg, fg
                at = (margin + x * wide, margin + y * high)
                if bg != self._colours["bg"]:
                    draw.rectangle((*at, at[0] + wide - 1, at[1] + high - 1), fill=bg)
                if char.data.strip():
                    self._char(draw, at, char.data, fg, bold=char.bold)
                if char.underscore:
                    draw.line((at[0], at[1] + high - 2, at[0] + wide - 1, at[1] + high - 2), fill=fg)
        return image

    def _colour(self, name: str, kind: str) -> str:
        if name == "default":
            return self._colours[kind]
        plain = name.removeprefix("bright")
        return _NAMED.get(plain, f"#{name}")

    def _char(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], char: str, colour: str, *, bold: bool) -> None:
        wide, high = self._cell
        x, y = at
        code = ord(char[0]) - 0x2800
        if 0 <= code < 256:
            for bit, (column, row) in enumerate(_BRAILLE):
                if code >> bit & 1:
                    left, top = x + (2 * column + 1) * wide / 4, y + (2 * row + 1) * high / 8
                    radius = wide / 7
                    draw.ellipse((left - radius, top - radius, left + radius, top + radius), fill=colour)
        elif char in _EIGHTHS:
            part = (_EIGHTHS.index(char) + 1) / 8
            draw.rectangle((x, y + round(high * (1 - part)), x + wide - 1, y + high - 1), fill=colour)
        elif char in _LEFT:
            part = (_LEFT.index(char) + 1) / 8
            draw.rectangle((x, y, x + max(1, round(wide * part)) - 1, y + high - 1), fill=colour)
        else:
            draw.text((x, y + high * 0.78), char, fill=colour, font=self._bold if bold else self._plain, anchor="ls")


def save(image: Image.Image, file: Path) -> None:
    """As small as it gets with as many colours as fit."""
    for colours in (48, 24, 16):
        out = io.BytesIO()
        image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            out, "PNG", optimize=True
        )
        if len(out.getvalue()) < LIMIT:
            file.write_bytes(out.getvalue())
            return
    raise SystemExit(f"{file.name} has {len(out.getvalue())} bytes")


def wait_for_trouble(node: RunningDaemon) -> None:
    """Wait until the demo's story has come to what is to be seen."""
    limit = time.monotonic() + 240
    while time.monotonic() < limit:
        try:
            if node.query(TROUBLE):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit("nothing fired")


def run_all(panes: Sequence[Terminal], seconds: float) -> None:
    """Let every terminal run for so long."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        for one in panes:
            one.pump(0.01)


async def probe(url: str, *, kept: Sequence[str] = (), seconds: float = 1) -> None:
    """Have a sweep done and kept for each name; and without any begin one, whose steps take so many seconds."""
    probing = Probing(url)
    server = (await probing.listing()).servers[0].server
    options = {"max": 32, "min_seconds": seconds, "factor": 3, "stop": False}
    slos = (Slo("ttft", 200.0), Slo("itl", 20.0))
    for name in kept or ("",):
        row = await probing.start(
            Spec("throughput", "", server, name=name, options=options, slos=slos, yes=True, seed=7)
        )
        if kept:
            async for one in probing.watch(row.id):
                row = one.row
            if row.state != "done":
                raise SystemExit(f"the probe {name} is {row.state}: {row.error}")
    if kept:
        first = next(one for one in (await probing.listing()).runs if one.name == kept[0])
        await probing.baseline(first.id, kept[0])
    await probing.close()


def nodes(stack: ExitStack, folder: Path) -> Iterator[RunningDaemon]:
    """Three nodes, of which the first is looked at closely."""
    for number, more in ((7, ("--speed", str(SPEED))), (8, ()), (9, ())):
        own = folder / f"h200-{number:02}"
        own.mkdir()
        config = own / "gpumon.yaml"
        rules = own / "alerts.yaml"  # so that no path of this checkout is in a picture
        shutil.copy(default_rules_path(), rules)
        node = f'node: {{hostname: h200-{number:02}, instance: "h200-{number:02}:9519"}}'
        config.write_text(f"{node}\nalerting: {{rule_files: [{rules}]}}\n")
        options = ("--simulate", "--past", "3600", "--config", str(config), *more)
        yield stack.enter_context(daemon(own, *options))


def main() -> None:
    """Make all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpumon-")))
        fleet = list(nodes(stack, place))
        urls = [f"unix:{one.socket}" for one in fleet]
        wait_for_trouble(fleet[0])
        silence = ["silence", "add", "GpuStraggler", "gpu=3", "--for", "2h", "--comment", "the fan is being replaced"]
        subprocess.run([sys.executable, "-m", "monitor", *silence, "--url", urls[0]], check=True, timeout=30)
        asyncio.run(probe(urls[0], kept=("before", "after")))
        shown: dict[str, list[tuple[Terminal, Painter, str]]] = {"node": [], "fleet": []}
        for columns, lines in SIZES:
            cell = (10, 20) if columns == 80 else (8, 16)
            for theme, colours, fgbg in (("dark", _DARK, "15;0"), ("light", _LIGHT, "0;15")):
                for what, first in (
                    ("node", tui(urls[0])),
                    ("fleet", tui(urls[0], "--url", urls[1], "--url", urls[2])),
                ):
                    home = place / f"{columns}-{theme}-{what}"
                    home.mkdir()
                    env = {"HOME": str(home), "XDG_STATE_HOME": str(home), "COLORFGBG": fgbg, "COLORTERM": "truecolor"}
                    one = stack.enter_context(terminal(first, (columns, lines), env=env))
                    one.see("util")
                    shown[what].append((one, Painter(colours, cell), f"{columns}x{lines}-{theme}.png"))
        panes = [one for one, _, _ in shown["node"]]
        for name, keys in SCREENS.items():
            if name == "probe-choose":  # it goes on until the picture of it is taken
                asyncio.run(probe(urls[0], seconds=15))
                run_all(panes, 50)
            for key in keys:
                for one in panes:
                    one.press(key)
                run_all(panes, 0.3)
            run_all(panes, 3)
            limit = time.monotonic() + 30
            while any(re.search("(reading|comparing) …", one.text) for one in panes) and time.monotonic() < limit:
                run_all(panes, 0.5)
            _take(shown["node"], name, folder)
            for one in panes:
                one.press("escape")
            run_all(panes, 0.5)
            if name == "probe-compare":
                for one in panes:
                    one.press("escape")
        run_all([one for one, _, _ in shown["fleet"]], 3)
        _take(shown["fleet"], "fleet", folder)


def _take(shown: Sequence[tuple[Terminal, Painter, str]], name: str, folder: Path) -> None:
    for one, painter, end in shown:
        save(painter.picture(one), folder / f"{name}-{end}")
    print(name, flush=True)


if __name__ == "__main__":
    main()
