"""Groups of commands that are listed in the order in which people need them."""

from __future__ import annotations

import click


class InOrder(click.Group):
    """Lists its commands in the order in which they were added: the ones that people need first, first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)
