"""Where the parts go, for every size of terminal."""

from __future__ import annotations

import itertools

from monitor.tui.layout import Needs, Plan, plan


def check(made: Plan, width: int, height: int) -> None:
    """No part is outside, and no two are on one cell."""
    taken: dict[tuple[int, int], str] = {}
    for name, box in made.boxes.items():
        assert box.width >= 0, (name, box)
        if box.height <= 0 or box.width <= 0:
            continue
        assert box.x >= 0, (name, box)
        assert box.x + box.width <= width, (name, box)
        if height >= 6:
            assert box.y >= 0, (name, box)
            assert box.y + box.height <= height, (name, box)
            for row in range(box.y, box.y + box.height):
                for part in ("left", "right"):
                    x = box.x if part == "left" else box.x + box.width - 1
                    assert taken.get((row, x), name) == name, (name, taken[(row, x)])
                    taken[(row, x)] = name


def test_parts_never_overlap_nor_leave_the_screen() -> None:
    sizes = itertools.product((40, 80, 120, 149, 150, 200, 400), (6, 10, 24, 25, 30, 40, 50, 100))
    shapes = [
        Needs(header, gpus, host, per_server * servers or 1, alerts, servers, sources)
        for header in (1, 2)
        for gpus in (0, 1, 2, 8, 16)
        for host in (1, 3)
        for servers, per_server in ((0, 0), (1, 4), (2, 4), (8, 3))
        for alerts in (0, 2, 30)
        for sources in (1, 3)
    ]
    for (width, height), needs in itertools.product(sizes, shapes):
        check(plan(width, height, needs), width, height)


def test_eight_gpus_servers_and_alerts_fit_in_80_by_24() -> None:
    made = plan(80, 24, Needs(header=2, gpus=8, host=3, engines=4, alerts=2, servers=1, sources=1))
    assert made.boxes["gpus"].height == 9
    assert made.boxes["engines"].height >= 4
    assert made.boxes["alerts"].height >= 3
    assert made.boxes["sources"].height == 1


def test_room_goes_to_graphs() -> None:
    needs = Needs(header=1, gpus=8, host=2, engines=3, alerts=2, servers=1, sources=1)
    assert plan(120, 40, needs).gpu_rows == 2
    assert plan(120, 40, needs).boxes["engines"].height >= 8
    wide = plan(200, 50, needs)
    assert wide.gpu_rows == 3
    assert wide.boxes["host"].x > wide.boxes["engines"].x


def test_without_servers_the_room_goes_to_the_host() -> None:
    made = plan(80, 24, Needs(header=1, gpus=0, host=3, engines=1, alerts=0, servers=0, sources=1))
    assert made.boxes["engines"].height == 1
    assert made.boxes["host"].height >= 10
