"""The table of XID codes."""

from __future__ import annotations

import pytest

from monitor.sources.xid import COUNTED_CODES, CRITICAL_CODES, SEVERITIES, XIDS, describe

# Codes for which NVIDIA's catalogue gives a reset of the GPU, a reboot of the node, or the workflows of uncorrectable
# ECC and NVLink errors as the immediate action. 155 and 156 are left out: a link that is put down on purpose, and a
# retirement that waits for the next reset, stop no work.
NEED_A_RESET = {46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, *range(144, 151), 158}


def test_codes_that_need_a_reset_are_critical() -> None:
    assert set(CRITICAL_CODES) >= NEED_A_RESET


@pytest.mark.parametrize("code", [13, 31, 43, 45])
def test_faults_of_programs_are_no_fault_of_the_gpu(code: int) -> None:
    assert describe(code).tier == "application"
    assert describe(code).severity == "info"


@pytest.mark.parametrize("code", [63, 92, 94])
def test_memory_that_wears_out_is_a_warning(code: int) -> None:
    assert describe(code).tier == "warning"


def test_every_entry_is_whole() -> None:
    for code, xid in XIDS.items():
        assert xid.code == code
        assert xid.meaning
        assert not xid.meaning.endswith(".")
        assert len(xid.meaning) <= 64, xid.meaning
        assert xid.advice.endswith("."), code
        assert "  " not in xid.advice
        assert xid.severity == SEVERITIES[xid.tier]


def test_engines_count_up() -> None:
    assert describe(39).meaning == "copy engine 0 error"
    assert describe(135).meaning == "copy engine 19 error"
    assert describe(98).meaning == "video decoder 7 error"
    assert describe(105).meaning == "JPEG decoder 7 error"


def test_what_is_counted_from_the_start() -> None:
    assert set(CRITICAL_CODES) < set(COUNTED_CODES) <= set(XIDS)
    # Times 8 GPUs it must stay a small part of a node's series.
    assert len(COUNTED_CODES) <= 40


def test_a_code_that_is_not_known() -> None:
    unknown = describe(9999)
    assert unknown.code == 9999
    assert unknown.severity == "warning"
    assert "docs.nvidia.com" in unknown.advice
