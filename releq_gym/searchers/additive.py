"""What an assignment loses, believed to be about a sum over its steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_gym.cheapest import cheapest
from releq_gym.searchers import Player

SPREAD = 0.5
"""Relative, of a factor that all losses share, of one for each step, and of one for each entry."""

MISFIT = 0.15
"""How far a loss is from the best sum, relative to it: layers do not only add up."""

DRAWN = 0.5
"""Standard deviations that a draw strays; whole ones stray so far that little is learnt."""

SMALLEST = 1e-3
"""Points: the standard deviation of a loss that was measured without any noise."""


class AdditiveLoss:
    """A Gaussian belief about the loss of every step at every bitwidth, and about the rest.

    Before anything is measured, the loss of a step falls with its bitwidth as the power of the
    weights' quantization noise does (`Layer.sqnr_db`); how large it is, a probe says that lowers
    this step alone. Every measured assignment then corrects all of it by least squares (a Kalman
    filter): in common, step by step, and entry by entry.

    Args:
        player: Says what there is to choose, and how many images measure an accuracy.
        scales: Loss of each step in points per unit of noise power, ``[steps]``.
        rest: Loss in points with every step at its most bits.
        noise: Standard deviation in points between independent repeats of one assignment.

    Attributes:
        shape: Relative power of the noise that each choice adds over the most bits,
            ``[steps, bitwidths]``; falls along a row, to 0.
    """

    def __init__(self, player: Player, scales: ArrayLike, rest: float, noise: float):
        self._images, self._noise = player.problem.evaluator.images, noise
        self.shape = noise_power(player)
        mean = np.minimum(np.asarray(scales)[:, None] * self.shape, 100.0)
        steps, options = mean.shape
        self._offsets = np.arange(steps) * options
        same_step = np.kron(np.eye(steps), np.ones((options, options)))
        spread = SPREAD**2 * (1.0 + same_step + np.eye(mean.size))
        self._mean = np.append(mean.ravel(), rest)
        self._covariance = np.zeros((mean.size + 1, mean.size + 1))
        self._covariance[:-1, :-1] = np.outer(mean, mean) * spread
        self._covariance[-1, -1] = rest**2 + self.variance(rest)
        self._rest = mean.size

    def variance(self, loss_points: ArrayLike) -> NDArray[np.float64]:
        """Of a measured loss around the best sum, in squared points."""
        loss = np.maximum(loss_points, 0.0)
        # As in `Problem.caution`, but never less than half an image.
        sampling = 1e2 * np.maximum(loss, 50.0 / max(self._images, 1)) / max(self._images, 1)
        exact = sampling * bool(self._images) + SMALLEST**2
        return exact + self._noise**2 + (MISFIT * loss) ** 2

    def learn(self, digits: NDArray[np.intp], loss_points: float) -> None:
        """Takes up one measured assignment, ``digits`` ``[steps]``."""
        row = self._rows(digits[None])[0]
        shared = self._covariance @ row
        variance = float(row @ shared + self.variance(loss_points))
        self._mean = self._mean + shared * ((loss_points - row @ self._mean) / variance)
        self._covariance -= np.outer(shared, shared) / variance

    def predict(self, digits: NDArray[np.intp], quantiles: ArrayLike) -> NDArray[np.float64]:
        """Quantiles of what measuring would say, points ``[assignments, quantiles]``.

        Losses spread by factors rather than by points, so that beyond the rest they are taken to
        be lognormal.

        Args:
            digits: ``[assignments, steps]``.
            quantiles: Of the standard normal distribution.
        """
        rows = self._rows(digits)
        mean = rows @ self._mean
        variance = ((rows @ self._covariance) * rows).sum(axis=1) + self.variance(mean)
        rest = self._mean[self._rest]
        added = np.maximum(mean - rest, 10 * SMALLEST)
        log_variance = np.log1p(np.maximum(variance, 0.0) / added**2)[:, None]
        exponents = np.sqrt(log_variance) * np.asarray(quantiles) - log_variance / 2
        return rest + added[:, None] * np.exp(exponents)

    def losses(self, rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """Of each choice in points, ``[steps, bitwidths]``: not negative, not rising with bits.

        Args:
            rng: Draws losses that may be so; None returns the expected ones.
        """
        losses = self._mean[: self._rest].reshape(self.shape.shape)
        if rng is not None:
            spread = np.sqrt(np.maximum(np.diag(self._covariance)[: self._rest], 0.0))
            losses = losses + DRAWN * spread.reshape(losses.shape) * rng.standard_normal(
                losses.shape
            )
        losses = np.maximum(losses, 0.0)
        losses[:, -1] = 0.0
        return np.maximum.accumulate(losses[:, ::-1], axis=1)[:, ::-1]

    def summed(self, digits: NDArray[np.intp]) -> float:
        """The sum of the expected losses of one assignment in points, ``digits`` ``[steps]``."""
        return float(self.losses()[np.arange(len(digits)), digits].sum())

    def cheapest(
        self,
        costs: NDArray[np.float64],
        limit: float,
        rng: np.random.Generator,
        figures: ArrayLike = (),
        max_figures: ArrayLike = (),
    ) -> NDArray[np.intp] | None:
        """`releq_gym.cheapest.cheapest` within a limit on the sum of losses that `rng` draws."""
        return cheapest(costs, self.losses(rng), limit, figures, max_figures)

    def _rows(self, digits: NDArray[np.intp]) -> NDArray[np.float64]:
        """The sums as a matrix, ``[assignments, losses]``."""
        rows = np.zeros((len(digits), len(self._mean)))
        np.put_along_axis(rows, digits + self._offsets, 1.0, axis=1)
        rows[:, self._rest] = 1.0
        return rows


def noise_power(player: Player) -> NDArray[np.float64]:
    """`AdditiveLoss.shape`: never 0 below the most bits."""
    problem = player.problem
    ratios = np.array([layer.sqnr_db for layer in problem.layers])
    layers = 10.0 ** (-ratios[:, np.array(problem.bitwidths) - 1] / 10.0)
    power = np.array([layers[list(group)].sum(axis=0) for group in problem.groups])
    power = np.maximum.accumulate(power[:, ::-1], axis=1)[:, ::-1]
    below = np.arange(len(problem.bitwidths))[::-1]
    return power - power[:, -1:] + 1e-8 * below
