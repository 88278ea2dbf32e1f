"""The PromQL that the screens of the GPUs and of one GPU ask for, by id. The names are dcgm-exporter's, so that a plain
Prometheus answers most of it; what gpumon alone has is absent there.

A MIG instance has its GPU's labels, and ``GPU_I_ID`` and ``GPU_I_PROFILE`` beside them; of a GPU
itself that label is "".
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.client.results import Lens
from monitor.client.wire import Query
from monitor.samples import escape

WHOLE = 'GPU_I_ID=""'
PART = 'GPU_I_ID!=""'

REASONS: tuple[tuple[str, str, str, str], ...] = (
    ("hw_thermal", "hw thermal slowdown", "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS", "too hot: hardware"),
    ("sw_thermal", "sw thermal slowdown", "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS", "too hot: driver"),
    ("hw_power_brake", "power brake", "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS", "power supply"),
    ("hw_slowdown", "hw slowdown", "", "hardware, any cause"),
    ("sw_power_cap", "power cap", "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS", "at its power limit"),
    ("sync_boost", "sync boost", "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS", "waits for another GPU"),
)
"""What holds clocks down, gravest first: its name in ``gpumon_gpu_throttle_active``, words for it, the driver's counter
of nanoseconds where there is one, and why in few words."""
_OTHER_NAMES = {"sw_power_cap": "DCGM_FI_DEV_POWER_VIOLATION", "sw_thermal": "DCGM_FI_DEV_THERMAL_VIOLATION"}
"""What a dcgm-exporter has instead."""

NOW = (
    "GPU_UTIL|MEM_COPY_UTIL|ENC_UTIL|DEC_UTIL|FB_USED|FB_FREE|FB_RESERVED|FB_TOTAL|GPU_TEMP|MEMORY_TEMP|SLOWDOWN_TEMP"
    "|SHUTDOWN_TEMP|GPU_MAX_OP_TEMP|MEM_MAX_OP_TEMP|POWER_USAGE|POWER_USAGE_INSTANT|ENFORCED_POWER_LIMIT"
    "|POWER_MGMT_LIMIT|SM_CLOCK|MEM_CLOCK|MAX_SM_CLOCK|MAX_MEM_CLOCK|PSTATE|FAN_SPEED|CLOCKS_EVENT_REASONS"
    "|CLOCK_THROTTLE_REASONS|PCIE_MAX_LINK_GEN|PCIE_MAX_LINK_WIDTH|PCIE_LINK_GEN|PCIE_LINK_WIDTH|PCIE_REPLAY_COUNTER"
    "|MIG_MODE|PERSISTENCE_MODE|COMPUTE_MODE|ECC_CURRENT|TOTAL_ENERGY_CONSUMPTION|ECC_(SBE|DBE)_(VOL|AGG)_TOTAL"
    "|(UNCORRECTABLE|CORRECTABLE)_REMAPPED_ROWS|ROW_REMAP_(PENDING|FAILURE)|RETIRED_(SBE|DBE|PENDING)|XID_ERRORS"
    "|NVLINK_(CRC_FLIT|CRC_DATA|REPLAY|RECOVERY)_ERROR_COUNT_TOTAL"
)


@dataclass(frozen=True, slots=True)
class Past:
    """A graph of one GPU: its id, and its PromQL with ``{s}`` for the labels and ``{w}`` for a rate's window."""

    id: str
    expr: str

    def promql(self, labels: str, window: str) -> str:
        """The query."""
        return self.expr.replace("{s}", "{" + labels + "}").replace("{w}", f"[{window}]")


PASTS: tuple[Past, ...] = (
    Past("util_h", "DCGM_FI_DEV_GPU_UTIL{s}"),
    Past("memory_h", "DCGM_FI_DEV_FB_USED{s}"),
    Past("temp_h", "DCGM_FI_DEV_GPU_TEMP{s}"),
    Past("power_h", "DCGM_FI_DEV_POWER_USAGE{s}"),
    Past("sm_clock_h", "DCGM_FI_DEV_SM_CLOCK{s}"),
    Past("memory_temp_h", "DCGM_FI_DEV_MEMORY_TEMP{s}"),
    Past("tensor_h", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{s}"),
    Past("dram_h", "DCGM_FI_PROF_DRAM_ACTIVE{s}"),
    Past("sm_h", "DCGM_FI_PROF_SM_ACTIVE{s}"),
    Past("busy_h", "DCGM_FI_DEV_MEM_COPY_UTIL{s}"),
    Past("pcie_rx_h", "DCGM_FI_PROF_PCIE_RX_BYTES{s} or rate(gpumon_gpu_pcie_receive_bytes_total{s}{w})"),
    Past("pcie_tx_h", "DCGM_FI_PROF_PCIE_TX_BYTES{s} or rate(gpumon_gpu_pcie_transmit_bytes_total{s}{w})"),
    Past("nvlink_rx_h", "DCGM_FI_PROF_NVLINK_RX_BYTES{s} or rate(gpumon_gpu_nvlink_receive_bytes_total{s}{w})"),
    Past("nvlink_tx_h", "DCGM_FI_PROF_NVLINK_TX_BYTES{s} or rate(gpumon_gpu_nvlink_transmit_bytes_total{s}{w})"),
    Past("memory_clock_h", "DCGM_FI_DEV_MEM_CLOCK{s}"),
    Past("fan_h", "DCGM_FI_DEV_FAN_SPEED{s}"),
    Past("enc_h", "DCGM_FI_DEV_ENC_UTIL{s}"),
    Past("dec_h", "DCGM_FI_DEV_DEC_UTIL{s}"),
)
"""The graphs of one GPU, the most wanted first."""


def labels_of(instance: str, index: str) -> str:
    """The labels that select a GPU, and no MIG instance of it."""
    return f"{selecting(instance, index)},{WHOLE}"


def selecting(instance: str, index: str) -> str:
    """The labels that select a GPU with all that is of it."""
    more = f',instance="{escape(instance)}"' if instance else ""
    return f'gpu="{escape(index)}"{more}'


_PARTS = (
    "DCGM_FI_DEV_FB_(USED|FREE|RESERVED|TOTAL)|DCGM_FI_PROF_(GR_ENGINE_ACTIVE|SM_ACTIVE|PIPE_TENSOR_ACTIVE|DRAM_ACTIVE)"
)


_GRAPHS = ("util_h", "memory_h", "temp_h", "power_h")
_MORE_GRAPHS = ("sm_clock_h", "sm_h", "tensor_h", "dram_h", "pcie_rx_h", "pcie_tx_h")


def every(lens: Lens, *, few: bool) -> tuple[Query, ...]:
    """What the list of all GPUs asks for beside the picture; more graphs where there are ``few``."""
    window = lens.window
    whole, part = f"{WHOLE}{lens.node}", f"{PART}{lens.node}"
    asked = [
        Query("mig", f'{{__name__=~"{_PARTS}",{part}}}'),
        Query("prof", f'{{__name__=~"DCGM_FI_PROF_(PIPE_TENSOR|DRAM)_ACTIVE",{whole}}}'),
        *(
            Query(one.id.removesuffix("_h"), one.promql(whole, window))
            for one in PASTS
            if one.id.startswith(("pcie", "nvlink"))
        ),
    ]
    graphs = _GRAPHS + _MORE_GRAPHS if few else _GRAPHS
    asked += [
        Query(one.id, one.promql(whole, window), lens.range_seconds, lens.step_seconds)
        for one in PASTS
        if one.id in graphs
    ]
    return tuple(asked)


def one(lens: Lens, instance: str, index: str) -> tuple[Query, ...]:
    """What the screen of one GPU asks for."""
    whole, any_of = labels_of(instance, index), selecting(instance, index)
    span = f"[{lens.range_seconds}s]"
    asked = [
        Query("now", f'{{__name__=~"DCGM_FI_DEV_({NOW})|gpumon_gpu_(up|recovery_action)",{whole}}}'),
        Query("prof", f'{{__name__=~"DCGM_FI_PROF_.+",{whole}}}'),
        Query("active", f"gpumon_gpu_throttle_active{{{whole}}}"),
        Query("active_share", f"avg_over_time(gpumon_gpu_throttle_active{{{whole}}}{span})"),
        Query("energy", f"increase(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{whole}}}{span})"),
        Query("mean_power", f"avg_over_time(DCGM_FI_DEV_POWER_USAGE{{{whole}}}{span})"),
        Query("replays", f"increase(DCGM_FI_DEV_PCIE_REPLAY_COUNTER{{{whole}}}{span})"),
        Query("links", f"gpumon_gpu_nvlink_up{{{whole}}}"),
        Query("xid", f"gpumon_gpu_xid_errors_total{{{any_of}}}"),
        Query("xid_new", f"increase(gpumon_gpu_xid_errors_total{{{any_of}}}{span}) > 0"),
        Query("xid_last", f"gpumon_gpu_last_xid_timestamp_seconds{{{any_of}}} > 0"),
        Query("mig", f'{{__name__=~"{_PARTS}",{any_of},{PART}}}'),
    ]
    for reason, _, counter, _ in REASONS:
        if counter:
            expr = f"rate({counter}{{{whole}}}{span})"
            if reason in _OTHER_NAMES:
                expr += f" or rate({_OTHER_NAMES[reason]}{{{whole}}}{span})"
            asked.append(Query(f"share_{reason}", expr))
    asked += [Query(past.id, past.promql(whole, lens.window), lens.range_seconds, lens.step_seconds) for past in PASTS]
    return tuple(asked)
