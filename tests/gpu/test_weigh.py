"""The parts of the weighing that need no GPU: the load's count, the reader's polls over the stub driver."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from tests.gpu import weigh, workload
from tests.nvml_stub.control import Stub


def test_a_load_is_read_between_its_turns(tmp_path: Path) -> None:
    file = tmp_path / "load"
    workload.prepare(file)
    assert workload.read(file) is None
    file.write_bytes(struct.pack("6d", 3, 20, 0.5, 1000, 0.1, 3))
    before = workload.read(file)
    assert before is not None
    file.write_bytes(struct.pack("6d", 4, 40, 1.0, 2000, 0.3, 3))  # half written
    assert workload.read(file) is None
    file.write_bytes(struct.pack("6d", 4, 40, 1.0, 2000, 0.3, 4))
    after = workload.read(file)
    assert after is not None
    assert after.rates(before) == pytest.approx((40.0, 5000.0))
    with pytest.raises(ZeroDivisionError):
        after.rates(after)


def test_some_of_the_gpus_are_polled(monkeypatch: pytest.MonkeyPatch, nvml: Stub) -> None:
    nvml.gpus(4)
    for name, value in nvml.env().items():
        monkeypatch.setenv(name, value)
    with weigh.polling(2, 4, 0.01, gpm=True, watched=True) as (pid, taken):
        assert pid > 0
        until = time.monotonic() + 30
        while len(taken) < 3 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(taken) >= 3
    assert min(taken) > 0
