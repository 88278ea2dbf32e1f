"""What a server put into a label reaches programs whole, and commands no terminal."""

from __future__ import annotations

import io
import json

import pytest

from monitor.commands.for_programs import json_text, output, plain, shown

EVIL = "a\x1b]0;x\x07\x9b2J\x7f\u202eb\u200b\u2028\r\n\tc\U000e0041 é😀"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def harmless(text: str) -> bool:
    return all(letter.isprintable() or letter in "\n\t" for letter in text)


@pytest.mark.parametrize("indent", [0, 2])
def test_json_says_the_same_and_shows_nothing_that_commands(indent: int) -> None:
    written = json_text({"label": EVIL, EVIL: 1.5}, indent=indent)
    assert harmless(written), written
    assert json.loads(written) == {"label": EVIL, EVIL: 1.5}
    assert "é😀" in written
    assert ("\n" in written) is bool(indent)


def test_other_formats_are_exact_but_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain(EVIL) == "a·]0;x··2J··b···\n\tc· é😀"
    out = io.StringIO()
    assert output(out) is out
    monkeypatch.setattr("sys.stdout", out)
    assert shown(EVIL) == EVIL

    screen = Terminal()
    assert output(screen).write(EVIL) == len(EVIL), "as of any text file"
    assert screen.getvalue() == plain(EVIL)
    monkeypatch.setattr("sys.stdout", screen)
    assert shown(EVIL) == plain(EVIL)
