"""Records: what is the same for a dataclass and for a struct of msgspec.

What is loaded with the daemon is a ``msgspec.Struct``: Python compiles the methods of a dataclass one at a time when
its module is loaded, which takes twenty times as long, and what it compiled stays in memory. A dataclass stays where a
struct cannot do it: a field that is left out of a comparison, or is filled in by ``__post_init__``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from msgspec import Struct, structs

if TYPE_CHECKING:  # mypy compares its arguments with the fields, of structs too
    from dataclasses import replace as replace
else:

    def replace(record, /, **changes):
        """A copy with other values in the named fields. Raises ``TypeError`` for a name that is no field's."""
        if isinstance(record, Struct):
            return structs.replace(record, **changes)
        return dataclasses.replace(record, **changes)


def fields(record: object) -> tuple[str, ...]:
    """The names of a record's fields; none of what is no record."""
    if isinstance(record, Struct):
        return record.__struct_fields__
    if dataclasses.is_dataclass(record):
        return tuple(one.name for one in dataclasses.fields(record))
    return ()
