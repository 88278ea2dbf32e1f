"""What is given up for a receiver that there is no more stays counted."""

from __future__ import annotations

from pathlib import Path

from tests.notify.parts import FakeSender, firing
from tests.notify.test_notifier import OPS, PAGE, Rig, policy, run, series

GONE = "gpumon_notifications_dead_total"
"""Of no receiver: of those that are gone."""


def test_what_is_open_and_what_was_dead_before_is_counted(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing("Old"))
        await rig.time.drive(lambda: rig.notifier.status().dead == 1)
        assert series(rig.notifier)[GONE] == 0, "its receiver is there, and counts it itself"
        rig.notifier.reload(policy([OPS], ["ops"]))
        assert series(rig.notifier)[GONE] == 1
        rig.notifier.reload(policy([OPS, PAGE], ["page"]))
        await rig.fire(firing("New"))
        rig.notifier.reload(policy([OPS], ["ops"]))
        await rig.time.drive(lambda: rig.notifier.status().dead == 2, move=False)
        assert series(rig.notifier)[GONE] == 2

    sender = FakeSender(lambda url, message: "down" if "page" in url else "")
    run(tmp_path, body, sender=sender, receivers=[OPS, PAGE], route=["page"], give_up_ms=20_000)
