"""Where a model's ``config.json`` comes from: a file, a folder, a URL, or a model's name on a hub.

Beside it lies what its weights weigh: ``model.safetensors.index.json``, or the files themselves.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from monitor.planning.model import BadModel, Model, read_model

HUB = "https://huggingface.co"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_INDEX = "model.safetensors.index.json"
_MOST = 16 << 20
_MOST_WEIGHTS = 1 << 60
"""Bytes: an index that says more, or infinity, is wrong, and then they are reckoned."""


def load(where: str, *, timeout: float = 20.0) -> Model:
    """The model at ``where``: a path, an http(s) URL of a ``config.json`` or of the folder that it is in, or
    ``org/name`` on the hub (``$HF_ENDPOINT``, with ``$HF_TOKEN`` for gated ones). Raises ``BadModel``."""
    if where.startswith(("http://", "https://")):
        return _from_url(where, where, timeout, {})
    path = Path(os.path.expanduser(where))
    if path.exists():
        return _from_path(path)
    if not _NAME.fullmatch(where) or where.endswith(".json"):
        raise BadModel(f"{where}: there is no such file or folder")
    hub = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return _from_url(f"{hub}/{where}/resolve/main/config.json", where, timeout, headers)


def _from_path(path: Path) -> Model:
    file = path / "config.json" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadModel(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    called = file.resolve().parent.name if file.name == "config.json" else file.stem
    return _read(str(file), text, called, _weights_in(file.parent) if file.name == "config.json" else None)


def _weights_in(folder: Path) -> int | None:
    """Bytes of the weights that lie there; None where there are none."""
    index = folder / _INDEX
    try:
        if index.is_file():
            return _total(index.read_text(encoding="utf-8"))
        sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    except (OSError, UnicodeDecodeError):
        return None  # then they are reckoned, and it says so
    return sum(sizes) or None


def _total(text: str) -> int | None:
    try:
        found = json.loads(text)["metadata"]["total_size"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return int(found) if isinstance(found, (int, float)) and 0 < found <= _MOST_WEIGHTS else None


def _from_url(url: str, name: str, timeout: float, headers: dict[str, str]) -> Model:
    if not urlsplit(url).path.endswith(".json"):
        url = url.rstrip("/") + "/config.json"
    with httpx.Client(timeout=timeout, headers=headers, follow_redirects=True) as client:
        text = _get(client, url, name)
        try:
            index = _get(client, url[: url.rindex("/") + 1] + _INDEX, name)
        except BadModel:
            index = ""  # a model of one file has none: then its weights are reckoned
    if name.startswith("http"):
        name = url.split("/")[-2] or name
    return _read(url, text, name, _total(index))


def _get(client: httpx.Client, url: str, name: str) -> str:
    try:
        with client.stream("GET", url) as response:
            if response.status_code in (401, 403):
                raise BadModel(
                    f"{url}: HTTP {response.status_code}. Is {name} spelt right? One that asks for consent needs "
                    "$HF_TOKEN; else give its config.json as a file"
                )
            if response.status_code != 200:
                raise BadModel(f"{url}: HTTP {response.status_code}: is there such a model, with a config.json?")
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MOST:
                    raise BadModel(f"{url} has more than {_MOST >> 20} MiB: that is no config.json")
            return body.decode("utf-8", "replace")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadModel(
            f"{url} cannot be had: {str(error) or type(error).__name__}. Give its config.json as a file"
        ) from None


def _read(where: str, text: str, name: str, weights: int | None) -> Model:
    try:
        found: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadModel(f"{where}:{error.lineno}:{error.colno}: no JSON: {error.msg}") from None
    except RecursionError:
        raise BadModel(f"{where}: no JSON that can be read: it is nested too deep") from None
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise BadModel(f"{where}: no JSON that can be read: a number in it has thousands of digits") from None
    try:
        return read_model(found, name, weights)
    except BadModel as error:
        raise BadModel(f"{where}: {error}") from None
