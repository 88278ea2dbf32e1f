"""One GPU, opened."""

from __future__ import annotations

from monitor.samples import escape
from monitor.tui.screens.readings import ReadingsScreen


class GpuScreen(ReadingsScreen):
    """Every reading of it."""

    def about(self, **about: object) -> None:
        """``key`` is what it is known by in a snapshot: its instance and the index."""
        key = about["key"]
        assert isinstance(key, tuple)  # noqa: S101 - what a list of them opens
        instance, name = key
        more = f',instance="{escape(instance)}"' if instance else ""
        super().about(subject=f"GPU {name}", selector=f'{{gpu="{escape(name)}"{more}}}')
