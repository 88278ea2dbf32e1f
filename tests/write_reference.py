"""Writes what is made from the fields' descriptions: the tables of docs/configuration.md, and the schemas. To run after
a field was added: ``python -m tests.write_reference``."""

from __future__ import annotations

from pathlib import Path

from monitor.api.openapi import document
from monitor.config_fields import GPUMON_YAML
from monitor.field_schema import to_json
from monitor.field_tables import fill
from monitor.rules.rule_fields import RULE_FILE

ROOT = Path(__file__).parent.parent


def made() -> dict[Path, str]:
    """Each file with what it is to hold."""
    page = ROOT / "docs" / "configuration.md"
    return {
        page: fill(page.read_text(encoding="utf-8"), GPUMON_YAML),
        ROOT / "docs" / "openapi.json": document().decode(),
        ROOT / "schemas" / "gpumon.schema.json": to_json(GPUMON_YAML),
        ROOT / "schemas" / "alerts.schema.json": to_json(RULE_FILE),
    }


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
