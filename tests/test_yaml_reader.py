"""Positions, durations, and what is refused."""

from pathlib import Path

import pytest

from monitor.yaml_reader import Problems, compose, format_duration, parse_duration_ms, read_text, suggestion


def problems_of(text: str) -> list[str]:
    problems = Problems("f.yaml")
    compose(text, problems)
    return [str(problem) for problem in problems.found]


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0", 0), ("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("1d", 86_400_000), ("1y2w", 32_745_600_000)],
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "5m5m", "5s1m", "-5m", "1.5h", "5 m", "5x"])
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration_ms(text) is None


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0s"), (90_000, "1m30s"), (604_800_000, "1w"), (90_061_001, "1d1h1m1s1ms")]
)
def test_durations_are_written_as_prometheus_does(ms: int, text: str) -> None:
    assert format_duration(ms) == text


def test_bad_yaml_is_told_with_its_place() -> None:
    assert problems_of("a: 1\nb: [1, 2\n")[0].startswith("f.yaml:3:1: not valid YAML")
    assert problems_of("a: \x01")[0].startswith("f.yaml:1:1: not valid YAML: control characters")


def test_aliases_are_refused() -> None:
    assert "aliases are not supported" in problems_of("a: &x 1\nb: *x\n")[0]


def test_deep_nesting_is_refused_and_ends_nothing() -> None:
    assert problems_of("[" * 100_000)


def test_every_problem_has_its_place() -> None:
    problems = Problems("f.yaml")
    root = compose("size: big\nwait: 5\nkind: rad\nflag: 1\nextra: 2\nsize: 3\n", problems)
    assert root is not None
    fields = root.fields(["size", "wait", "kind", "flag", "extras"])
    assert fields["size"].number() is None
    assert fields["wait"].duration_ms() is None
    assert fields["kind"].choice("red", "blue") is None
    assert fields["flag"].boolean() is None
    assert [str(p) for p in sorted(problems.found)] == [
        'f.yaml:1:7: expected a number, found "big"',
        'f.yaml:2:7: expected a duration such as 30s or 5m, found "5"',
        'f.yaml:3:7: "rad" is none of red, blue (did you mean "red"?)',
        'f.yaml:4:7: expected true or false, found "1"',
        'f.yaml:5:1: unknown field "extra" (did you mean "extras"?)',
        'f.yaml:6:1: the field "size" stands here a second time',
    ]


def test_bounds() -> None:
    problems = Problems("f.yaml")
    root = compose("[0, 1.5, 3, 90s]", problems)
    assert root is not None
    items = root.items()
    assert items[0].number(1, 2) is None
    assert items[1].integer() is None
    assert items[2].integer(1, 5) == 3
    assert items[3].duration_ms(0, 60_000) is None
    assert len(problems.found) == 3


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"a: 1\nb: \xff\n")
    for name, words in [("missing.yaml", "No such file"), (".", "Is a directory"), ("bytes.yaml", "is not UTF-8")]:
        problems = Problems(name)
        assert read_text(tmp_path / name, problems) is None
        assert words in str(problems.found[0])
    assert (problems.found[0].line, problems.found[0].column) == (2, 4)


def test_a_suggestion_is_made_only_for_what_is_near() -> None:
    assert suggestion("intervall", ["interval", "name"]) == ' (did you mean "interval"?)'
    assert suggestion("xyz", ["interval", "name"]) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n\tb: 1\n", "f.yaml:2:1: not valid YAML: found character that cannot start any token: this is a tab"),
        ("a: *:9519\n", 'stands in quotes, "*…"'),
        ("a: @x\n", 'stands in quotes, "@…"'),
        (
            "a:\n  - b: 1\n- c: 2\n",
            "f.yaml:3:1: not valid YAML: did not find expected key: is this item of a list indented as those",
        ),
        ("a:\n  - b: 1\n   c: 2\n", "this line is indented by 3, and those that it goes on from, in line 2, by 2"),
        ("a:\n  b: 1\n c: 2\n", "3:2: not valid YAML: did not find expected key: this line is indented by 1"),
        ("- a\nb: 1\n", "line 1 begins a list here, and this is no item of it: is it indented right?"),
        ("a: b: c\n", 'in this context: a text with ": " in it stands in quotes'),
        ("a: b\n  c: d\n", "is this line indented as far as those that it belongs with?"),
        ("a: 'it's'\n", "a text with quotes in it stands as a whole in the others, or in none"),
        ('a: "x\nb: 1\n', "the quote of line 1, column 4 is not closed"),
        ("a: {b: 1\nc: 2\n", "is the { of line 1, column 4 closed?"),
        ("a: [x}\n", "is the [ of line 1, column 4 closed?"),
    ],
)
def test_common_slips_have_their_cure(text: str, said: str) -> None:
    (problem,) = problems_of(text)
    assert said in problem
