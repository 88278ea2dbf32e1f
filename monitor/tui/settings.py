"""What a person chose and wants to find again: a small JSON file in the user's state directory, always written whole.

No setting is worth a failure: a file that cannot be understood is set aside and said, one that cannot be written is
said once.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from monitor.client.discover import user_state
from monitor.client.format import clean

_MOST = 1 << 20
"""A file that is larger is none of ours."""


def settings_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where they are: ``$XDG_STATE_HOME/gpumon/tui.json``."""
    return user_state(environment) / "tui.json"


class Settings:
    """Settings by name; each value is what JSON can hold. Without a path they last as long as the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._values: dict[str, object] = {}
        self._changed: dict[str, object] = {}
        self._unwritable = False
        self.problem = ""
        """What is to be said of the file; empty when it was said, by whoever says it."""
        if path is not None:
            self._values = self._read(path)

    def get(self, name: str) -> object | None:
        """A setting, or None."""
        return self._values.get(name)

    def set(self, name: str, value: object) -> None:
        """Choose. None is no choice. It is written by ``write``."""
        if self._values.get(name) != value:
            self._values[name] = self._changed[name] = value

    @property
    def waits(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._changed) and self._path is not None

    def write(self) -> None:
        """Write what was chosen since the last time, and keep what others have written meanwhile. It may block: on a
        thread, or at the end."""
        path, changed = self._path, dict(self._changed)
        if path is None or not changed:
            return
        for name, value in changed.items():
            if self._changed.get(name) == value:
                self._changed.pop(name, None)
        told, self.problem = self.problem, ""
        stored = self._read(path)
        if self.problem:
            stored = self._values
        self.problem = told
        values = {name: one for name, one in {**stored, **changed}.items() if one is not None}
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(prefix=".tui-", suffix=".json", dir=path.parent)
            try:
                with os.fdopen(number, "w", encoding="utf-8") as out:
                    json.dump(values, out, indent=1, sort_keys=True)
                    out.write("\n")
                    out.flush()
                    os.fsync(out.fileno())
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            if not self._unwritable:
                self._unwritable = True
                self.problem = clean(f"settings are not kept: {path}: {error.strerror or error}")

    def _read(self, path: Path) -> dict[str, object]:
        try:
            with path.open("rb") as file:
                told = file.read(_MOST + 1)
            if len(told) > _MOST:
                raise ValueError("it is too large")
            found = json.loads(told.decode("utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no object")
        except FileNotFoundError:
            return {}
        except OSError as error:
            self.problem = clean(f"settings were not read: {path}: {error.strerror or error}")
            return {}
        except (ValueError, RecursionError):
            aside = path.with_suffix(".json.broken")
            with contextlib.suppress(OSError):
                path.replace(aside)
            self.problem = clean(f"settings were not understood and are set aside: {aside}")
            return {}
        return found
