"""What a model's weights weigh, by the files on this machine: in the folder that the server was given, or in a cache of
Hugging Face's. Looking may hang on a dead network mount, so it is done in a thread that nobody waits for long."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from monitor import threads
from monitor.sources.host import default_model_caches

PATIENCE_S = 2.0
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_INDEX = "model.safetensors.index.json"
_MOST_INDEX = 64 << 20


def weights_bytes(model: str, caches: Sequence[str] = ()) -> int | None:
    """Bytes of the weights of a model: ``model`` is a folder, or ``org/name``; None where they are not here. Blocking,
    raises nothing."""
    try:
        if os.path.isabs(model):
            return _in_folder(Path(model))
        if _NAME.fullmatch(model):
            for cache in caches:
                kept = Path(cache) / f"models--{model.replace('/', '--')}" / "snapshots"
                found = [size for folder in _newest_first(kept) if (size := _in_folder(folder))]
                if found:
                    return found[0]
    except OSError:
        return None  # what may not be seen is not here
    return None


def _newest_first(snapshots: Path) -> list[Path]:
    if not snapshots.is_dir():
        return []
    return sorted((one for one in snapshots.iterdir() if one.is_dir()), key=lambda one: -one.stat().st_mtime)


def _in_folder(folder: Path) -> int | None:
    index = folder / _INDEX
    if index.is_file() and index.stat().st_size <= _MOST_INDEX:
        try:
            total = json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"]
        except (ValueError, KeyError, TypeError):
            total = None
        if isinstance(total, (int, float)) and total > 0:
            return int(total)
    for pattern in ("model*.safetensors", "*.safetensors", "pytorch_model*.bin"):
        sizes = [file.stat().st_size for file in folder.glob(pattern)] if folder.is_dir() else []
        if sizes:
            return sum(sizes)
    return None


async def look(model: str, patience_s: float = PATIENCE_S) -> int | None:
    """The same, for no longer than ``patience_s``."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[int | None] = loop.create_future()

    def settle(size: int | None) -> None:
        if not found.done():
            found.set_result(size)

    def work() -> None:
        size = weights_bytes(model, default_model_caches())
        try:
            loop.call_soon_threadsafe(settle, size)
        except RuntimeError:
            return  # the loop has ended meanwhile: nobody wants to know

    try:
        threads.start(work, "model size")
    except OSError:  # the size is a reading among others: the run goes on without it
        return None
    done, _ = await asyncio.wait({found}, timeout=patience_s)
    return found.result() if done else None
