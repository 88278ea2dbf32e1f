"""Where ``gpumon`` and ``python -m monitor`` begin. A shell that asks at a TAB is answered before all else is loaded:
the command line takes several times as long."""

import os
import sys


def main() -> None:
    """Run the command line, or answer a shell."""
    if "_GPUMON_COMPLETE" in os.environ:
        from monitor.completion.answer import main as answer

        sys.exit(answer())
    from monitor import starting

    starting.begin()
    from monitor.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
