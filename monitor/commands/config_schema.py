"""``gpumon config schema`` and ``gpumon config reference``: what fields a configuration or a rule file may have, for
editors as a JSON Schema, and for people as tables."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import click

from monitor.config_fields import GPUMON_YAML
from monitor.field_schema import to_json
from monitor.field_tables import table
from monitor.rules.rule_fields import RULE_FILE
from monitor.yaml_reader import suggestion

CONFIG_SCHEMA, RULES_SCHEMA = "gpumon.schema.json", "alerts.schema.json"


def schema_path(name: str) -> Path | None:
    """Where a shipped schema is: inside the package where it was installed from a wheel, else in the tree. None where
    it is in neither place."""
    inside = Path(str(importlib.resources.files("monitor"))) / "data" / name
    beside = Path(__file__).resolve().parents[2] / "schemas" / name
    return next((path for path in (inside, beside) if path.is_file()), None)


def hint(path: Path) -> str:
    """The comment by which editors find a file's schema. A path with a space in it has to be written as a URL."""
    where = str(path) if not any(c.isspace() or not c.isprintable() for c in str(path)) else path.as_uri()
    return f"# yaml-language-server: $schema={where}"


def run_schema(output: Path, *, rules: bool) -> int:
    """Write a schema to ``output``, or to standard output for ``-``; 1 where it cannot be written."""
    text = to_json(RULE_FILE if rules else GPUMON_YAML)
    if str(output) == "-":
        click.echo(text, nl=False)
        return 0
    try:
        if output.is_file() and output.stat().st_size and not output.read_bytes().startswith(b"{"):
            click.echo(f"gpumon config schema: {output} is there and is no schema: name another file", err=True)
            return 1
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"gpumon config schema: {output} cannot be written: {error.strerror or error}", err=True)
        return 1
    what = "a rule file" if rules else "gpumon.yaml"
    click.echo(f"{output}: the schema of {what}. First line of a file beside it:", err=True)
    click.echo(f"# yaml-language-server: $schema={output.name}", err=True)
    return 0


def run_reference(names: Sequence[str], *, rules: bool) -> int:
    """Print the tables of these sections, or of all; 1 where there is none of a name."""
    book = RULE_FILE if rules else GPUMON_YAML
    unknown = [name for name in names if name not in book.sections]
    for name in unknown:
        near = suggestion(name, book.sections)
        click.echo(
            f'gpumon config reference: no section is called "{name}"{near}; there are: {", ".join(book.sections)}',
            err=True,
        )
    if unknown:
        return 1
    pages = [
        f"## {section.key}\n\n{section.about}\n\n{table(section)}\n"
        for section in book.sections.values()
        if not names or section.key in names
    ]
    click.echo("\n".join(pages), nl=False)
    return 0
