"""How commands are found in a page."""

from __future__ import annotations

import pytest

from tests.docs.shell import Command, first_part, inline, of_page, required, without_remark

PAGE = """# A page

Text with `gpumon query 'up'
--graph` in it, and `other`.

    gpumon query 'a  b'      # a remark
    made: up
    gpumon check a.yaml   what it does
    gpumon probe \\
        latency && gpumon alerts

```sh
# a remark
sudo -n TOKEN=x .venv/bin/gpumon doctor
```

```yaml
gpumon: no command
```
"""


def test_commands_of_a_page() -> None:
    found = list(of_page(PAGE, "a.md"))
    assert [(one.place, one.text) for one in found] == [
        ("a.md:6", "gpumon query 'a  b'"),
        ("a.md:8", "gpumon check a.yaml"),
        ("a.md:9", "gpumon probe latency"),
        ("a.md:9", "gpumon alerts"),
        ("a.md:14", "sudo -n TOKEN=x .venv/bin/gpumon doctor"),
    ]
    assert found[-1].program == "gpumon"
    assert found[-1].words == ".venv/bin/gpumon doctor"


def test_commands_in_running_text() -> None:
    assert inline(PAGE) == ["gpumon query 'up' --graph"]


def test_a_line_of_a_shell_that_is_no_command() -> None:
    with pytest.raises(ValueError, match=r"a\.md:2: 'frobnicate x' begins with no program"):
        list(of_page("```sh\nfrobnicate x\n```\n", "a.md"))


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("a 'b # c' \"d  e\"", "a 'b # c' \"d  e\""),
        ("a b # c", "a b"),
        ("a b  c", "a b"),
        ("a#b", "a#b"),
    ],
)
def test_remarks(line: str, typed: str) -> None:
    assert without_remark(line) == typed


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("gpumon alerts [--all]", "gpumon alerts"),
        ("gpumon x [-i 0,1 [--csv]] y", "gpumon x y"),
        ("gpumon query 'up[5m]'", "gpumon query 'up[5m]'"),
        ("gpumon export '{a=~\"[ab]\"}'", "gpumon export '{a=~\"[ab]\"}'"),
    ],
)
def test_what_may_be_left_out(text: str, rest: str) -> None:
    assert required(text) == rest


def test_what_stands_before_the_program() -> None:
    assert Command("", "sudo gpumon service install").program == "gpumon"


def test_pipes_and_redirections() -> None:
    assert first_part("gpumon series --markdown > docs/series.md") == "gpumon series --markdown"
    assert first_part("gpumon query 'a > 1' | jq .") == "gpumon query 'a > 1'"
