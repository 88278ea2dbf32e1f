"""Fields of a ``config.json``, which have several names and, in files that people edit, any value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BadModel(Exception):
    """What is wrong with a ``config.json``, and what to do."""


MOST_LAYERS = 10_000
"""Known models have 126 at most; what is reckoned keeps an object for each."""
_MOST = 1 << 40
"""Of any other number: beyond it nothing is a size, and products no longer fit a float."""


class Fields:
    """Reads fields under the several names that they have."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        if not isinstance(values, Mapping):
            raise BadModel(f"{where or 'config.json'} is no object")
        self._values = values
        self._where = where
        self.varied: dict[str, int] = {}
        """Lists of numbers that differ from layer to layer, and the largest, which was taken for all."""

    def raw(self, name: str, default: Any = None) -> Any:
        """As it stands there; ``default`` where it is absent or null."""
        found = self._values.get(name)
        return default if found is None else found

    def child(self, *names: str) -> Fields:
        """The first of these that is an object, else these fields themselves."""
        for name in names:
            if isinstance(found := self.raw(name), Mapping):
                return Fields(found, name)
        return self

    def optional(self, *names: str, most: int = _MOST) -> int | None:
        """The first of these above 0. Raises ``BadModel`` for what is no number, or more than ``most``."""
        for name in names:
            found = self.raw(name)
            if isinstance(found, list) and found and all(isinstance(one, int) for one in found):
                if len(set(found)) > 1:
                    self.varied[name] = max(found)
                found = max(found)  # one for each layer
            if isinstance(found, int) and not isinstance(found, bool) and found > 0:
                if found > most:
                    size = f"{found:,}" if found < 10**18 else f"a number of {len(str(found))} digits"
                    raise BadModel(f'"{self.path(name)}" of its config.json is {size}: more than {most:,} is no model')
                return found
            if found is not None and not isinstance(found, (int, list)):
                raise BadModel(f'"{self.path(name)}" of its config.json is {found!r}, and not a number above 0')
        return None

    def whole(self, name: str, default: int = 0) -> int:
        """A number from 0, where 0 means something; ``default`` where it is absent."""
        found = self.raw(name, default)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= _MOST:
            raise BadModel(f'"{self.path(name)}" of its config.json is {str(found)[:40]}, and not a number from 0')
        return found

    def number(self, *names: str, most: int = _MOST) -> int:
        """As ``optional``, of what must be there."""
        found = self.optional(*names, most=most)
        if found is None:
            other = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
            raise BadModel(
                f'its config.json has no "{self.path(names[0])}"{other} above 0: is it that of a language model?'
            )
        return found

    def places(self, name: str) -> frozenset[int] | None:
        """Numbers of layers, from 0: as a list, or a text with commas. None where it is absent."""
        found = self.raw(name)
        if found is None:
            return None
        if isinstance(found, str):
            found = [int(one) if one.strip().isdecimal() else one for one in found.split(",") if one.strip()]
        if not isinstance(found, list) or any(isinstance(one, bool) or not isinstance(one, int) for one in found):
            raise BadModel(f'"{self.path(name)}" of its config.json is no list of layers')
        return frozenset(found)

    def path(self, name: str) -> str:
        """Its name, with that of the object that it stands in."""
        return f"{self._where}.{name}" if self._where else name
