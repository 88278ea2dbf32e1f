"""One simulated node for all of these tests, and a terminal that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemons import RunningDaemon, daemon, wait_for


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A simulated node with ten quiet minutes behind it."""
    with daemon(tmp_path_factory.mktemp("node"), "--simulate", "--past", "600") as one:
        wait_for(lambda: one.query("DCGM_FI_DEV_GPU_TEMP offset 5m"), "its past")
        yield one


@pytest.fixture(scope="session")
def url(node: RunningDaemon) -> str:
    """Where it is."""
    return f"unix:{node.socket}"
