"""Two results beside each other: what belongs together, what is noise, and what makes them unlike."""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import pytest

from monitor.probes import compare_text, statistics
from monitor.probes.compare import compare, paired
from monitor.probes.schema import Accuracy, Change, Comparison, Result, Step
from tests.probes.made_results import Pace, made, without_records


def change(comparison: Comparison, figure: str, step: str = "") -> Change:
    (found,) = [one for one in comparison.changes if (one.figure, one.step) == (figure, step)]
    return found


def renamed(result: Result, **names: str) -> Result:
    steps = tuple(msgspec.structs.replace(step, name=names.get(step.name, step.name)) for step in result.steps)
    return msgspec.structs.replace(result, steps=steps)


def test_the_same_server_again_is_noise() -> None:
    """About one in twenty would be told to be different by chance; of these few far fewer than a tenth are."""
    verdicts = Counter(one.verdict for one in compare(made("latency"), made("latency", seed=2)).changes)
    assert verdicts["noise"] > 40
    assert verdicts["better"] + verdicts["worse"] <= 4
    assert verdicts["missing"] == 0


def test_a_slower_server_is_worse() -> None:
    found = compare(made("throughput"), made("throughput", seed=2, slower=1.2))
    for figure in ("ttft_mean", "tpot_p50", "itl_p50", "e2el_mean", "output_throughput"):
        one = change(found, figure, "concurrency 16")
        assert one.verdict == "worse", figure
        assert one.low is not None
        assert one.high is not None
        assert one.change is not None
        assert one.low <= one.change <= one.high
    assert change(found, "tpot_p50", "concurrency 16").change == pytest.approx(0.2, abs=0.02)
    back = compare(made("throughput", slower=1.2), made("throughput", seed=2))
    assert change(back, "output_throughput", "concurrency 16").verdict == "better"


def test_the_slowest_of_few_says_nothing() -> None:
    one = change(compare(made("throughput"), made("throughput", slower=1.5)), "ttft_p99", "concurrency 16")
    assert (one.verdict, one.low, one.high) == ("unknown", None, None)
    assert one.change == pytest.approx(0.5, abs=0.1)


def test_repeats_are_the_values() -> None:
    """By hand: three repeats of 100, 101, 102 and three of 110, 111, 112 give 9.9 %, and Student's quantile for two
    degrees of freedom is 4.303, so before is sure to 2.46 % and after to 2.24 %; both together are 3.33 %."""

    def repeated(values: tuple[float, ...]) -> Result:
        result = made("latency", few=True)
        step = result.steps[0]
        steps = tuple(
            msgspec.structs.replace(
                step, repeat=index, metrics=msgspec.structs.replace(step.metrics, output_throughput=value)
            )
            for index, value in enumerate(values)
        )
        return msgspec.structs.replace(result, steps=steps)

    one = change(compare(repeated((100, 101, 102)), repeated((110, 111, 112))), "output_throughput", "one at a time")
    assert (one.before, one.after) == pytest.approx((101, 111))
    assert one.change == pytest.approx(10 / 101)
    assert one.low == pytest.approx(0.0631, abs=0.001)
    assert one.high == pytest.approx(0.1363, abs=0.001)
    assert one.verdict == "better"


def test_steps_that_do_not_count_are_left_out_where_others_do() -> None:
    result = made("latency")
    bad = msgspec.structs.replace(
        result.steps[0], invalid=("cached tokens: 5",), metrics=made("latency", slower=9).steps[0].metrics
    )
    spoiled = msgspec.structs.replace(result, steps=(bad, *result.steps[1:]))
    one = change(compare(result, spoiled), "ttft_p50", "one at a time")
    assert one.change == pytest.approx(0, abs=0.05)
    assert "after does not count: cached tokens: 5" in compare(result, spoiled).notes


def test_steps_are_matched_by_name_and_then_by_what_was_asked() -> None:
    before = made("throughput", few=True)
    other = renamed(before, **{"concurrency 4": "four", "concurrency 16": "sixteen"})
    steps = {one.step for one in compare(before, other).changes}
    assert steps == {"", "concurrency 1", "concurrency 4", "concurrency 16"}


def test_steps_on_one_side_alone_are_named() -> None:
    found = compare(made("throughput"), made("throughput", few=True))
    assert "only before: concurrency 2, concurrency 8, concurrency 32, concurrency 64, concurrency 128" in found.notes
    assert not any(one.step == "concurrency 2" for one in found.changes)


def test_latencies_of_the_whole_are_of_one_load_on_both_sides() -> None:
    """The peak moves from 16 to 4: a latency at 4 beside one at 16 would say nothing."""
    before = made("throughput", few=True)
    after = made("throughput", few=True, pace=Pace(token_of_each_s=0.004))
    last = after.steps[2]
    slow = msgspec.structs.replace(last.metrics, output_throughput=1.0)
    after = msgspec.structs.replace(
        after, steps=(*after.steps[:2], msgspec.structs.replace(last, steady=None, metrics=slow))
    )
    found = compare(before, after)
    assert change(found, "ttft_p50").after == last.metrics.ttft.median
    assert change(found, "output_throughput").after == pytest.approx(after.steps[1].metrics.output_throughput, rel=0.01)
    assert any(
        note.startswith("the peak is at concurrency 16 before and at concurrency 4 after") for note in found.notes
    )


def test_the_tail_of_a_step_is_no_change_of_the_server() -> None:
    """One request more, which runs alone at the end: less throughput in the whole step, and as fast a server."""
    before = made("throughput")
    step = before.steps[3]
    assert step.records is not None
    assert step.steady is not None
    end = step.metrics.duration_s
    alone = msgspec.structs.replace(step.records[0], start_s=end)
    longer = statistics.metrics((*step.records, alone), end + (alone.e2el_s or 0), before.spec.slos)
    assert longer.output_throughput < 0.9 * step.metrics.output_throughput
    slower = msgspec.structs.replace(step, metrics=longer, records=(*step.records, alone))
    after = msgspec.structs.replace(before, steps=(*before.steps[:3], slower, *before.steps[4:]))
    for figure in ("output_throughput", "request_throughput"):
        one = change(compare(before, after), figure, step.name)
        assert one.change == pytest.approx(0, abs=0.04), figure
        assert one.verdict == "noise"
        bare = change(
            compare(before, msgspec.structs.replace(after, steps=(msgspec.structs.replace(slower, steady=None),))),
            figure,
            step.name,
        )
        assert bare.change == pytest.approx(longer.output_throughput / step.metrics.output_throughput - 1, abs=0.03)


def test_classes_are_compared_too() -> None:
    found = compare(made("priority"), made("priority", seed=2, slower=1.3))
    assert change(found, "ttft_mean", "3 classes, priority 1").verdict == "worse"


def test_what_makes_them_unlike_is_told() -> None:
    before = made("latency")
    after = made("latency", model="other/model", state="cancelled", labels={"quantization": "fp8"})
    after = msgspec.structs.replace(
        after, facts=msgspec.structs.replace(after.facts, gpus=("NVIDIA A100",), server_version="vLLM 0.33.0")
    )
    found = compare(before, after)
    words = "\n".join(found.notes)
    assert "another model: Qwen/Qwen3-8B before, other/model after" in words
    assert "another server: vLLM 0.32.0 before, vLLM 0.33.0 after" in words
    assert "other GPUs: NVIDIA H100 80GB HBM3, NVIDIA H100 80GB HBM3 before, NVIDIA A100 after" in words
    assert "after is not whole: it is cancelled" in words
    assert "before was disturbed: GPU 0 ran at its power cap" in words
    assert found.differences["labels.quantization"] == ("", "fp8")
    assert found.differences["model"] == ("Qwen/Qwen3-8B", "other/model")


def test_without_single_requests_nothing_is_told_from_noise() -> None:
    before, after = without_records(made("throughput")), without_records(made("throughput", slower=2))
    found = compare(before, after)
    assert {one.verdict for one in found.changes if one.step} == {"unknown"}
    assert (
        "before has no single requests (`vllm bench serve` keeps them with --save-detailed): no intervals"
        in found.notes
    )


def test_what_one_side_has_alone_is_missing() -> None:
    before = made("latency", accuracy=False)
    one = change(compare(before, made("latency")), "perplexity")
    assert (one.verdict, one.before, one.change) == ("missing", None, None)


def test_perplexity_token_by_token() -> None:
    """The same tokens, each a little less sure: that little is all the noise there is."""
    before = made("latency")
    after = made("latency", slower=2.0, seed=2)
    one = change(compare(before, after), "perplexity")
    assert one.verdict == "worse"
    assert one.change == pytest.approx(0.02, abs=0.01)
    other = msgspec.structs.replace(
        after, accuracy=Accuracy(perplexity=6.0, tokens=63, token_logprobs=(-1.0,) * 63, text_id="gpumon-1")
    )
    found = compare(before, other)
    assert change(found, "perplexity").verdict == "unknown"
    assert any("cut the text into other tokens" in note for note in found.notes)
    assert before.accuracy is not None
    assert not paired(before.accuracy, msgspec.structs.replace(before.accuracy, text_id="other"))


def test_perplexity_of_another_text_is_no_change() -> None:
    before = made("latency", few=True)
    assert before.accuracy is not None
    other = msgspec.structs.replace(before.accuracy, text_id="gpumon-1-by-64", perplexity=9.0)
    found = compare(before, msgspec.structs.replace(before, accuracy=other))
    assert "perplexity" not in {one.figure for one in found.changes}
    assert "perplexity cannot be compared: it is of gpumon-1 before and of gpumon-1-by-64 after" in found.notes


def test_memory_and_cache_of_the_whole() -> None:
    before = made("throughput", few=True)
    facts = msgspec.structs.replace(before.facts, kv_cache_tokens=834_784)
    found = compare(before, msgspec.structs.replace(before, facts=facts))
    assert change(found, "kv_cache_tokens").change == 1.0
    assert change(found, "memory_used_bytes").change == 0.0
    assert change(found, "memory_used_bytes").unit == "B"


def test_many_figures_are_many_chances() -> None:
    found = compare(made("throughput"), made("throughput", seed=2))
    (note,) = [note for note in found.notes if "by chance alone" in note]
    told = [one for one in found.changes if one.low is not None]
    assert note.startswith(f"{len(told)} figures have an interval")


def test_figures_of_one_workload_alone() -> None:
    before, after = made("lengths", few=True), made("lengths", few=True)
    before = msgspec.structs.replace(before, headline={"prefill_per_token_ms": 0.05})
    after = msgspec.structs.replace(after, headline={"prefill_per_token_ms": 0.06})
    one = change(compare(before, after), "prefill_per_token_ms")
    assert (one.unit, one.better) == ("ms", "lower")
    assert one.change == pytest.approx(0.2)


def test_nothing_measured_can_be_compared_too() -> None:
    empty = msgspec.structs.replace(made("latency"), steps=(), headline={}, accuracy=None)
    found = compare(empty, made("latency"))
    assert "no step of one is like a step of the other: only the whole runs can be compared" in found.notes


def test_asked_differently() -> None:
    def asked(length: int) -> Result:
        result = made("latency", few=True)
        steps: tuple[Step, ...] = tuple(
            msgspec.structs.replace(step, parameters={"concurrency": 1, "input_len": length}) for step in result.steps
        )
        return msgspec.structs.replace(result, steps=steps)

    assert "one at a time: asked differently, input_len 128 and 256" in compare(asked(128), asked(256)).notes


# -- how it is shown ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown() -> Comparison:
    return compare(made("throughput", name="fp16"), made("throughput", seed=2, slower=1.2, name="fp8"))


def test_as_text(shown: Comparison) -> None:
    text = compare_text.text(shown)
    lines = text.splitlines()
    assert lines[0] == "fp16 → fp8"
    assert lines[4] == "whole run"
    assert "\nconcurrency 16\n" in text
    (line,) = [one for one in lines[lines.index("concurrency 16") :][:12] if "tpot_p50" in one]
    assert line.endswith("%  WORSE")
    assert "ttft_p90" not in text
    assert "ttft_p90" in compare_text.text(shown, every=True)
    assert max(map(len, lines)) < 200


def test_as_markdown(shown: Comparison) -> None:
    text = compare_text.markdown(shown)
    assert text.startswith("# fp16 → fp8\n")
    assert "| tpot\\_p50 " in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.replace("\\|", "").count("|") in (4, 7) for line in rows)


def test_as_json(shown: Comparison) -> None:
    value = json.loads(compare_text.as_json(shown, ["it fell"]))
    assert value["violations"] == ["it fell"]
    assert msgspec.convert({**value}, Comparison) == shown


def test_strangers_names_are_no_commands() -> None:
    evil = made("latency", few=True, name="\x1b[31mred\nline", model="| <b>x</b>")
    found = compare(made("latency", few=True), evil)
    assert "\x1b" not in compare_text.text(found)
    assert "<b>" not in compare_text.markdown(found)
