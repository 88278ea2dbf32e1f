"""What twice the prompt and twice the output cost: prefill and decode apart. Pure.

Doublings that were measured are told as such: two steps of which one has exactly twice the tokens of the other, and all
else the same. Beside them stands a straight line through the medians, by least squares, for what each token costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.probes.findings_base import counted, middle, ms, parameter, present, times
from monitor.probes.schema import Finding, Result

_NOISY = 1.5


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair of lengths: medians over its repeats, in ms."""

    prompt: int
    output: int
    ttft: float | None
    tpot: float | None
    e2el: float | None

    @property
    def decode(self) -> float | None:
        """From the first token to the last."""
        return None if self.e2el is None or self.ttft is None else self.e2el - self.ttft


@dataclass(frozen=True, slots=True)
class Line:
    """``y = base + slope · x``, and how much of the values' spread it explains."""

    base: float
    slope: float
    r2: float


def fit(pairs: Sequence[tuple[float, float]]) -> Line | None:
    """By least squares; None for fewer than three different x."""
    if len({x for x, _ in pairs}) < 3:
        return None
    count = len(pairs)
    mean_x, mean_y = sum(x for x, _ in pairs) / count, sum(y for _, y in pairs) / count
    xx = sum((x - mean_x) ** 2 for x, _ in pairs)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    yy = sum((y - mean_y) ** 2 for _, y in pairs)
    slope = xy / xx
    return Line(mean_y - slope * mean_x, slope, xy * xy / (xx * yy) if yy > 0 else 1.0)


def cells(result: Result) -> list[Cell]:
    """All pairs that were measured, rising."""
    found: dict[tuple[int, int], list[tuple[float | None, float | None, float | None]]] = {}
    for step in counted(result, "lengths"):
        prompt, output = parameter(step, "input_len"), parameter(step, "output_len")
        if prompt is None or output is None:
            continue
        made = step.metrics
        key = int(prompt), int(output)
        found.setdefault(key, []).append((made.ttft.median, made.tpot.median, made.e2el.median))
    return [Cell(*key, *(middle(values) for values in zip(*rows, strict=True))) for key, rows in sorted(found.items())]


def doubling(result: Result) -> list[Finding]:
    """Both doublings; nothing where no lengths were measured."""
    measured = cells(result)
    return [*_prompt(measured), *_output(measured)] if measured else []


def _prompt(measured: Sequence[Cell]) -> list[Finding]:
    by = {(cell.prompt, cell.output): cell for cell in measured}
    said = []
    values: dict[str, float | int | str | None] = {}
    pairs = [
        (cell, twice) for cell in measured if (twice := by.get((2 * cell.prompt, cell.output))) is not None
    ]  # fmt: skip
    exact = [(a, b) for a, b in pairs if a.ttft and b.ttft]
    if exact:
        short, long = max(exact, key=lambda pair: (pair[0].prompt, -pair[0].output))
        ratio = (long.ttft or 0) / (short.ttft or 1)
        said.append(
            f"Twice the prompt ({short.prompt:,} → {long.prompt:,} tokens, {short.output} out): TTFT takes "
            f"{times(ratio)} as long ({ms(short.ttft)} → {ms(long.ttft)})"
        )
        values["prompt_ttft_ratio"] = ratio
        if short.decode and long.decode:
            said.append(f"the decode after it {times(long.decode / short.decode)}")
            values["prompt_decode_ratio"] = long.decode / short.decode
    prompts = sorted({cell.prompt for cell in measured})
    firsts = [(float(prompt), value) for prompt in prompts if (value := _ttft_of(measured, prompt)) is not None]
    line = fit(firsts)
    if line is not None:
        longest = firsts[-1][0]
        fits = f"a line through {len(firsts)} prompt lengths (R² {line.r2:.2f})"
        text = (
            f"By {fits}, TTFT is {ms(max(line.base, 0.0))} and {ms(1000 * line.slope)} for each 1,000 tokens"
            if line.slope > 0
            else f"TTFT does not grow with the prompt up to {longest:,.0f} tokens, by {fits}"
        )
        here, there = line.base + line.slope * longest, line.base + line.slope * 2 * longest
        if not exact and here > 0 and line.slope > 0:
            text += f", so twice {longest:,.0f} would take {times(there / here)} as long (not measured)"
        if line.r2 < 0.9 and line.slope > 0:
            text += "; the line fits badly"
        said.append(text)
        values |= {"ttft_base_ms": line.base, "ttft_ms_per_1000_tokens": 1000 * line.slope, "ttft_r2": line.r2}
        if line.slope > 0:
            values["prefill_tokens_per_s"] = 1000 / line.slope
    elif not exact and len(firsts) == 2 and firsts[0][1] > 0:
        (short_n, a), (long_n, b) = firsts
        said.append(
            f"From {short_n:,.0f} to {long_n:,.0f} tokens of prompt ({times(long_n / short_n)}), TTFT takes "
            f"{times(b / a)} as long ({ms(a)} → {ms(b)}); no length was doubled exactly"
        )
        values["prompt_ttft_ratio_measured"] = b / a
    slower = _decode_with_prompt(measured)
    if slower is not None:
        said.append(slower)
    if not said:
        text = "What twice the prompt costs is not known: fewer than two lengths of prompt were measured."
        return [Finding("doubling", "info", text, {})]
    return [Finding("doubling", "info", _sentences(said), present(which="prompt", **values))]


def _ttft_of(measured: Sequence[Cell], prompt: int) -> float | None:
    """It does not depend on the answer."""
    return middle(cell.ttft for cell in measured if cell.prompt == prompt)


def _decode_with_prompt(measured: Sequence[Cell]) -> str | None:
    by: dict[int, float] = {}
    for prompt in sorted({cell.prompt for cell in measured}):
        value = middle(cell.tpot for cell in measured if cell.prompt == prompt)
        if value:
            by[prompt] = value
    if len(by) < 2:
        return None
    short, long = min(by), max(by)
    return (
        f"Each token of the answer takes {ms(by[short])} after {short:,} tokens of prompt and {ms(by[long])} after "
        f"{long:,} ({times(by[long] / by[short])})"
    )


def _output(measured: Sequence[Cell]) -> list[Finding]:
    by = {(cell.prompt, cell.output): cell for cell in measured}
    exact = [
        (cell, twice)
        for cell in measured
        if (twice := by.get((cell.prompt, 2 * cell.output))) is not None and cell.e2el and twice.e2el
    ]
    if not exact:
        text = "What twice the output costs is not known: no length of answer was measured beside its double."
        return [Finding("doubling", "info", text, {"which": "output"})]
    middle_prompt = sorted({short.prompt for short, _ in exact})[len({short.prompt for short, _ in exact}) // 2]
    here = [(a, b) for a, b in exact if a.prompt == middle_prompt]
    short, long = max(here, key=lambda pair: pair[0].output)
    whole = (long.e2el or 0) / (short.e2el or 1)
    said = [
        f"Twice the output ({short.output} → {long.output} tokens, {short.prompt:,} in) takes {times(whole)} as long "
        f"from end to end ({ms(short.e2el)} → {ms(long.e2el)})"
    ]
    decodes = [b.decode / a.decode for a, b in exact if a.decode and b.decode]
    decode = long.decode / short.decode if short.decode and long.decode else None
    if decode is not None:
        said[0] += f", the decode alone {times(decode)}"
    firsts = middle(b.ttft / a.ttft for a, b in exact if a.ttft and b.ttft)
    if firsts is not None:
        said[0] += f", TTFT {times(firsts)}"
    ratios = [(b.e2el or 0) / (a.e2el or 1) for a, b in exact]
    if len(exact) > 1:
        said.append(f"Over all {len(exact)} doublings that were measured, from end to end {_span(ratios)}")
        if decodes:
            said[-1] += f", decode {_span(decodes)}"
        if max(ratios) > _NOISY * min(ratios) or (decodes and max(decodes) > _NOISY * min(decodes)):
            said[-1] += "; they differ so much that this measurement does not settle it: repeat it on a quiet machine"
    values = present(
        which="output", output_e2el_ratio=whole, output_decode_ratio=decode, output_ttft_ratio=firsts,
        doublings=len(exact),
    )  # fmt: skip
    return [Finding("doubling", "info", _sentences(said), values)]


def _span(ratios: Sequence[float]) -> str:
    return f"{times(min(ratios))} to {times(max(ratios))}"


def _sentences(parts: Sequence[str]) -> str:
    """Parts that begin small go on with the one before."""
    text = ""
    for part in parts:
        text += ("" if not text else ", " if part[0].islower() else ". ") + part
    return f"{text}."
