"""What is made from the click tree: ``docs/commands.md``, the manual pages in ``docs/man``, the table of completions.

    .venv/bin/python -m tests.docs.reference

writes them; a test holds them against the code.
"""

from __future__ import annotations

from pathlib import Path

from tests.docs import commands_page, man_pages
from tests.docs.shell import TOP
from tests.docs.tree import Node, kind_of, plain, tree

TABLE = TOP / "monitor" / "completion" / "commands.tsv"
MANUAL = TOP / "docs" / "man"


def made() -> dict[Path, str]:
    """All files that are made, and their texts."""
    top = tree()
    manual = {MANUAL / name: text for name, text in man_pages.pages(top).items()}
    return {TABLE: completions(top), TOP / "docs" / "commands.md": commands_page.page(top)} | manual


def completions(top: Node) -> str:
    """``monitor/completion/commands.tsv``; what it means stands in ``monitor.completion.table``."""
    lines: list[tuple[str, ...]] = []
    for node in top.walk():
        if node.path:
            lines.append(("command", " ".join(node.path), _brief(node.short)))
        for option in node.options():
            names = sorted((*option.opts, *option.secondary_opts), key=lambda name: not name.startswith("--"))
            again = "+" if option.multiple else ""
            cells = (",".join(names), kind_of(node, option), again, _brief(plain(option.help or "")))
            lines.append(("option", " ".join(node.path), *cells))
        for argument in node.arguments():
            again = "+" if argument.nargs == -1 else ""
            lines.append(("argument", " ".join(node.path), kind_of(node, argument), again))
    return "".join("\t".join(line) + "\n" for line in lines)


def _brief(text: str) -> str:
    """What fits beside a value in a terminal: the first sentence."""
    first = text.split(". ")[0].rstrip(".")
    return first if len(first) <= 70 else first[:69].rsplit(" ", 1)[0] + " …"


def main() -> None:
    """Write them."""
    files = made()
    for old in set(MANUAL.glob("*.1")) - files.keys():
        old.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(TOP))


if __name__ == "__main__":
    main()
