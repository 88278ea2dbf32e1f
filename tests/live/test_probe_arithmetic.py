"""The arithmetic of the probes is that of ``vllm bench serve``: the same requests, made up by chance, through its own
function and ours."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitor.probes import statistics
from monitor.probes.schema import Latency, Outcome, Record, Slo
from tests.live import install_vllm

pytestmark = pytest.mark.live

_THEIRS = """
import json, sys, contextlib, io
from vllm.benchmarks.serve import calculate_metrics
from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput
import numpy as np
answers = []
for case in json.load(sys.stdin):
    outputs = [RequestFuncOutput(**one) for one in case["outputs"]]
    with contextlib.redirect_stdout(io.StringIO()):
        found, lengths = calculate_metrics(
            [], outputs, case["duration"], None, [0, 90, 95, 99, 100], case["goodput"]
        )
    answer = {key: value for key, value in vars(found).items() if isinstance(value, (int, float))}
    for name in ("ttft", "tpot", "itl", "e2el"):
        answer[f"percentiles_{name}"] = [float(value) for _, value in getattr(found, f"percentiles_{name}_ms")]
    answer["numpy"] = [float(np.percentile(case["values"], q)) for q in case["quantiles"]]
    answers.append({key: value if isinstance(value, list) else float(value) for key, value in answer.items()})
json.dump(answers, sys.stdout)
"""


def _case(rng: random.Random) -> tuple[list[Record], float, list[Slo]]:
    records = []
    for number in range(rng.choice([1, 2, 7, 60])):
        chunks = rng.choice([1, 1, 2, 5, 40])
        gaps = [rng.choice([0.0, rng.expovariate(30)]) for _ in range(chunks - 1)]
        outcome: Outcome = rng.choice(["ok", "ok", "ok", "broken", "shed"]) if number else "ok"
        ttft = rng.expovariate(5)
        records.append(
            Record(
                rng.uniform(0, 20), outcome, "" if outcome == "ok" else "it failed", ttft_s=ttft,
                e2el_s=ttft + sum(gaps), itl_s=gaps, prompt_tokens=rng.randrange(1, 500),
                output_tokens=chunks + rng.choice([0, 0, 3]),
            )
        )  # fmt: skip
    slos = [Slo("ttft", rng.uniform(50, 400)), Slo("tpot", rng.uniform(5, 60)), Slo("e2el", rng.uniform(200, 2000))]
    return records, rng.uniform(1, 40), rng.sample(slos, rng.randrange(0, 4))


def _as_theirs(record: Record) -> dict[str, Any]:
    return {
        "success": record.outcome == "ok", "latency": record.e2el_s, "output_tokens": record.output_tokens,
        "ttft": record.ttft_s, "itl": record.itl_s, "prompt_len": record.prompt_tokens, "error": record.error,
        "start_time": 5000.0 + record.start_s,
    }  # fmt: skip


def test_the_arithmetic_is_that_of_vllm_bench_serve(tmp_path: Path) -> None:
    rng = random.Random(20)
    cases = [_case(rng) for _ in range(200)]
    values = [[rng.expovariate(1) for _ in range(rng.randrange(1, 50))] for _ in cases]
    quantiles = [[rng.uniform(0, 100) for _ in range(5)] for _ in cases]
    asked = [
        {
            "outputs": [_as_theirs(record) for record in records],
            "duration": duration_s,
            "goodput": {slo.metric: slo.limit_ms for slo in slos},
            "values": some,
            "quantiles": several,
        }
        for (records, duration_s, slos), some, several in zip(cases, values, quantiles, strict=True)
    ]
    done = subprocess.run(
        [install_vllm.python(), "-c", _THEIRS], input=json.dumps(asked), capture_output=True, text=True, check=False,
        timeout=600,
        env={
            **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR",
            "TMPDIR": str(tmp_path),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout[done.stdout.index("[{") :])
    assert len(answers) == len(cases)
    for (records, duration_s, slos), some, several, theirs in zip(cases, values, quantiles, answers, strict=True):
        found = statistics.metrics(records, duration_s, slos)
        mine = {
            "completed": found.completed, "failed": found.failed, "total_input": found.input_tokens,
            "total_output": found.output_tokens, "request_throughput": found.request_throughput,
            "output_throughput": found.output_throughput, "total_token_throughput": found.total_throughput,
            "request_goodput": found.goodput or 0.0, "max_output_tokens_per_s": found.max_output_per_s,
            "max_concurrent_requests": found.max_concurrent,
        }  # fmt: skip
        assert mine == pytest.approx({key: theirs[key] for key in mine}, rel=1e-12)
        for name in ("ttft", "tpot", "itl", "e2el"):
            one: Latency = getattr(found, name)
            if one.n:  # of nothing, numpy is asked for 0; here it is not known
                ours = [one.min, one.p90, one.p95, one.p99, one.max, one.mean, one.median, one.std]
                lowest, p90, p95, p99, highest = theirs[f"percentiles_{name}"]
                rest = [theirs[f"{kind}_{name}_ms"] for kind in ("mean", "median", "std")]
                assert ours == pytest.approx([lowest, p90, p95, p99, highest, *rest], rel=1e-9, abs=1e-9)
        # To the last digit.
        assert [statistics.percentile(sorted(some), q) for q in several] == theirs["numpy"]
