"""What options and arguments are read as: paths, names and numbers, without those that nobody means.

An empty text is what a shell makes of a variable that is not set, and ``nan`` lies in no range and outside of none.
"""

from __future__ import annotations

import math
import os
from typing import Any

import click


class FilePath(click.Path):
    """A path that is not empty: that would be the directory that one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if not os.fspath(value):
            self.fail('"" is no path (a variable that is not set?): name a file or a directory', param, ctx)
        return super().convert(value, param, ctx)


class Name(click.types.StringParamType):
    """A name that is not empty: what is left out may mean all, or the only one, and an empty name must not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name."""
        text = super().convert(value, param, ctx)
        if not text.strip():
            self.fail("the name is empty (a variable that is not set?): write one", param, ctx)
        return text


class Number(click.FloatRange):
    """A number between two bounds that is one: each comparison with ``nan`` is false, and so it passes all bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number to count with: write one such as 0.5 or 30", param, ctx)
        return number
