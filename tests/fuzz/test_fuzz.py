"""The targets without a fuzzer: their seeds, mutations that hypothesis makes of them, and the command's own parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.records import replace
from tests.fuzz import __main__ as command
from tests.fuzz import api, earlier, tally
from tests.fuzz.findings import FINDINGS
from tests.fuzz.target import NAMES, Broken, load
from tests.live.cache import InstallError
from tests.properties import settings_for

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wrong_with_the_seeds(name: str) -> None:
    target = load(name)
    for seed in target.seeds():
        target.run(seed)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wrong_with_seeds_that_were_cut_and_joined(name: str) -> None:
    target = load(name)
    parts = st.sampled_from([*target.seeds(), *(word.encode() for word in target.words)])
    cut = st.tuples(parts, st.integers(0, 60), st.integers(1, 200)).map(lambda one: one[0][one[1] : one[1] + one[2]])
    piece = st.one_of(parts, cut, st.binary(max_size=8))

    @settings_for(examples=12)
    @given(st.lists(piece, max_size=5).map(b"".join))
    def check(data: bytes) -> None:
        target.run(data[: target.longest])

    check()


def test_every_finding_has_its_test() -> None:
    for one in FINDINGS:
        path, _, name = one.test.partition("::")
        assert f"def {name}(" in (_ROOT / path).read_text(), one


def test_the_table_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "fuzz.md"
    page.write_text(f"before\n{tally.BEGIN}\nan old table\n{tally.END}\nafter\n")
    counts = {"promql": tally.Count(inputs=1_234_567, seconds=600, kept=9, hit=3, lines=4, open=["slow"])}
    tally.put(page, tally.table(tally.Tally(counts)))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "an old table" not in text
    assert "1,234,567 | 10 min | 9 | 75% of 4" in text
    assert "`promql`: slow" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place"):
        tally.put(page, "x")


def test_what_was_found_before_stays_until_it_is_mended(tmp_path: Path) -> None:
    for name in ("aa.bin", "aa.json", "bb.bin", "bb.json", "cc.json", "timeout-1", "oom-2"):
        (tmp_path / name).touch()
    left = earlier.sift(tmp_path, lambda path: path.name in ("aa.bin", "timeout-1"))
    assert [path.name for path in left] == ["aa.bin", "timeout-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa.bin", "aa.json", "timeout-1"]


def test_an_input_is_a_finding_while_it_raises_or_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "aa.bin"
    path.write_bytes(b"INFO")
    assert earlier.main(["vllm_log", str(path)]) == 0
    monkeypatch.setattr(earlier, "SLOW_SECONDS", -1.0)
    assert earlier.main(["vllm_log", str(path)]) == 1

    def broken(_data: bytes) -> None:
        raise Broken("it is wrong")

    monkeypatch.setattr("tests.fuzz.targets.vllm_log.TARGET", replace(load("vllm_log"), run=broken))
    with pytest.raises(Broken):
        earlier.main(["vllm_log", str(path)])


def test_a_description_is_tried_without_a_fuzzer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise InstallError("no fuzzer here")

    monkeypatch.setattr(command, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(command, "atheris", none)
    monkeypatch.setattr(api, "run", lambda _seconds: api.Report(requests=7, operations="1 of 1"))
    assert command.main(["openapi"]) == 0
    assert tally.read(tmp_path / "tally.json").requests == 7
    assert command.main(["promql"]) == 2


def test_a_target_that_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match="there is no target nvm; there are exposition, "):
        tally.names_of(["nvm"])
    assert tally.names_of([])[-1] == "openapi"
