"""Bounds of numbers that flags and settings take, as tests of a value and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, without the ends that are ``open``; whole ones may be ``multiple_of`` some."""

    low: float = 0
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    multiple_of: int = 1

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and (self.multiple_of == 1 or value % self.multiple_of == 0)

    def __str__(self) -> str:
        low = _short(self.low)
        if self.high == math.inf:
            text = f"above {low}" if self.open_low else f"{low} or more"
        else:
            high = f"{'to below' if self.open_high else 'to'} {_short(self.high)}"
            text = f"{'above' if self.open_low else 'from'} {low} {high}"
        return text + (f", in multiples of {self.multiple_of}" if self.multiple_of > 1 else "")


def _short(number: float) -> str:
    """A bound as people write it: ``2**63`` and not its digits."""
    whole = int(number)
    for base in (2, 10):
        power = round(math.log(whole, base)) if whole > 1_000_000 else 0
        if power and base**power == whole:
            return f"{base}**{power}"
    return f"{number:g}" if number != whole else str(whole)
