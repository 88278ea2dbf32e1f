"""A real yaml-language-server with the schemas: it completes fields, explains them, and marks what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.commands.config_init import make_text
from monitor.commands.config_schema import RULES_SCHEMA, hint, schema_path
from monitor.commands.driver_look import DriverLook
from monitor.rules.rule_file import default_rules_path
from tests.live import install_editor
from tests.live.editor import Editor, editor

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("editor")


@pytest.fixture(scope="module")
def vim(folder: Path) -> Iterator[Editor]:
    command = install_editor.command()
    if command is None:
        pytest.skip(install_editor.why_not() or "yaml-language-server is not installed: python -m tests.live.install")
    with editor(command, folder, {"./by-name.json": "named*.yaml"}) as one:
        yield one


def configuration(text: str) -> str:
    """As somebody writes it into what `gpumon config init` made: the line that leads to the schema is its first."""
    return make_text("gpu7", DriverLook(), ()).splitlines()[0] + "\n" + text


def rules(text: str) -> str:
    schema = schema_path(RULES_SCHEMA)
    assert schema is not None
    return f"{hint(schema)}\n{text}"


def marks(found: list[dict[str, object]]) -> list[tuple[int, str]]:
    """Lines from 1, with what is said, the first line being the one that leads to the schema."""
    return sorted((int(one["range"]["start"]["line"]), str(one["message"])) for one in found)  # type: ignore[index]


def test_it_completes_what_may_stand_in_a_configuration(vim: Editor, folder: Path) -> None:
    path = folder / "gpumon.yaml"
    vim.open(
        path, configuration("history:\n  retention: 7d\n  \nalerting:\n  evaluator: \nroute:\n  receiver: a\n  \n")
    )
    fields = vim.completions(path, 3, 2)
    assert fields.keys() == {"enabled", "max_size"}
    assert "the oldest is deleted" in fields["max_size"]
    assert "Size, at least 16MiB. Without it: `2GiB`." in fields["max_size"]
    assert vim.completions(path, 5, 13).keys() >= {"local", "remote"}
    below = vim.completions(path, 8, 2).keys()
    assert {"group_by", "routes"} <= below
    assert not {"matchers", "continue"} & below, "not of the first route"


def test_it_explains_what_stands_there(vim: Editor, folder: Path) -> None:
    path = folder / "explained.yaml"
    text = "sources:\n  vllm:\n    servers:\n      - url: http://a:1\n        canary: {still: 1m}\n"
    assert vim.open(path, configuration(text)) == []
    said = vim.hover(path, 5, 18)
    assert "How long the engine has to have made no step." in said
    assert "Duration, 5s to 1h. Without it: `30s`." in said
    assert "The servers." in vim.hover(path, 2, 3)


def test_it_marks_what_the_daemon_would_refuse(vim: Editor, folder: Path) -> None:
    text = (
        "histroy: {}\n"
        "history: {retention: 5}\n"
        "sources: {nvml: {enabled: maybe}}\n"
        "alerting: {evaluator: locale}\n"
        "receivers: [{name: a}, {name: b, apprise: nonsense}]\n"
    )
    found = marks(vim.open(folder / "wrong.yaml", configuration(text)))
    assert [one for one in found if one[0] > 1 or "histroy" in one[1]] == [
        (1, "Property histroy is not allowed."),
        (2, "Expected a duration such as 30s or 5m, 1h to 10y."),
        (3, "Expected true or false."),
        (4, 'Value is not accepted. Valid values: "local", "remote".'),
        (5, "Expected an apprise URL, such as slack://…, mailtos://… or json://…."),
        (5, "Give apprise or webhook."),
    ]
    assert (1, 'Missing property "route".') in found, "two receivers need a route"


def test_it_marks_nothing_in_what_is_good(vim: Editor, folder: Path) -> None:
    whole = make_text("gpu7", DriverLook(), ())
    assert vim.open(folder / "init.yaml", whole) == []
    odd = "sources: {vllm: {discover: yes, servers: [http://a:1]}}\nprobes: {keep: 1_000}\nhistory:\napi: {listen: ~}\n"
    assert vim.open(folder / "odd.yaml", configuration(odd)) == []
    assert vim.open(folder / "alerts.yaml", rules(default_rules_path().read_text(encoding="utf-8"))) == []


def test_it_completes_and_marks_a_rule_file(vim: Editor, folder: Path) -> None:
    path = folder / "mine.yaml"
    vim.open(path, rules("groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up == 0\n        \n"))
    fields = vim.completions(path, 6, 8)
    assert {"for", "keep_firing_for", "labels", "annotations"} <= fields.keys()
    assert "until then it is pending" in fields["for"]
    assert "PromQL." in vim.hover(path, 5, 10)
    text = (
        "groups:\n"
        "  - name: g\n"
        "    rules:\n"
        "      - {alert: A, expr: up, fro: 5m}\n"
        "      - {alert: A, record: b, expr: up}\n"
        "      - {alert: A}\n"
        "      - {alert: A, expr: up, for: 5}\n"
        "      - {record: a, expr: up, annotations: {summary: x}}\n"
        "      - {expr: up}\n"
    )
    assert marks(vim.open(folder / "wrong-rules.yaml", rules(text))) == [
        (4, "Property fro is not allowed."),
        (5, "Give either alert or record."),
        (6, 'Missing property "expr".'),
        (7, "Expected a duration such as 30s or 5m."),
        (8, "A recording rule has no annotations."),
        (9, "Give alert or record."),
    ]


def test_a_schema_beside_the_file_is_found(vim: Editor, folder: Path) -> None:
    """As `gpumon config schema -o` says to write it."""
    schema = schema_path(RULES_SCHEMA)
    assert schema is not None
    (folder / "rules.json").write_bytes(schema.read_bytes())
    path = folder / "beside.yaml"
    found = vim.open(path, "# yaml-language-server: $schema=rules.json\ngroups:\n  - {nam: g}\n")
    assert "Property nam is not allowed." in {one["message"] for one in found}


def test_an_editor_may_be_told_by_the_name_of_the_file(vim: Editor, folder: Path) -> None:
    schema = schema_path(RULES_SCHEMA)
    assert schema is not None
    (folder / "by-name.json").write_bytes(schema.read_bytes())
    found = vim.open(folder / "named-1.yaml", "groups:\n  - {nam: g}\n")
    assert "Property nam is not allowed." in {one["message"] for one in found}
