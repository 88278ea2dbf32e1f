"""What of a command line is shown, against hostile ones; what launches a server; titles."""

from __future__ import annotations

import itertools

import pytest

from monitor.sources.command_line import Launch, launch_of, looks_secret, redact, title_of

SERVE = ["python3", "-m", "vllm.entrypoints.openai.api_server"]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        # What is known to be harmless stays.
        (["/usr/bin/vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct"], "vllm serve meta-llama/Llama-3.1-8B-Instruct"),
        (["/o/bin/python3.11", "/o/bin/vllm", "serve", "m", "--port", "8001"], "python3.11 vllm serve m --port 8001"),
        ([*SERVE, "--model=org/m", "-tp", "2"], " ".join([*SERVE, "--model=org/m", "-tp", "2"])),
        (
            [*SERVE, "--max_model_len", "4096", "--enforce-eager"],
            " ".join([*SERVE, "--max-model-len 4096 --enforce-eager"]),
        ),
        (["vllm", "serve", "m", "--gpu-memory-utilization", "0.92"], "vllm serve m --gpu-memory-utilization 0.92"),
        (["vllm", "serve", "m", "--host", "10.0.0.1"], "vllm serve m --host 10.0.0.1"),
        (["python3", "-u", "-m", "sglang.launch_server", "--tp", "4"], "python3 -u -m sglang.launch_server --tp 4"),
        # Keys, wherever they stand.
        (["vllm", "serve", "m", "--api-key", "hunter2"], "vllm serve m --api-key …"),
        (["vllm", "serve", "m", "--api-key=hunter2"], "vllm serve m --api-key=…"),
        (["vllm", "serve", "m", "--api_key=hunter2"], "vllm serve m --api-key=…"),
        (["vllm", "serve", "m", "--api-key", "hunter2", "hunter3", "--port", "1"], "vllm serve m --api-key … --port 1"),
        (["vllm", "serve", "--api-key", "hunter2", "m"], "vllm serve --api-key …"),
        (["vllm", "serve", "m", "--api-key", "-hunter2"], "vllm serve m --api-key …"),
        (["vllm", "serve", "m", "--api-key", "--hunter2"], "vllm serve m --api-key …"),
        (["vllm", "serve", "m", "--port", "hunter2"], "vllm serve m --port …"),
        (["vllm", "serve", "m", "--port=hunter2"], "vllm serve m --port=…"),
        (["vllm", "serve", "m", "--enforce-eager=hunter2"], "vllm serve m --enforce-eager=…"),
        (["vllm", "serve", "m", "--enforce-eager", "hunter2"], "vllm serve m --enforce-eager …"),
        (["vllm", "serve", "m", "--hunter2", "8"], "vllm serve m …"),
        (["vllm", "serve", "m", "--hunter2=8"], "vllm serve m …"),
        (["vllm", "serve", "m", "-phunter2"], "vllm serve m …"),
        (["vllm", "serve", "m", "---port", "8"], "vllm serve m …"),
        (["vllm", "serve", "m", "--dtype", "hf_hunterhunter"], "vllm serve m --dtype …"),
        (["vllm", "serve", "m", "--", "hunter2"], "vllm serve m …"),
        (["vllm", "serve", "m", "API_KEY=hunter2"], "vllm serve m …"),
        (["vllm", "serve", "m", "--model", "https://bob:hunter2@host/m"], "vllm serve m --model …"),
        (["vllm", "serve", "https://bob:hunter2@host/m"], "vllm serve …"),
        (["vllm", "serve", "s3://bucket/m?X-Amz-Signature=hunter2"], "vllm serve …"),
        (["vllm", "serve", "m", "--host", "hunter2"], "vllm serve m --host …"),
        (["vllm", "serve", "m", "--served-model-name", "sk-hunter2hunter2"], "vllm serve m --served-model-name …"),
        (["vllm", "serve", "m", "--hf-token", "hf_x", "--seed", "1"], "vllm serve m --hf-token … --seed 1"),
        (["vllm", "serve", "m", "--middleware", '{"key": "hunter2"}'], "vllm serve m --middleware …"),
        (["vllm", "serve", "m\n--api-key hunter2"], "vllm serve …"),
        (["vllm", "serve", "m", "--port\nhunter2"], "vllm serve m …"),
        # Of a program that is not known, no argument is.
        (["python3", "train.py", "--model", "hunter2"], "python3 train.py …"),
        (["python3", "-c", "key='hunter2'"], "python3 …"),
        (["python3", "-mhunter2"], "python3 …"),
        (["python3", "-m", "x.y", "hunter2"], "python3 -m x.y …"),
        (["python3", "hunter2=1"], "python3 …"),
        (["python3", "-m", "hf_hunterhunterhunter"], "python3 -m …"),
        (["bash", "-c", "API_KEY=hunter2 vllm serve m --port 8000"], "bash …"),
        (["env", "VLLM_API_KEY=hunter2", "vllm", "serve", "m"], "env …"),
        (["VLLM_API_KEY=hunter2", "vllm", "serve"], "…"),
        (["mysql", "-phunter2"], "mysql …"),
        (["sk-hunter2hunter2"], "…"),
        (["python3 app.py --key=hunter2"], "…"),
        (["nginx: worker hunter2"], "…"),
        (["VLLM::Worker_TP0 hunter2"], "…"),
        (["hunter2::Worker hunter2"], "…"),
        (["vllm", "serve"], "vllm serve"),
        (["vllm", "bench", "hunter2"], "vllm …"),
        (["VLLM::Worker_DP0_TP1"], "VLLM::Worker_DP0_TP1"),
        ([], ""),
        ([""], "…"),
    ],
)
def test_what_is_shown(command: list[str], shown: str) -> None:
    assert redact(command) == shown
    assert "hunter" not in shown


def test_a_key_is_hidden_at_every_place_of_a_command() -> None:
    base = ["python3", "-m", "vllm.entrypoints.cli.main", "serve", "org/m", "--port", "8000", "-tp", "2", "--seed=1"]
    forms = ["K", "--api-key=K", "--password=K", "KEY=K", "https://u:K@h/", "Bearer K", "--header", "-K", "--K", "x\nK"]
    for at, form in itertools.product(range(len(base) + 1), forms):
        for key in ("sk-proj-hunterhunterhunter", "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ", "0123456789abcdef0123456789abcdef"):
            command = [*base[:at], form.replace("K", key), *base[at:]]
            assert key not in redact(command), command


@pytest.mark.parametrize(
    "name", ["Qwen3-235B-A22B-Instruct-2507-FP8", "deepseek-ai/DeepSeek-V3.1", "/models/llama-3", "8000"]
)
def test_names_of_models_are_no_secrets(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("command", "launch"),
    [
        (["vllm", "serve", "m"], Launch("vllm", 8000)),
        (["/v/bin/python3", "/v/bin/vllm", "serve", "m", "--port=81"], Launch("vllm", 81)),
        ([*SERVE, "--port", "1", "--port", "82"], Launch("vllm", 82)),
        (["python", "-m", "vllm.entrypoints.cli.main", "serve", "m", "-tp", "4"], Launch("vllm", 8000, "", False, 4)),
        (["python", "-u", "/s/vllm/entrypoints/openai/api_server.py", "--host", "h"], Launch("vllm", 8000, "h")),
        (["vllm", "serve", "m", "--ssl-certfile", "c", "--ssl-keyfile", "k"], Launch("vllm", 8000, "", True)),
        (["vllm", "serve", "m", "--port", "banana"], Launch("vllm", 8000)),
        (["vllm", "serve", "m", "--port", "99999"], Launch("vllm", 8000)),
        (
            ["python3", "-m", "sglang.launch_server", "--model-path", "m", "--tp", "2"],
            Launch("sglang", 30000, "", False, 2),
        ),
        (["text-generation-router", "--port", "80"], Launch("tgi", 80)),
        (["vllm", "serve", "m", "--headless"], None),
        (["vllm", "serve", "m", "--uds", "/s"], None),
        (["vllm", "bench", "serve"], None),
        (["bash", "-c", "vllm serve m"], None),
        (["timeout", "60", "vllm", "serve", "m"], None),
        (["python3", "guard.py", "python3", "-m", "vllm.entrypoints.openai.api_server"], None),
        (["docker", "run", "vllm/vllm-openai", "vllm", "serve"], None),
        (["tail", "-f", "vllm"], None),
        (["python3"], None),
        (["python3", "-m"], None),
        ([], None),
    ],
)
def test_what_launches_a_server(command: list[str], launch: Launch | None) -> None:
    assert launch_of(command) == launch


@pytest.mark.parametrize(
    ("text", "part", "ranks"),
    [
        ("VLLM::EngineCore", "EngineCore", {}),
        ("VLLM::EngineCore_DP1", "EngineCore", {"DP": 1}),
        ("VLLM::EngineCore_0", "EngineCore", {"": 0}),
        ("VLLM::Worker_DP0_PP1_PCP0_TP3_DCP1_EP7", "Worker", {"DP": 0, "PP": 1, "PCP": 0, "TP": 3, "DCP": 1, "EP": 7}),
        ("VLLM::APIServer_2", "APIServer", {"": 2}),
        ("team-a::Worker_TP1", "Worker", {"TP": 1}),
        ("VLLM::DPCoordinator", "DPCoordinator", {}),
        ("sglang::scheduler_DP1_TP3", "scheduler", {"DP": 1, "TP": 3}),
    ],
)
def test_titles(text: str, part: str, ranks: dict[str, int]) -> None:
    title = title_of([text])
    assert title is not None
    assert (title.text, title.part, title.ranks) == (text, part, ranks)


@pytest.mark.parametrize(
    "words", [["VLLM::Worker_TP0", "x"], ["VLLM::Secret"], ["ray::RayWorkerWrapper"], ["std::Worker_X"], []]
)
def test_what_is_no_title(words: list[str]) -> None:
    assert title_of(words) is None
