"""The tokens of a query, read one after the other, and what is said where one does not fit."""

from __future__ import annotations

from typing import NoReturn

from monitor.promql.errors import PromQLError
from monitor.promql.lexer import Token, tokens_of


class Cursor:
    """Stands before the next token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = tokens_of(text)
        self._next = 0
        self.contexts: list[str] = []
        """What is being read, as far as an error says it: the innermost comes last."""

    @property
    def end(self) -> int:
        """Where the last token that was gone over ends."""
        if not self._next:
            return 0
        token = self._tokens[self._next - 1]
        return token.at + len(token.text)

    def peek(self) -> Token:
        """The next token. Raises ``PromQLError`` where the text could be cut no further."""
        token = self._tokens[self._next]
        if token.kind == "error":
            raise PromQLError(token.text, token.at, text=self.text)
        return token

    def following(self) -> Token:
        """The token behind the next."""
        return self._tokens[min(self._next + 1, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Go over the next token, and give it."""
        token = self.peek()
        if token.kind != "end":
            self._next += 1
        return token

    def stands(self, *texts: str) -> bool:
        """Whether the next token is one of these keywords, operators or marks."""
        return self.peek().word in texts

    def accept(self, *texts: str) -> Token | None:
        """Go over the next token if it is one of these, and give it."""
        return self.take() if self.stands(*texts) else None

    def expect(self, text: str, context: str = "", wanted: str = "") -> Token:
        """Go over the next token, which must be this one. Raises ``PromQLError``."""
        return self.accept(text) or self.unexpected(context, wanted)

    def unexpected(self, context: str = "", wanted: str = "") -> NoReturn:
        """Refuse the next token."""
        token = self.peek()
        context = context or (self.contexts[-1] if self.contexts else "")
        message = f"unexpected {token.described()}"
        message += f" in {context}" if context else ""
        message += f", expected {wanted}" if wanted else ""
        raise PromQLError(message, token.at, text=self.text)

    def error(self, message: str, at: int) -> PromQLError:
        """An error at an offset."""
        return PromQLError(message, at, text=self.text)
