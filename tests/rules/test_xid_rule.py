"""The shipped rule on XIDs names the codes that the kernel log source holds critical, and no other."""

import re

from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.sources.xid import CRITICAL_CODES


def test_the_rule_and_the_table_agree_on_what_is_critical() -> None:
    rules = [rule for group in load_rules((default_rules_path(),)).groups for rule in group.rules]
    (rule,) = [rule for rule in rules if rule.name == "GpuXidCritical"]
    found = re.search(r'code=~"([0-9|]+)"', rule.expr)
    assert found is not None
    assert {int(code) for code in found[1].split("|")} == set(CRITICAL_CODES)
