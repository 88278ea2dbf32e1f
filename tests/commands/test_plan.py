"""``gpumon plan`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monitor.cli import cli
from tests.daemons import daemon, wait_for
from tests.planning.serving import serving
from tests.planning.test_model import LLAMA

RECORDED = Path(__file__).parents[1] / "data/preemption-storm-2.prom"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["plan", *arguments])


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "llama.json").write_text(json.dumps(LLAMA))
    return str(tmp_path / "llama.json")


def test_a_plan_says_what_fits_and_the_flags(model: str) -> None:
    found = run("--model", model, "--gpu", "H100", "--context", "8192", "--concurrency", "16")
    assert found.exit_code == 0, found.output
    assert "8.0 B parameters" in found.output
    assert "one token takes      128.0 KiB" in found.output
    assert "16 at once, of 8,192 tokens each: fits" in found.output
    assert "--max-model-len 8192" in found.output
    assert all(len(line) <= 110 for line in found.output.splitlines())


def test_what_does_not_fit_ends_with_1_and_says_what_would(model: str) -> None:
    found = run("--model", model, "--gpu", "16GiB", "--gpus", "1", "--context", "8192")
    assert found.exit_code == 1
    assert "DOES NOT FIT" in found.output
    assert "--quantization fp8" in found.output


def test_json_has_the_same_numbers(model: str) -> None:
    found = json.loads(run("--model", model, "--kv-memory", "1GiB", "--context", "8192", "--json").stdout)
    assert found["plan"]["fit"]["kv"]["tokens"] == 8192
    assert found["plan"]["token_bytes"] == 131072
    assert "--max-model-len 8192" in found["plan"]["flags"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "name a model with --model"),
        (["--model", "nowhere.json"], 1, "there is no such file or folder"),
        (["--model", "MODEL", "--gpu", "Voodoo2"], 1, '"Voodoo2" is no GPU'),
        (["--model", "MODEL", "--kv-memory", "much"], 1, '"much" is no size'),
        (["--model", "MODEL", "--gpu", "H100", "--kv-cache-dtype", "fp3"], 1, '"fp3" is no dtype'),
        (["--model", "MODEL", "--gpu", "H100", "--quantization", "zip"], 1, '"zip" is no quantization'),
        (["--model", "MODEL", "--gpu", "H100", "--tensor-parallel", "3"], 1, "cannot be shared out over 3"),
        (["--model", "MODEL", "--gpu", "H100", "--context", "0"], 2, "--context"),
        (["--server", "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
        (["--server", "n:8000", "--window", "soon"], 1, '"soon" is no duration'),
        (["--server", 'n"}', "--url", "http://127.0.0.1:1"], 1, "is no server's name"),
    ],
)
def test_bad_words_are_answered_in_a_sentence(model: str, arguments: list[str], code: int, words: str) -> None:
    found = run(*[model if one == "MODEL" else one for one in arguments])
    assert found.exit_code == code, found.output
    assert words in found.output
    assert "Traceback" not in found.output


def test_a_running_server_is_read_by_its_metrics() -> None:
    models = b'{"data": [{"id": "tiny", "max_model_len": 1024}]}'
    with serving({"/metrics": RECORDED.read_bytes(), "/v1/models": models}) as url:
        found = run("--server", url)
    assert found.exit_code == 0, found.output
    assert "2,048 tokens, 64 blocks of 32" in found.output
    assert "Preempted: " in found.output
    assert "How full it was over time is not known of one look" in found.output


def test_what_is_no_vllm_is_said() -> None:
    with serving({"/": b"hello"}) as url:
        assert "HTTP 404: is that a vLLM server?" in run("--server", url).output
    with serving({"/metrics": b"<html>\n"}) as url:
        assert "does not answer as a vLLM server does" in run("--server", url).output


def test_a_server_that_a_daemon_watches_is_known_for_a_while(tmp_path: Path, model: str) -> None:
    with daemon(tmp_path, "--simulate", "--past", "600") as one:
        wait_for(lambda: one.query("vllm:num_requests_running"), "a reading")
        url = f"unix:{one.socket}"
        server = one.query("vllm:num_requests_running")[0][0]["server"]
        found = run("--server", server, "--url", url, "--window", "1h")
        assert found.exit_code == 0, found.output
        assert "the last 1h" in found.output
        assert "KV cache used" in found.output
        assert "prefix hits" in found.output
        wrong = run("--server", "elsewhere:1", "--url", url)
        assert wrong.exit_code == 1
        assert server in wrong.output
        # Without --gpu it is the GPU that the daemon sees.
        assert "H200" in run("--model", model, "--url", url, "--context", "8192").output
