"""What is told of one GPU in words and numbers: who it is, what holds its clocks down, its health, what runs on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style

from monitor.client.format import ABSENT, clock, count, cut, duration, number, percent, size
from monitor.client.gpu_queries import REASONS
from monitor.client.mig import parts_of
from monitor.client.results import Answers
from monitor.client.snapshot import Alert, Gpu, Snapshot
from monitor.client.wire import ProcessRow
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STRONG, WARNING, severity
from monitor.tui.panels.blocks import GAP, heading, plain, said, share
from monitor.tui.panels.gpu_cards import part_line
from monitor.tui.rows import Row, field, flow

_INSTANCE = 58
"""The width of a line of a MIG instance."""
_SERIOUS = ("hw_thermal", "hw_slowdown", "hw_power_brake")
_ACTIONS = {
    1: "reset the GPU",
    2: "reboot the node",
    3: "drain peer-to-peer traffic",
    4: "drain the GPU and reset it",
    5: "recover the IMEX domain",
    6: "reset the GPU's bus",
    7: "reboot the system",
}
_COMPUTE_MODES = {0: "shared", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
_PROFILING = (
    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "engine"),
    ("DCGM_FI_PROF_SM_ACTIVE", "SMs"),
    ("DCGM_FI_PROF_SM_OCCUPANCY", "occupancy"),
    ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "tensor"),
    ("DCGM_FI_PROF_PIPE_FP16_ACTIVE", "FP16"),
    ("DCGM_FI_PROF_PIPE_FP32_ACTIVE", "FP32"),
    ("DCGM_FI_PROF_PIPE_FP64_ACTIVE", "FP64"),
    ("DCGM_FI_PROF_DRAM_ACTIVE", "DRAM"),
)

Text = tuple[str, Style]


class Told:
    """What the queries of one GPU's screen say, by name: of ``DCGM_FI_DEV_X`` the name is ``X``."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self._values: dict[str, float] = {}
        self.labels: Mapping[str, str] = {}
        for id in ("now", "prof"):
            for labels, _, value in answers.rows(id):
                self._values[labels.get("__name__", "").removeprefix("DCGM_FI_DEV_")] = value
                self.labels = {**labels, **self.labels}

    def get(self, name: str) -> float | None:
        """A reading, or None."""
        return self._values.get(name.removeprefix("DCGM_FI_DEV_"))

    def whole(self, name: str) -> int | None:
        """A count, or None."""
        value = self.get(name)
        return None if value is None else round(value)


def identity(gpu: Gpu, told: Told | None, snapshot: Snapshot, width: int) -> list[Row]:
    """Who it is and how it is set."""
    labels = told.labels if told is not None else {}
    fields = [Row().put(gpu.model or "GPU", STRONG)]
    several = len({one.instance for one in snapshot.gpus}) > 1
    texts = [
        ("node", gpu.instance if several else ""),
        ("", gpu.uuid),
        ("PCI", labels.get("pci_bus_id", "")),
        ("driver", snapshot.node.driver or labels.get("DCGM_FI_DRIVER_VERSION", "")),
        ("CUDA", snapshot.node.cuda),
        ("VBIOS", labels.get("DCGM_FI_DEV_VBIOS_VERSION", "")),
        ("serial", labels.get("DCGM_FI_DEV_SERIAL", "")),
    ]
    if told is not None:
        texts += [
            ("MIG", _switch(told.get("MIG_MODE"))),
            ("ECC", _switch(told.get("ECC_CURRENT"))),
            ("persistence", _switch(told.get("PERSISTENCE_MODE"))),
            ("compute mode", _COMPUTE_MODES.get(round(told.get("COMPUTE_MODE") or 0), "")),
        ]
        if told.get("COMPUTE_MODE") is None:
            texts.pop()
    if gpu.pstate is not None:
        texts.append(("P-state", f"P{gpu.pstate}"))
    fields += [Row().put(f"{label} " if label else "", DIM).put(text) for label, text in texts if text]
    return flow(fields, width)


def alerts_of(snapshot: Snapshot, gpu: Gpu, width: int, most: int) -> list[Row]:
    """The alerts about it, gravest first."""
    found = [one for one in snapshot.alerts if _about(one, gpu)]
    rows = []
    for one in found[:most]:
        row = Row().put(one.state if one.state != "firing" else one.severity or "firing", severity(one.severity))
        since = "" if one.since_ms is None else f" for {duration((snapshot.now_ms - one.since_ms) / 1000)}"
        rows.append(row.put(f" {one.name}", STRONG).put(since, DIM).put(f"  {one.summary}"))
    if len(found) > most and rows:
        rows[-1].put(f"  and {count(len(found) - most, 'more alert')}", DIM)
    return rows


def clocks(gpu: Gpu, told: Told, range_seconds: int, width: int) -> list[Row]:
    """What holds its clocks down now, and for which share of the range that is looked at."""
    answers = told.answers
    active = {labels.get("reason", ""): value > 0 for labels, _, value in answers.rows("active")}
    shares = {labels.get("reason", ""): value for labels, _, value in answers.rows("active_share")}
    rows = [heading("clocks held down", width, f"now, and share of the last {duration(range_seconds)}")]
    known = False
    quiet = []
    for reason, words, counter, why in REASONS:
        now = active.get(reason)
        share = None
        if counter:
            value = answers.value(f"share_{reason}")
            share = None if value is None else min(1.0, value / 1e9)
        share = shares.get(reason) if share is None else share
        if now is None and share is None:
            continue
        known = True
        if not now and not (share and share >= 0.0005):
            quiet.append(words)
            continue
        style = CRITICAL if reason in _SERIOUS else NOTICE if reason == "sw_power_cap" else WARNING
        row = Row().put(words, style if now else PLAIN, 21).put("now " if now else "    ", style)
        row.value(percent(share), width=6)
        rows.append(row.put(f"  {why}", DIM))
    if not known:
        rows.append(Row().put("the driver does not say", DIM))
    elif len(rows) == 1:
        rows.append(Row().put("by nothing", GOOD).put(", neither now nor then", DIM))
    elif quiet:
        rows += said("", [("not: " + ", ".join(quiet), DIM)], width, 0)
    top, limit = told.get("MAX_SM_CLOCK"), told.get("ENFORCED_POWER_LIMIT")
    if gpu.sm_clock is not None and top:
        texts = [plain(f"SM {gpu.sm_clock:.0f} of {top:.0f} MHz")]
        if gpu.memory_clock is not None:
            texts.append(plain(f"memory {gpu.memory_clock:.0f} MHz"))
        if limit:
            texts.append(plain(f"power limit {limit:.0f} W"))
        rows += said("", texts, width, 0)
    return rows


def health(gpu: Gpu, told: Told, range_seconds: int, now_ms: int, width: int) -> list[Row]:
    """Errors, links and the driver's advice, each in words: what is well says so."""
    rows = [heading("health", width)]
    for label, texts in (
        ("advice", _advice(told)),
        ("XID", _xid(told, range_seconds, now_ms)),
        ("ECC", _ecc(told)),
        ("memory", _remapped(told)),
        ("PCIe", _pcie(told, range_seconds)),
        ("NVLink", _nvlink(told)),
        ("energy", _energy(told, range_seconds)),
        ("cores", _cores(told)),
    ):
        if texts:
            rows += said(label, texts, width)
    missing = _missing(gpu, told)
    if missing:
        rows += said("no reading", [(missing, DIM)], width, 11)
    return rows if len(rows) > 1 else [*rows, Row().put("nothing is known", DIM)]


def _advice(told: Told) -> list[Text]:
    if told.get("gpumon_gpu_up") == 0:
        return [("the driver gives no readings of it", CRITICAL)]
    advice = told.whole("gpumon_gpu_recovery_action")
    if advice is None:
        return []
    if not advice:
        return [("the driver advises nothing", GOOD)]
    return [(f"the driver advises: {_ACTIONS.get(advice, f'action {advice}')}", CRITICAL)]


def _xid(told: Told, range_seconds: int, now_ms: int) -> list[Text]:
    answers = told.answers
    rows = answers.rows("xid")
    counted = {labels.get("code", ""): value for labels, _, value in rows if value > 0}
    if not rows:
        last = told.whole("XID_ERRORS")
        if last is None:
            return []
        return [(f"the last was {last}", WARNING)] if last else [("none", GOOD)]
    if not counted:
        return [("none since gpumon reads the kernel's log", GOOD)]
    new = sum(value for _, _, value in answers.rows("xid_new"))
    texts: list[Text] = [
        (", ".join(f"{code} × {number(value)}" for code, value in sorted(counted.items())), WARNING),
    ]
    last_s = max((value for _, _, value in answers.rows("xid_last")), default=None)
    if last_s is not None:
        ago = duration(max(0.0, now_ms / 1000 - last_s))
        texts.append((f"the last {ago} ago, {clock(round(last_s * 1000), date=True)}", PLAIN))
    texts.append((f"{number(new)} in the last {duration(range_seconds)}", CRITICAL if new else DIM))
    return texts


def _ecc(told: Told) -> list[Text]:
    lost, fixed = told.whole("ECC_DBE_VOL_TOTAL"), told.whole("ECC_SBE_VOL_TOTAL")
    if lost is None and fixed is None:
        return []
    texts: list[Text] = []
    if lost is not None:
        bad = f"{count(lost, 'error')} not corrected" if lost else "no error that was not corrected"
        texts.append((bad, CRITICAL if lost else GOOD))
    if fixed is not None:
        texts.append((f"{fixed} corrected", NOTICE if fixed else PLAIN))
    texts.append(("since the driver was loaded", DIM))
    ever = [(told.whole("ECC_DBE_AGG_TOTAL"), "not"), (told.whole("ECC_SBE_AGG_TOTAL"), "")]
    words = [f"{value} {word} corrected".replace("  ", " ") for value, word in ever if value]
    if words:
        texts.append((f"({', '.join(words)} in its life)", DIM))
    return texts


def _remapped(told: Told) -> list[Text]:
    fixed, lost = told.whole("CORRECTABLE_REMAPPED_ROWS"), told.whole("UNCORRECTABLE_REMAPPED_ROWS")
    texts: list[Text] = []
    if told.whole("ROW_REMAP_FAILURE"):
        texts.append(("remapping rows has failed: have the GPU replaced", CRITICAL))
    if told.whole("ROW_REMAP_PENDING"):
        texts.append(("rows wait for a reset to be remapped", WARNING))
    if fixed is not None or lost is not None:
        if not (fixed or lost or texts):
            texts.append(("no row was ever remapped", GOOD))
        else:
            texts.append((f"{lost or 0} rows remapped after errors, {fixed or 0} after corrected ones", PLAIN))
    retired = [(told.whole(f"RETIRED_{kind}"), kind) for kind in ("DBE", "SBE")]
    if any(value is not None for value, _ in retired):
        words = ", ".join(f"{value or 0} {kind}" for value, kind in retired)
        many = any(value for value, _ in retired)
        texts.append((f"pages retired: {words}" if many else "no page retired", WARNING if many else GOOD))
    if told.whole("RETIRED_PENDING"):
        texts.append(("pages wait for a reset to be retired", WARNING))
    return texts


def _pcie(told: Told, range_seconds: int) -> list[Text]:
    gen, lanes = told.whole("PCIE_LINK_GEN"), told.whole("PCIE_LINK_WIDTH")
    top, most = told.whole("PCIE_MAX_LINK_GEN"), told.whole("PCIE_MAX_LINK_WIDTH")
    texts: list[Text] = []
    if gen is not None or lanes is not None:
        now = f"gen {_or(gen)} × {_or(lanes)}"
        if top is None and most is None:
            texts.append((now, PLAIN))
        elif (gen, lanes) == (top, most):
            texts.append((f"{now}, its most", GOOD))
        else:
            # An idle link may run at a lower generation; fewer lanes are a fault.
            narrow = lanes is not None and most is not None and lanes < most
            texts.append((f"{now} of gen {_or(top)} × {_or(most)}", WARNING if narrow else NOTICE))
    replays, new = told.whole("PCIE_REPLAY_COUNTER"), told.answers.value("replays")
    if replays is not None:
        texts.append((f"{count(replays, 'replay')}" if replays != 0 else "no replay", NOTICE if replays else PLAIN))
    if replays and new is not None:
        texts.append((f"{number(new)} in the last {duration(range_seconds)}", WARNING if new >= 1 else DIM))
    return texts


def _nvlink(told: Told) -> list[Text]:
    links = told.answers.rows("links")
    errors = {
        word: value
        for name, word in (
            ("CRC_FLIT", "CRC"),
            ("CRC_DATA", "data CRC"),
            ("REPLAY", "replay"),
            ("RECOVERY", "recovery"),
        )
        if (value := told.whole(f"NVLINK_{name}_ERROR_COUNT_TOTAL")) is not None
    }
    texts: list[Text] = []
    if links:
        up = sum(1 for *_, value in links if value > 0)
        down = [labels.get("link", "") for labels, _, value in links if value <= 0]
        texts.append((f"{up} of {len(links)} links up", GOOD if not down else WARNING if up else DIM))
        if down and up:
            texts.append((f"down: {', '.join(down)}", WARNING))
    if errors:
        bad = ", ".join(f"{count(value, f'{word} error')}" for word, value in errors.items() if value)
        texts.append((bad, WARNING) if bad else (f"no {', '.join(errors)} error", PLAIN))
    return texts


def _energy(told: Told, range_seconds: int) -> list[Text]:
    total, used = told.get("TOTAL_ENERGY_CONSUMPTION"), told.answers.value("energy")
    texts: list[Text] = []
    if used is not None:
        texts.append((f"{_watt_hours(used)} in the last {duration(range_seconds)}", PLAIN))
    mean = told.answers.value("mean_power")
    if mean is not None:
        texts.append((f"mean power {mean:.0f} W", PLAIN))
    if total is not None:
        texts.append((f"{_watt_hours(total)} since the driver was loaded", DIM))
    return texts


def _watt_hours(millijoules: float) -> str:
    hours = millijoules / 3.6e6
    return f"{hours / 1000:.1f} kWh" if hours >= 1000 else f"{hours:.0f} Wh"


def _cores(told: Told) -> list[Text]:
    return [plain(f"{word} {percent(value)}") for name, word in _PROFILING if (value := told.get(name)) is not None]


def _missing(gpu: Gpu, told: Told) -> str:
    """What this GPU, or what exports it, has no reading of, where a person may look for it."""
    words = []
    if told.get("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE") is None:
        words.append("tensor, SM and DRAM activity (they need a Hopper or later, or DCGM's profiling)")
    if gpu.memory_temperature is None:
        words.append("memory temperature")
    if gpu.utilization is None and not gpu.stale:
        words.append("utilization (with MIG it is its instances')")
    if not told.answers.rows("xid") and told.get("XID_ERRORS") is None:
        words.append("XID errors (the kernel's log is not read)")
    if not told.answers.rows("links"):
        words.append("NVLinks")
    if gpu.fan is None:
        words.append("fan")
    return ", ".join(words)


def instances(told: Told, width: int) -> list[Row]:
    """Its MIG instances, beside each other where there is room."""
    parts = [part for ones in parts_of(told.answers.rows("mig")).values() for part in ones]
    if not parts:
        return []
    across = max(1, min(len(parts), width // _INSTANCE))
    each = share(width, across)
    rows = [heading("MIG", width, count(len(parts), "instance"))]
    down = -(-len(parts) // across)
    for y in range(down):
        row = Row()
        for x, part in enumerate(parts[y::down]):
            row.to(x * (each + GAP)).extend(part_line(part, each))
        rows.append(row)
    return rows


def processes(rows: Sequence[ProcessRow] | None, why: str, now_ms: int, width: int) -> list[Row]:
    """What runs on it; ``why`` nothing is known, where it is not."""
    if rows is None:
        return [heading("processes", width), Row().put(why or "reading …", DIM)]
    lines = [heading("processes", width, str(len(rows)) if rows else "")]
    if not rows:
        lines.append(Row().put("none", DIM))
    for one in sorted(rows, key=lambda one: -(one.memory_bytes or 0)):
        row = Row().put(str(one.pid), STRONG, 8).value(size(one.memory_bytes), width=8).put("  ")
        for label, text in (("SM", one.sm_ratio), ("CPU", one.cpu_ratio)):
            if text is not None:
                row.extend(field(label, percent(text), 6)).put(" ")
        words = " ".join(word for word in (one.name, one.user, one.container) if word)
        age = "" if one.started_ms is None else f"  {duration((now_ms - one.started_ms) / 1000)}"
        row.put(cut(words, max(0, width - row.width - len(age)))).put(age, DIM)
        lines.append(row)
    return lines


def _about(alert: Alert, gpu: Gpu) -> bool:
    index, uuid = alert.labels.get("gpu"), alert.labels.get("UUID")
    instance = alert.labels.get("instance")
    if instance and gpu.instance and instance != gpu.instance:
        return False
    return bool(uuid and uuid == gpu.uuid) or (not uuid and index == gpu.index)


def _switch(value: float | None) -> str:
    return "" if value is None else "on" if value else "off"


def _or(value: int | None) -> str:
    return ABSENT if value is None else str(value)
