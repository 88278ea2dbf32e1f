"""Installs what the live tier needs, once: ``python -m tests.live.install``. A second run only looks and is short."""

from __future__ import annotations

import sys
import time

from tests.fuzz.install import schemathesis
from tests.live import install_editor, install_prometheus, install_vllm
from tests.live.cache import InstallError, cache_root, locked, say


def main() -> int:
    """Install all; 0 when they are there, 1 with the reason on stderr."""
    begun = time.monotonic()
    root = cache_root()
    try:
        with locked(root):
            install_prometheus.install()
            install_prometheus.install_scripts()
            install_vllm.install()
            try:
                install_editor.install()
            except InstallError as error:  # an editor is no server: its tests say that it is not there
                say(f"no editor: {error}")
            try:
                schemathesis()
            except InstallError as error:  # nor is this one
                say(f"no schemathesis: {error}")
    except InstallError as error:
        print(f"live: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("live: interrupted; run this again to go on", file=sys.stderr)
        return 130
    say(f"all there, in {root}, after {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
