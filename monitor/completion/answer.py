"""What may stand where the cursor is. A shell's script asks by running ``gpumon`` with $_GPUMON_COMPLETE set.

bash gives its whole line in $COMP_LINE and $COMP_POINT, and what it takes for the word in $_GPUMON_WORD: it parts words
at ``=`` and ``:``, too. zsh and fish give the words as arguments, the last as far as it is typed.

The answer is a line for each value: ``word VALUE HELP``, ``part VALUE HELP`` for one after which more is typed, or
``file`` or ``folder``, for which the shell looks itself; tab-separated. Whatever goes wrong, it says nothing: a prompt
is no place for errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from monitor.completion import table
from monitor.completion.table import Command, Option

_OWN = frozenset(" \t'\"\\$`&|;<>()*?[]#!{}~")
_OWN_IN_DOUBLE = frozenset('"\\$`')
Answer = tuple[str, str, str]
"""Kind, value, help."""


def main() -> int:
    """Answer a shell; 0, or 1 where nothing can be said."""
    try:
        if os.environ.get("_GPUMON_COMPLETE") == "bash":
            point = int(os.environ["COMP_POINT"])
            # bash counts bytes in some locales, and characters in others: where it is the end, that is meant.
            line = os.environ["COMP_LINE"]
            answers = for_bash(line if point >= len(line) else line[:point], os.environ.get("_GPUMON_WORD", ""))
        else:
            answers = complete(sys.argv[1:] or [""])
        for kind, value, words_on_it in answers:
            sys.stdout.write(f"{kind}\t{value}\t{words_on_it}\n")
        sys.stdout.flush()
    except Exception:
        return 1
    return 0


def complete(words: Sequence[str]) -> list[Answer]:
    """What may stand in the place of the last of ``words``, which are those after ``gpumon``."""
    *before, last = words
    known = table.read()
    path, waiting, given, options_over = "", None, 0, False
    used: list[str] = []
    asked: dict[str, str] = {}
    for word in before:
        command = known[path]
        if waiting is not None:
            asked[waiting.names[0]] = word
            waiting = None
        elif options_over or not word.startswith("-") or word == "-":
            child = f"{path} {word}".strip()
            if word in command.children:
                path, given, used = child, 0, []
            else:
                given += 1
        elif word == "--":
            options_over = True
        else:
            name, has_value, value = word.partition("=")
            option = _option(command, name)
            if option is None:
                continue
            used.extend(option.names)
            if option.value and has_value:
                asked[option.names[0]] = value
            elif option.value and not (len(name) > 2 and not name.startswith("--")):  # not -d2h
                waiting = option
    command = known[path]
    if waiting is not None:
        return _values(waiting.value, last, asked)
    if last.startswith("-") and not options_over:
        name, has_value, value = last.partition("=")
        option = _option(command, name) if has_value and name.startswith("--") else None
        if option is not None:
            return [(kind, f"{name}={found}", text) for kind, found, text in _values(option.value, value, asked)]
        return _options(command, last, used)
    if command.children:
        children = ((name, known[f"{path} {name}".strip()].help) for name in command.children)
        return [("word", name, text) for name, text in children if name.startswith(last)]
    if command.arguments:
        value, again = command.arguments[min(given, len(command.arguments) - 1)]
        if given < len(command.arguments) or again:
            return _values(value, last, asked)
    return _options(command, last, used) if not last else []


def split(line: str) -> list[str]:
    """The words of a line as bash has them, the last as far as it is typed, which may be "": quotes are taken off, also
    one that is not closed yet."""
    return _parted(line)[0]


def _parted(line: str) -> tuple[list[str], str]:
    """The words, and the quote that is still open or ""."""
    words, word, quote, begun, escaped = [], "", "", False, False
    for char in line:
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            escaped = begun = True
        elif quote:
            if char == quote:
                quote = ""
            else:
                word += char
        elif char in "'\"":
            quote, begun = char, True
        elif char in " \t\n":
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + char, True
    return [*words, word], quote


def for_bash(line: str, word: str) -> list[Answer]:
    """What may stand at the end of ``line``. bash puts an answer in the place of what it takes for the ``word``: it
    wants the rest of the whole alone, and with marks before what it would take for its own: names come from servers,
    and one with ``$(…)`` in it is to run nothing."""
    words, quote = _parted(line)
    last, word = words[-1], word.lstrip("'\"")
    ahead = len(last) - len(word) if last.endswith(word) else 0
    found = []
    for kind, value, text in complete(words[1:]):
        rest = value[ahead:]
        if quote == "'":
            rest = rest.replace("'", "'\\''")
        else:
            own = _OWN_IN_DOUBLE if quote else _OWN
            rest = "".join(f"\\{char}" if char in own else char for char in rest)
        found.append((kind, rest, text))
    return found


def _option(command: Command, name: str) -> Option | None:
    exact = next((one for one in command.options if name in one.names), None)
    if exact is None and not name.startswith("--"):
        return next((one for one in command.options if name[:2] in one.names and one.value), None)
    return exact


def _options(command: Command, last: str, used: Sequence[str]) -> list[Answer]:
    found: list[Answer] = []
    for option in command.options:
        if option.names[0] in used and not option.again:
            continue
        names = [name for name in option.names if name.startswith(last)]
        if names:
            found.append(("word", names[0], option.help))
    return found


def _values(kind: str, last: str, asked: dict[str, str]) -> list[Answer]:
    if kind in ("file", "folder"):
        return [(kind, "", "")]
    if kind in ("", "text"):
        return []
    if kind.startswith("one:"):
        return [("word", value, "") for value in kind[4:].split(",") if value.startswith(last)]
    from monitor.completion import ask

    return ask.values(kind, last, asked)
