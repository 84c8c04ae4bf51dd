"""How far to lean towards fewer or more bits: a search along one line, by what is earned."""

from __future__ import annotations

from collections.abc import Generator

FIRST, MOST, GAP = 1.0, 64.0, 1 / 16
"""Leans: the first, the largest, and how near two of them may come."""


def leans() -> Generator[float, float, None]:
    """Leans to try, each of which has to be told what its walk earned; they come to an end.

    First none; then fewer bits, twice as far each time, until that earns less; if nothing was
    gained, more bits likewise; then the middles between the best one and its neighbours.
    """
    earned = {0.0: (yield 0.0)}
    for side in (-1.0, 1.0):
        lean = side * FIRST
        while abs(lean) <= MOST:
            earned[lean] = yield lean
            if earned[lean] < max(earned.values()):
                break
            lean *= 2
        if max(earned.values()) > earned[0.0]:
            break
    while True:
        tried = sorted(earned)
        best = tried.index(max(earned, key=earned.__getitem__))
        near = [tried[i] for i in (best - 1, best + 1) if 0 <= i < len(tried)]
        middles = [(one + tried[best]) / 2 for one in near if abs(one - tried[best]) > GAP]
        if not middles:
            return
        for lean in middles:
            earned[lean] = yield lean
