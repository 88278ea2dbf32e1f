"""The roofline: which GPU is meant by a name, and the arithmetic of its shares."""

from __future__ import annotations

import pytest

from monitor.probes.roofline import Peak, by_server, by_weights, peak


@pytest.mark.parametrize(
    ("name", "teraflops", "terabytes"),
    [
        ("NVIDIA H200", 989.4, 4.8),
        ("NVIDIA H200 NVL", 835.5, 4.8),
        ("NVIDIA H100 80GB HBM3", 989.4, 3.35),
        ("NVIDIA H100 PCIe", 756.0, 2.0),
        ("NVIDIA H100 NVL", 835.5, 3.9),
        ("NVIDIA H20", 148.0, 4.0),
        ("NVIDIA A100-SXM4-80GB", 312.0, 2.039),
        ("NVIDIA A100 80GB PCIe", 312.0, 1.935),
        ("NVIDIA A100-SXM4-40GB", 312.0, 1.555),
        ("NVIDIA A100-PCIE-40GB", 312.0, 1.555),
        ("NVIDIA L4", 121.0, 0.3),
        ("NVIDIA L40S", 362.0, 0.864),
        ("NVIDIA A10G", 70.0, 0.6),
        ("NVIDIA A10", 125.0, 0.6),
        ("NVIDIA GH200 480GB", 989.4, 4.0),
        ("NVIDIA B200", 2250.0, 8.0),
        ("NVIDIA GeForce RTX 4090", 165.2, 1.008),
    ],
)
def test_peaks_by_name(name: str, teraflops: float, terabytes: float) -> None:
    found = peak(name)
    assert found is not None
    assert (found.flops / 1e12, found.bandwidth / 1e12) == pytest.approx((teraflops, terabytes))


@pytest.mark.parametrize("name", ["", "Tesla T4", "NVIDIA H2000", "AMD Instinct MI300X", "NVIDIA GeForce RTX 4090X"])
def test_what_is_not_known_has_no_peak(name: str) -> None:
    assert peak(name) is None


TOP = Peak("X", 1000e12, 5e12)


def test_shares_by_weights() -> None:
    # 16 GB in two bytes are 8 billion parameters. 100 steps a second of 32 tokens, over two GPUs.
    found = by_weights(TOP, weights_bytes=16e9, steps_per_s=100, tokens_per_s=3200, gpus=2)
    assert found is not None
    assert found.bandwidth == pytest.approx(16e9 * 100 / 2 / 5e12)
    assert found.compute == pytest.approx(2 * 8e9 * 3200 / 2 / 1000e12)
    assert found.intensity == pytest.approx(32), "the number of tokens, where a parameter has two bytes"
    assert (found.ridge, found.source, found.nearer) == (200, "weights", "memory bandwidth")
    assert by_weights(TOP, weights_bytes=0, steps_per_s=100, tokens_per_s=3200, gpus=2) is None
    assert by_weights(TOP, weights_bytes=1e9, steps_per_s=0, tokens_per_s=0, gpus=1) is None


def test_shares_by_the_server() -> None:
    found = by_server(TOP, 500e12, 1e12)
    assert found is not None
    assert (found.compute, found.bandwidth, found.intensity, found.nearer) == (0.5, 0.2, 500, "compute")
    half = by_server(TOP, 500e12, None)
    assert half is not None
    assert (half.bandwidth, half.intensity, half.nearer) == (None, None, None)
    assert by_server(TOP, None, None) is None
