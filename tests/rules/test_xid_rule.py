"""The shipped rules on XIDs name the codes of the tiers that the kernel log source knows, and no other."""

import re

from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.sources.xid import CRITICAL_CODES, XIDS


def test_the_rule_and_the_table_agree_on_what_is_critical() -> None:
    rules = [rule for group in load_rules((default_rules_path(),)).groups for rule in group.rules]
    (rule,) = [rule for rule in rules if rule.name == "GpuXidCritical"]
    found = re.search(r'code=~"([0-9|]+)"', rule.expr)
    assert found is not None
    assert {int(code) for code in found[1].split("|")} == set(CRITICAL_CODES)


def test_the_rest_but_for_programs_and_reports_is_worth_a_look() -> None:
    """Codes that are in no table are, too: the rule says which ones are not."""
    rules = [rule for group in load_rules((default_rules_path(),)).groups for rule in group.rules]
    (rule,) = [rule for rule in rules if rule.name == "GpuXidWarning"]
    found = re.search(r'code!~"([0-9|]+)"', rule.expr)
    assert found is not None
    assert {int(code) for code in found[1].split("|")} == {code for code, xid in XIDS.items() if xid.tier != "warning"}
