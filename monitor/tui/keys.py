"""Keys as people read them, and what the keys of a screen do: for the last line, the help, the list of commands and
the mouse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual.binding import Binding
from textual.dom import DOMNode

_NAMES = {
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "escape": "esc",
    "slash": "/",
    "colon": ":",
    "comma": ",",
    "full_stop": ".",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "minus": "-",
    "plus": "+",
    "pageup": "pgup",
    "pagedown": "pgdn",
}
_KEYS = {name: key for key, name in _NAMES.items()}


def shown(key: str) -> str:
    """A key's name as it is printed: ``shift+←`` for ``shift+left``."""
    *with_these, last = key.split("+")
    return "+".join((*with_these, _NAMES.get(last, last)))


def key_of(text: str) -> str:
    """The key that a printed name stands for, as the toolkit calls it; "" where it stands for none alone."""
    if text in ("+", "-"):
        return _KEYS[text]
    *with_these, last = text.split("+")
    if last in _KEYS:
        return "+".join((*with_these, _KEYS[last]))
    return text if text and " " not in text and "-" not in text and "…" not in text else ""


@dataclass(frozen=True, slots=True)
class Bound:
    """An action and the keys that do it."""

    action: str
    words: str
    keys: tuple[str, ...]
    node: DOMNode
    """Whose action it is: a screen or the application."""

    @property
    def name(self) -> str:
        """The action without its parameters."""
        return self.action.partition("(")[0]


def bound(node: DOMNode, until: type[DOMNode], hidden: Iterable[str] = ()) -> list[Bound]:
    """What the keys of a screen or of the application do, those that work now, its own class's first. Classes from
    ``until`` on upwards are Textual's own. ``hidden`` are keys that do something else already."""
    taken = set(hidden)
    found: dict[str, Bound] = {}
    for each in type(node).__mro__:
        if not issubclass(each, until):
            continue
        for binding in Binding.make_bindings(each.__dict__.get("BINDINGS", ())):
            if binding.key in taken:
                continue
            taken.add(binding.key)
            name, _, parameters = binding.action.partition("(")
            if not binding.description or node.check_action(name, (parameters,)) is False:
                continue
            before = found.get(binding.action)
            keys = (binding.key,) if before is None else (*before.keys, binding.key)
            found[binding.action] = Bound(binding.action, binding.description, keys, node)
    return list(found.values())


def reworded(found: Sequence[Bound], said: Iterable[tuple[str, str]]) -> list[Bound]:
    """The same, with the words that a screen's last line has for a key alone."""
    words = {key: what for text, what in said if (key := key_of(text))}
    made = []
    for one in found:
        better = next((words[key] for key in one.keys if key in words), one.words)
        made.append(Bound(one.action, better, one.keys, one.node))
    return made
