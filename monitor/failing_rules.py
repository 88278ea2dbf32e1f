"""Says in the log which rules cannot be evaluated, and when they can be again."""

from __future__ import annotations

import logging

from monitor import logs
from monitor.repeats import Trouble
from monitor.rules.engine import Engine

log = logging.getLogger(__name__)


class FailingRules:
    """Those of an engine that fail."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._failing: dict[tuple[str, str], Trouble] = {}
        """By group and name."""
        self._failures = 0

    def tell(self, now_ms: int) -> None:
        """After each evaluation. Costs nothing where none fails."""
        failures = self._engine.failures
        if failures == self._failures and not self._failing:
            return
        self._failures = failures
        rules = {
            (group.name, status.rule.name): status for group in self._engine.groups_status() for status in group.rules
        }
        for (group, name), status in rules.items():
            place = (group, name)
            if status.last_evaluation_ms != now_ms:
                continue
            if status.health == "err":
                about = logs.about(rule=name, group=group)["about"]
                trouble = self._failing.setdefault(place, Trouble(log, level=logging.ERROR, about=about))
                trouble.again(f"rule {name} of {group} fails: {status.last_error}")
            elif place in self._failing:
                self._failing.pop(place).over(f"rule {name} of {group} is evaluated again")
        for place in self._failing.keys() - rules.keys():
            del self._failing[place]
