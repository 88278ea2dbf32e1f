"""Prompts that no server has seen: random token ids, exactly so many.

A prompt that is sent twice is served from the prefix cache, and measures the cache. Ids are drawn from the server's own
vocabulary, without those that begin or end a text.
"""

from __future__ import annotations

import random

from monitor.probes.errors import BadOptions

FIRST_ORDINARY = 256
"""Below this stand special tokens and single bytes in most vocabularies: they are left out where there are enough
others."""


class Prompts:
    """Draws token ids from ``range(vocabulary)`` less ``avoid``; all chance is ``rng``'s. Raises ``BadOptions`` where
    no id is left."""

    def __init__(self, rng: random.Random, vocabulary: int, avoid: frozenset[int] = frozenset()) -> None:
        first = FIRST_ORDINARY if vocabulary >= 4 * FIRST_ORDINARY else 0
        self._ids = [one for one in range(first, vocabulary) if one not in avoid]
        if not self._ids:
            raise BadOptions(f"a vocabulary of {vocabulary} tokens leaves none to write a prompt with")
        self._rng = rng

    def tokens(self, count: int) -> list[int]:
        """A fresh prompt of ``count`` ids."""
        return self._rng.choices(self._ids, k=count)
