"""docs/configuration.md: its tables are those of the fields, no section is missing, its links and examples are good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitor.config import loads
from monitor.config_fields import GPUMON_YAML
from monitor.field_tables import anchor, fill, told_of
from monitor.notify.inhibition import DEFAULT_INHIBIT_RULES
from tests.write_reference import made

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


@pytest.mark.parametrize(("path", "text"), [pytest.param(path, text, id=path.name) for path, text in made().items()])
def test_what_is_made_of_the_fields_is_new(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: python -m tests.write_reference"


def test_every_section_has_its_table_once() -> None:
    assert sorted(told_of(DOCS.read_text(encoding="utf-8"))) == sorted(GPUMON_YAML.sections)


def test_a_table_that_tells_of_two_sections_is_true_of_both() -> None:
    nvml, kernel_log = GPUMON_YAML["nvml"], GPUMON_YAML["kernel_log"]
    assert nvml.fields == kernel_log.fields
    assert set(GPUMON_YAML["route"].names) < set(GPUMON_YAML["routes"].names)


def test_links_lead_somewhere() -> None:
    text = DOCS.read_text(encoding="utf-8")
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.M)}
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert links
    assert links - anchors == set()


def test_a_page_is_filled_with_what_the_fields_say() -> None:
    page = "## Mine\n\n<!-- fields: log -->\nold\n<!-- end -->\n\n### servers\n<!-- fields: servers -->\n<!-- end -->\n"
    filled = fill(page, GPUMON_YAML)
    assert "old" not in filled
    assert "| `unit` | text | | the systemd unit whose journal has it |\n<!-- end -->" in filled
    assert "so that errors are counted and shown: [Mine](#mine) |" in filled


def test_the_examples_are_good() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        assert loads(example).route is not None


def test_the_inhibit_rules_that_hold_by_themselves_are_there() -> None:
    text = DOCS.read_text(encoding="utf-8").partition("gpumon's own:")[2]
    rows = re.findall(r"^\| `(.*)` \| `(.*)` \| (.*) \|$", text, re.M)
    rules = [
        (source.replace("\\|", "|"), target.replace("\\|", "|"), tuple(re.findall("`(.*?)`", equal)))
        for source, target, equal in rows
    ]
    assert rules == [
        (",".join(map(str, rule.source_matchers)), ",".join(map(str, rule.target_matchers)), rule.equal)
        for rule in DEFAULT_INHIBIT_RULES
    ]
