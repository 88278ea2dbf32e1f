"""How many examples hypothesis tries: few and always the same ones in `make test`, new and many with a factor in
``$GPUMON_EXAMPLES``. Nothing is kept, and no example is judged by its time: the machine may be busy."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings


def settings_for(examples: int) -> settings:
    """For a test that is to try so many."""
    factor = float(os.environ.get("GPUMON_EXAMPLES", "1"))
    return settings(
        max_examples=max(1, round(examples * factor)),
        derandomize=factor == 1,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
