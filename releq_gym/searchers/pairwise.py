"""What an assignment loses, believed to be about a sum over its steps and pairs of steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_gym.cheapest import cheapest
from releq_gym.searchers import Player
from releq_gym.searchers.additive import DRAWN, AdditiveLoss

MOST_PRODUCTS = 400
"""Products of two choices that an integer program takes in; it slows down with them."""

ROUNDS = 3
"""Programs in a row where there are more of them, each around the solution of the one before."""


class PairwiseLoss(AdditiveLoss):
    """An `AdditiveLoss` and the interactions of some pairs of steps.

    A second-order expansion of the loss has a term per pair that is proportional to the
    perturbations of both. Such a perturbation is taken to be as the square root of the weights'
    quantization noise, so that an interaction that was measured at one bitwidth of each says what
    it is at all others. Every measured assignment corrects the interactions, too.

    Args:
        player: As of `AdditiveLoss`.
        scales: Likewise.
        rest: Likewise.
        noise: Likewise.
        lowered: Position of the bitwidth at which each step took part in a pair, ``[steps]``.
        interactions: By pair of steps, points that both lose beyond the sum of each, there. They
            say how large it may be; that it is so, `learn` has to be told.
    """

    def __init__(
        self,
        player: Player,
        scales: NDArray[np.float64],
        rest: float,
        noise: float,
        lowered: NDArray[np.intp],
        interactions: Mapping[tuple[int, int], float],
    ):
        super().__init__(player, scales, rest, noise)
        steps = np.arange(len(lowered))
        (start,) = player.digits([player.start])
        amplitudes = np.sqrt(self.shape)
        gained = amplitudes[steps, lowered] - amplitudes[steps, start]
        self._amplitudes = amplitudes / np.where(gained > 0, gained, 1.0)[:, None]
        self._pairs = np.array(list(interactions), dtype=np.intp).reshape(-1, 2)
        own = scales * self.shape[steps, lowered]
        # The second-order term of a pair is bounded by its own ones.
        bounds = np.sqrt(own[self._pairs].prod(axis=1))
        spread = np.maximum(bounds, np.abs(list(interactions.values())))
        singles = self._covariance
        self._mean = np.append(self._mean, np.zeros(len(spread)))
        self._covariance = np.diag(np.append(np.zeros(len(singles)), spread**2))
        self._covariance[: len(singles), : len(singles)] = singles

    def interactions(self, rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """Of each pair in points, ``[pairs, bitwidths of the one, bitwidths of the other]``.

        Args:
            rng: Draws interactions that may be so; None returns the expected ones.
        """
        factors = self._mean[self._rest + 1 :]
        if rng is not None:
            variances = np.diag(self._covariance)[self._rest + 1 :]
            drawn = rng.standard_normal(len(factors))
            factors = factors + DRAWN * np.sqrt(np.maximum(variances, 0.0)) * drawn
        one, other = self._amplitudes[self._pairs.T]
        return factors[:, None, None] * one[:, :, None] * other[:, None, :]

    def summed(self, digits: NDArray[np.intp]) -> float:
        """As of `AdditiveLoss`, and the interactions."""
        chosen = digits[self._pairs.T]
        together = self.interactions()[np.arange(len(self._pairs)), *chosen].sum()
        return max(super().summed(digits) + float(together), 0.0)

    def cheapest(
        self,
        costs: NDArray[np.float64],
        limit: float,
        rng: np.random.Generator,
        figures: ArrayLike = (),
        max_figures: ArrayLike = (),
    ) -> NDArray[np.intp] | None:
        """As of `AdditiveLoss`, exact up to `MOST_PRODUCTS`.

        Where there are more, the interactions are expanded around the solution of the program
        without them, then around the next: what a step loses beside the others' bitwidths there.
        """
        losses, tables = self.losses(rng), self.interactions(rng)
        if tables.size <= MOST_PRODUCTS:
            pairs = {
                (int(i), int(j)): table for (i, j), table in zip(self._pairs, tables, strict=True)
            }
            return cheapest(costs, losses, limit, figures, max_figures, pairs)
        digits = cheapest(costs, losses, limit, figures, max_figures)
        for _ in range(ROUNDS):
            if digits is None:
                return None
            expanded, constant = self._expanded(losses, tables, digits)
            found = cheapest(costs, expanded, limit + constant, figures, max_figures)
            if found is None or (found == digits).all():
                return digits
            digits = found
        return digits

    def _expanded(
        self, losses: NDArray[np.float64], tables: NDArray[np.float64], digits: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], float]:
        """Losses of single steps beside ``digits``, and what they count twice."""
        number = np.arange(len(tables))
        one, other = digits[self._pairs.T]
        expanded = losses.copy()
        np.add.at(expanded, self._pairs[:, 0], tables[number, :, other])
        np.add.at(expanded, self._pairs[:, 1], tables[number, one])
        return expanded, float(tables[number, one, other].sum())

    def _rows(self, digits: NDArray[np.intp]) -> NDArray[np.float64]:
        rows = super()._rows(digits)
        amplitudes = self._amplitudes[np.arange(digits.shape[1]), digits]
        rows[:, self._rest + 1 :] = amplitudes[:, self._pairs].prod(axis=2)
        return rows
