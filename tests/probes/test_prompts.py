"""Prompts: their length, their ids, and that none comes twice."""

from __future__ import annotations

import random

import pytest

from monitor.probes.errors import BadOptions
from monitor.probes.prompts import FIRST_ORDINARY, Prompts


def test_a_prompt_has_exactly_so_many_tokens_of_the_vocabulary() -> None:
    prompts = Prompts(random.Random(1), 2000, frozenset({500, 501}))
    drawn = [prompts.tokens(n) for n in (0, 1, 10, 5000)]
    assert [len(one) for one in drawn] == [0, 1, 10, 5000]
    assert min(drawn[3]) >= FIRST_ORDINARY
    assert max(drawn[3]) < 2000
    assert not {500, 501} & set(drawn[3])


def test_a_small_vocabulary_is_used_whole() -> None:
    assert set(Prompts(random.Random(1), 4, frozenset({2})).tokens(1000)) == {0, 1, 3}


def test_no_prompt_comes_twice_and_a_seed_gives_the_same_again() -> None:
    prompts = Prompts(random.Random(7), 32000)
    drawn = [tuple(prompts.tokens(16)) for _ in range(1000)]
    assert len(set(drawn)) == 1000
    again = Prompts(random.Random(7), 32000)
    assert [tuple(again.tokens(16)) for _ in range(1000)] == drawn


def test_a_vocabulary_without_a_free_token_is_refused() -> None:
    with pytest.raises(BadOptions, match="vocabulary of 2 tokens"):
        Prompts(random.Random(1), 2, frozenset({0, 1}))
