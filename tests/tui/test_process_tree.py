"""Processes under their parents, one for each PID."""

from __future__ import annotations

from monitor.client.wire import ProcessRow
from monitor.tui.process_tree import branches, descendants, merged, short

GIB = 1 << 30


def row(pid: int, gpu: str = "", parent: int | None = None, **more: object) -> ProcessRow:
    return ProcessRow(gpu, "", pid, GIB if gpu else None, parent=parent, **more)  # type: ignore[arg-type]


VLLM = (
    row(103, "0", 102),
    row(104, "1", 102),
    row(100, parent=1),
    row(102, parent=100),
)


def test_a_process_on_several_gpus_is_one_with_all_their_memory() -> None:
    rows = (row(7, "10", sm_ratio=0.9), row(7, "2", sm_ratio=0.1), row(3, "2"), row(9), row(8, "0"))
    found = merged(rows)
    assert [one.pid for one in found] == [8, 3, 7, 9]
    both = found[2]
    assert both.gpus == ["2", "10"]
    assert both.memory == 2 * GIB
    assert both.sm == 0.9
    assert found[3].memory is None
    assert found[3].gpus == []


def test_what_the_driver_does_not_say_is_absent_and_no_zero() -> None:
    (one,) = merged([ProcessRow("0", "", 5, None)])
    assert one.memory is None
    assert one.sm is None


def test_workers_stand_under_their_engine_core_under_their_server() -> None:
    drawn = [(one.pid, lead) for one, lead in branches(merged(VLLM))]
    assert drawn == [(100, ""), (102, "└─ "), (103, "   ├─ "), (104, "   └─ ")]


def test_roots_come_in_the_order_of_the_gpus_under_them() -> None:
    rows = (*VLLM, row(50, "5"), row(20, parent=1), row(21, "0", 20), row(60, "3", 999))
    found = branches(merged(rows))
    assert [one.pid for one, lead in found if not lead] == [20, 100, 60, 50], "one whose parent is not listed is a root"


def test_lines_go_on_past_a_branch_that_is_not_the_last() -> None:
    rows = (row(1, "0"), row(2, "0", 1), row(3, "0", 2), row(4, "1", 1))
    assert [lead for _, lead in branches(merged(rows))] == ["", "├─ ", "│  └─ ", "└─ "]


def test_parents_in_a_circle_are_all_shown() -> None:
    found = branches(merged((row(1, "0", 2), row(2, "0", 1), row(3, "0", 3))))
    assert sorted(one.pid for one, _ in found) == [1, 2, 3]


def test_descendants_at_any_depth() -> None:
    found = merged(VLLM)
    assert sorted(one.pid for one in descendants(100, found)) == [102, 103, 104]
    assert descendants(103, found) == []


def test_commands_without_interpreter_and_folders() -> None:
    assert short("python3 /usr/local/bin/vllm serve m --port 1") == "vllm serve m --port 1"
    assert short("/usr/bin/python3.12 train.py") == "train.py"
    assert short("python3 -m torch.distributed.run a.py") == "python3 -m torch.distributed.run a.py"
    assert short("/usr/local/bin/tritonserver --model /m") == "tritonserver --model /m"
    assert short("VLLM::Worker_TP0") == "VLLM::Worker_TP0"
    assert short("python3") == "python3"
    assert short("dir/") == "dir/"
    assert short("") == ""


def test_an_interpreter_stands_for_a_program_that_is_not_told() -> None:
    assert short("/usr/bin/python3 /usr/local/bin/vllm serve x") == "vllm serve x"
    assert short("/usr/bin/python3 …") == "python3 …"
