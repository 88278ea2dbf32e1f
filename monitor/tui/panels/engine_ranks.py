"""What a server is made of: its engines where there are several, and the GPUs that it runs on."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import celsius, number, percent, rate, seconds
from monitor.client.replicas import Replica
from monitor.client.results import Answers
from monitor.client.snapshot import Engine, Gpu
from monitor.digits import by_number
from monitor.tui.palette import DIM, NOTICE, PLAIN, STALE, STRONG
from monitor.tui.panels.engine_numbers import watts
from monitor.tui.rows import Row, title

WIDTH = 62
"""What its tables take."""
_PROFILE = {"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0, "DCGM_FI_PROF_DRAM_ACTIVE": 1, "DCGM_FI_PROF_SM_ACTIVE": 2}


def engines(every: Sequence[Replica], width: int) -> list[Row]:
    """A line for each engine of a server; none where it has only one."""
    if len(every) < 2:
        return []
    head = title("engines").to(11)
    for word, room in (("run", 5), ("wait", 6), ("KV", 7), ("generated", 12), ("TTFT", 9), ("ITL", 9)):
        head.put(word, DIM, room, right=True)
    rows = [head]
    for one in every:
        row = Row().put(f"  {one.engine}", STRONG, 11)
        row.value(number(one.running), PLAIN, 5).value(number(one.waiting), NOTICE if one.waiting else PLAIN, 6)
        row.value(percent(one.kv_cache), PLAIN, 7).value(rate(one.generation, "tok/s"), PLAIN, 12)
        row.value(seconds(one.ttft), PLAIN, 9).value(seconds(one.itl), PLAIN, 9)
        if one.slow:
            row.put(f"  {one.slow}", NOTICE)
        rows.append(row)
    return rows


def gpus(engine: Engine, known: Sequence[Gpu], answers: Answers | None, width: int) -> list[Row]:
    """A line for each GPU, in the order of its ranks, the one that holds the others up first to be seen by its word."""
    members = answers.rows("members") if answers is not None else []
    if answers is None or not members:
        return []
    profile: dict[str, list[float | None]] = {}
    for labels, _, value in answers.rows("profile"):
        if labels.get("GPU_I_ID"):
            continue
        place = _PROFILE.get(labels.get("__name__", ""))
        if place is not None:
            profile.setdefault(labels.get("gpu", ""), [None] * 3)[place] = value
    power = {labels.get("gpu", ""): value for labels, _, value in answers.rows("gpu_power")}
    several = len({labels.get("engine", "") for labels, _, _ in members}) > 1
    room_of_rank = 12 if several else 6
    head = title("GPUs").to(5).put("engine/rank" if several else "rank", DIM, room_of_rank, right=True)
    for word, room in (("util", 7), ("tensor", 8), ("DRAM", 7), ("SM", 7), ("power", 8), ("temp", 7)):
        head.put(word, DIM, room, right=True)
    rows = [head]
    by_key = {one.key: one for one in known}
    for labels, _, _ in sorted(members, key=lambda row: (_natural(row[0], "engine"), _natural(row[0], "rank"))):
        index = labels.get("gpu", "")
        gpu = by_key.get((labels.get("instance", ""), index))
        old = gpu is not None and gpu.stale
        style = STALE if old else PLAIN
        rank = f"{labels.get('engine', '')}/{labels.get('rank', '')}" if several else labels.get("rank", "")
        row = Row().put(f"  {index}", STRONG, 5).put(rank, DIM, room_of_rank, right=True)
        row.value(percent(gpu.utilization if gpu else None), style, 7)
        for share, room in zip(profile.get(index, [None] * 3), (8, 7, 7), strict=True):
            row.value(percent(share), style, room)
        row.value(watts(power.get(index)), style, 8).value(celsius(gpu.temperature if gpu else None), style, 7)
        word = "gone" if old else ", ".join(gpu.throttles) if gpu is not None and gpu.throttles else ""
        if word and row.width + 2 + len(word) <= width:
            row.put(f"  {word}", NOTICE)
        rows.append(row)
    if not profile:
        rows.append(Row().put("  tensor, DRAM and SM activity are not measurable on this GPU", DIM))
    return rows


def _natural(labels: dict[str, str], name: str) -> tuple[int, str]:
    return by_number(labels.get(name, ""))
