"""Where a config.json comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitor.planning.fetch import load
from monitor.planning.model import BadModel
from tests.planning.serving import serving
from tests.planning.test_model import LLAMA

CONFIG = json.dumps(LLAMA)


def test_a_folder_with_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "Llama-3.1-8B"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    assert load(str(folder)).bytes_of()[1] is False
    (folder / "model-00001.safetensors").write_bytes(b"12345678")
    (folder / "model-00002.safetensors").write_bytes(b"1234")
    assert load(str(folder)).weights_bytes == 12
    (folder / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 16060522496}}')
    model = load(str(folder / "config.json"))
    assert (model.name, model.weights_bytes) == ("Llama-3.1-8B", 16060522496)


@pytest.mark.parametrize("size", ["1e400", "-Infinity", "NaN", "0", '"much"', str(1 << 61)])
def test_an_index_with_no_size_leaves_it_to_be_reckoned(tmp_path: Path, size: str) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"metadata": {{"total_size": {size}}}}}')
    assert load(str(tmp_path)).weights_bytes is None


def test_a_file_of_another_name_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(CONFIG)
    assert load(str(tmp_path / "mine.json")).name == "mine"


def test_a_url_of_a_folder_or_its_config() -> None:
    answers = {
        "/org/model/resolve/main/config.json": CONFIG.encode(),
        "/org/model/resolve/main/model.safetensors.index.json": b'{"metadata": {"total_size": 77}}',
        "/alone/config.json": CONFIG.encode(),
    }
    with serving(answers) as url:
        assert load(f"{url}/org/model/resolve/main").weights_bytes == 77
        found = load(f"{url}/alone/config.json")
        assert (found.name, found.weights_bytes) == ("alone", None)
        with pytest.raises(BadModel, match="HTTP 404: is there such a model"):
            load(f"{url}/nothing")


def test_a_name_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/org/m-8B/resolve/main/config.json": CONFIG.encode()}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "hf_x")
        assert load("org/m-8B").name == "org/m-8B"
    with pytest.raises(BadModel, match=r"cannot be had: .*Give its config.json as a file"):
        load("org/m-8B")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"hidden_size": 4096,\n oops}', r"config.json:2:2: no JSON"),
        ("[]", "config.json: config.json is no object"),
        ("{}", 'no "num_hidden_layers"'),
        ("[" * 100_000, "nested too deep"),
        ('{"num_hidden_layers": 99999999999, "hidden_size": 1}', 'config.json: "num_hidden_layers" of its config.json'),
        ('{"num_hidden_layers": ' + "9" * 5000 + "}", "a number in it has thousands of digits"),
    ],
)
def test_a_bad_file_says_where(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadModel, match=words):
        load(str(tmp_path))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="there is no such file or folder"):
        load(str(tmp_path / "nothing.json"))
    with pytest.raises(BadModel, match="cannot be read"):
        load(str(tmp_path))
