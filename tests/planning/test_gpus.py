"""GPUs by name and by size."""

from __future__ import annotations

import pytest

from monitor.planning.gpus import GIB, BadGpu, find, size_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100", "H100"),
        ("h100", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("l40s", "L40S"),
    ],
)
def test_names_in_any_spelling(text: str, name: str) -> None:
    assert find(text).name == name


def test_a_size_is_a_gpu_too() -> None:
    assert find("80GiB").memory == 80 * GIB
    assert find("24 GB").memory == 24 * 10**9
    assert (size_of("1.5G"), size_of("80"), size_of("-3GiB"), size_of("much")) == (3 * GIB // 2, None, None, None)


def test_what_is_unknown_says_what_is_known() -> None:
    with pytest.raises(BadGpu, match=r'"Voodoo2" is no GPU that is known here.*H200'):
        find("Voodoo2")
    with pytest.raises(BadGpu, match="A100-40GB or A100-80GB"):
        find("A100")
