"""``gpumon config schema`` and ``gpumon config reference``, and the line of `config init` that leads editors there."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.commands import config_schema
from monitor.commands.config_init import make_text
from monitor.commands.config_schema import hint, schema_path
from monitor.commands.driver_look import DriverLook
from monitor.config_fields import GPUMON_YAML
from monitor.field_schema import schema
from monitor.rules.rule_fields import RULE_FILE


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["config", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_schemas_are_printed() -> None:
    code, out, err = run("schema")
    assert (code, json.loads(out), err) == (0, schema(GPUMON_YAML), "")
    code, out, err = run("schema", "--rules")
    assert (code, json.loads(out), err) == (0, schema(RULE_FILE), "")


def test_a_schema_is_written(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.schema.json"
    code, out, err = run("schema", "-o", str(path))
    assert (code, out) == (0, "")
    assert "# yaml-language-server: $schema=gpumon.schema.json\n" in err
    assert json.loads(path.read_text()) == schema(GPUMON_YAML)
    assert run("schema", "-o", str(path))[0] == 0, "a newer one takes its place"
    mine = tmp_path / "gpumon.yaml"
    mine.write_text("node: {hostname: n1}\n")
    code, out, err = run("schema", "-o", str(mine))
    assert (code, out, mine.read_text()) == (1, "", "node: {hostname: n1}\n"), "typed for the file that it describes"
    assert err == f"gpumon config schema: {mine} is there and is no schema: name another file\n"
    code, _, err = run("schema", "-o", str(tmp_path / "none" / "x.json"))
    assert code == 1
    assert "cannot be written: No such file" in err


def test_the_reference_is_printed() -> None:
    code, out, _ = run("reference")
    assert code == 0
    assert all(f"## {key}\n" in out for key in GPUMON_YAML.sections)
    code, out, _ = run("reference", "log")
    assert code == 0
    assert out.startswith("## log\n\nWhere a server logs: one of the two.\n\n| field | type | default | meaning |\n")
    assert out.count("##") == 1
    assert "| `keep_firing_for` | duration | `0s` |" in run("reference", "--rules", "rule")[1]
    code, out, err = run("reference", "recievers")
    assert (code, out) == (1, "")
    assert 'no section is called "recievers" (did you mean "receivers"?); there are: gpumon.yaml, node,' in err


def test_config_init_leads_to_a_schema_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_text("gpu7", DriverLook(), ()).splitlines()[0]
    path = Path(first.removeprefix("# yaml-language-server: $schema="))
    assert path.is_absolute()
    assert json.loads(path.read_text(encoding="utf-8")) == schema(GPUMON_YAML)
    monkeypatch.setattr("monitor.commands.config_init.schema_path", lambda name: None)
    assert make_text("gpu7", DriverLook(), ()).startswith("# gpumon's configuration")


def test_a_path_with_a_space_is_a_url() -> None:
    path = Path("/home/a b/ü.json")
    words = hint(path).removeprefix("# yaml-language-server: $schema=")
    assert " " not in words
    assert url2pathname(urlsplit(words).path) == str(path)


def test_no_schema_is_found_where_none_is() -> None:
    assert schema_path("another.json") is None
    assert schema_path(config_schema.RULES_SCHEMA) is not None


def test_the_schemas_travel_in_the_wheel() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for name in (config_schema.CONFIG_SCHEMA, config_schema.RULES_SCHEMA):
        assert f'"schemas/{name}" = "monitor/data/{name}"' in text
