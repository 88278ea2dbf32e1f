"""``gpumon probe``. Its commands are made from the workloads, and those are loaded when one is asked for."""

from __future__ import annotations

import click


class _Probes(click.Group):
    """Its commands are made from the workloads, when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._made())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._made().get(cmd_name)

    def _made(self) -> dict[str, click.Command]:
        from monitor.commands.probe_group import commands

        return commands()


@click.group(cls=_Probes)
def probe() -> None:
    """Load a server and measure it: how fast can it go, and why no faster.

    `gpumon probe suite --quick` gives a baseline in two minutes. Exits 0 done, 1 failed or does not count, 2 a bad
    command line, 3 the server has other work and nothing was sent, 130 cancelled.
    """
