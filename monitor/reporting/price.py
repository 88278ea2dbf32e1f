"""Prices: ``0.30/kWh`` of electricity, ``2.50 EUR/GPUh`` of a GPU's hour."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

_CURRENCY = r"[^ \t\r\n0-9./,+-]{1,4}"
_NUMBER = r"[0-9]{1,9}(\.[0-9]{1,9})?"
PATTERN = (
    rf"^ *(({_CURRENCY}) *)?({_NUMBER})( *({_CURRENCY}))? */ *"
    r"([Kk][Ww][Hh]|[Gg][Pp][Uu]-?[Hh]([Oo][Uu][Rr])?) *$"
)
"""A price, but that a currency stands on one side alone."""
_PRICE = re.compile(PATTERN)
FORMS = "0.30/kWh, 0.30 EUR/kWh or 2.50/GPUh"


class BadPrice(ValueError):
    """What is no price. The text says what could stand there."""


class Price(msgspec.Struct, frozen=True):
    """Of electricity, or of an hour of a GPU."""

    amount: float
    unit: Literal["kWh", "GPUh"]
    currency: str = ""

    def __str__(self) -> str:
        currency = f" {self.currency}" if self.currency else ""
        return f"{self.amount:g}{currency}/{self.unit}"


def parse(text: str) -> Price:
    """One price. Raises ``BadPrice``."""
    found = _PRICE.search(text)
    if found is None or (found[2] and found[6]):
        raise BadPrice(f'"{text[:40]}" is no price: write {FORMS}')
    return Price(float(found[3]), "kWh" if found[7].lower() == "kwh" else "GPUh", found[2] or found[6] or "")


def check(prices: tuple[Price, ...]) -> str:
    """Why prices cannot be used together, or ""."""
    units = [one.unit for one in prices]
    if len(set(units)) < len(units):
        return f"two prices per {next(unit for unit in units if units.count(unit) > 1)}: give one"
    if len({one.currency for one in prices}) > 1:
        return "prices in two currencies cannot be added: give both in one"
    return ""
