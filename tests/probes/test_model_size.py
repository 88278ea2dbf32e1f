"""What a model weighs, by the files that are here."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from monitor.probes.model_size import look, weights_bytes


def write(file: Path, size: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))


def test_a_folder_by_its_index_and_by_its_files(tmp_path: Path) -> None:
    write(tmp_path / "model-00001-of-00002.safetensors", 30)
    write(tmp_path / "model-00002-of-00002.safetensors", 12)
    write(tmp_path / "consolidated.safetensors", 42)
    assert weights_bytes(str(tmp_path)) == 42, "the same weights in another form count once"
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1234}}))
    assert weights_bytes(str(tmp_path)) == 1234
    index.write_text("{}")
    assert weights_bytes(str(tmp_path)) == 42
    assert asyncio.run(look(str(tmp_path))) == 42


def test_a_cache_by_the_models_name(tmp_path: Path) -> None:
    write(tmp_path / "b" / "models--org--name" / "snapshots" / "abc" / "model.safetensors", 7)
    caches = (str(tmp_path / "a"), str(tmp_path / "b"))
    assert weights_bytes("org/name", caches) == 7
    assert weights_bytes("org/other", caches) is None
    assert weights_bytes("../name", caches) is None


def test_without_a_thread_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    write(tmp_path / "pytorch_model.bin", 5)
    monkeypatch.setattr(threading.Thread, "start", none)
    assert asyncio.run(look(str(tmp_path))) is None


def test_what_is_not_here_is_not_known(tmp_path: Path) -> None:
    assert weights_bytes(str(tmp_path)) is None
    assert weights_bytes(str(tmp_path / "none")) is None
    assert weights_bytes("llama") is None
    assert weights_bytes("") is None
    write(tmp_path / "pytorch_model.bin", 5)
    assert weights_bytes(str(tmp_path)) == 5
