"""Fits the surrogate of a deep network to a sample of measured assignments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from releq_gym.layers import BITWIDTHS

KNOTS = 24
"""Of the link between noise and accuracy."""

SHRINKAGE = 0.2
"""Weight of what the fitted noise departs from that of the weights, squared."""

SMOOTHNESS = 0.02
"""Weight of how the link bends, squared."""

LOGIT_ERROR = 0.05
"""Beyond the sampling of the images, what no model of this kind explains; in logits."""

LARGEST_NOISE = 2**44
"""All layers at their noisiest add up to about this: exact in float64, and fine enough."""

NEAR_POINTS = 5.0
"""Assignments that lose less than this are what searches choose from."""

Predict = Callable[[NDArray], NDArray[np.float64]]
"""From assignments ``[rows, layers]`` to accuracies ``[rows]``."""


@dataclass(frozen=True)
class Sample:
    """Measured assignments of one network.

    Attributes:
        bitwidths: ``[rows, layers]``.
        correct: Images classified correctly, or the mean over repeats, ``[rows]``.
        images: How many there were.
        full_precision_correct: Of the unquantized network.
        sqnr_db: Of every layer's weights at 1 to 8 bits, ``[layers, 8]``.
    """

    bitwidths: NDArray[np.uint8]
    correct: NDArray[np.float64]
    images: int
    full_precision_correct: int
    sqnr_db: NDArray[np.float64]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """``[rows]``, in [0, 1]."""
        return self.correct / self.images

    def rows(self, chosen: NDArray) -> Sample:
        """Some of the rows."""
        return replace(self, bitwidths=self.bitwidths[chosen], correct=self.correct[chosen])

    def logits(self) -> NDArray[np.float64]:
        """Log odds of a correct answer, finite at none and at all."""
        return np.log((self.correct + 0.5) / (self.images - self.correct + 0.5))


class NoiseModel(nn.Module):
    """Accuracy as a falling function of the noise that the layers add up to.

    The noise of a layer at a bitwidth starts from that of its weights (`Layer.sqnr_db`) times a
    factor for the layer, and departs from it where measurements say so. The link is piecewise
    linear and falling, from the logarithm of the summed noise to the log odds of a correct answer;
    without noise, those of full precision. The same idea as in Zhou et al., "Adaptive quantization
    for deep neural network", 2018, with a link that is fitted.

    Args:
        sample: What `fit_noise` fits it to.
    """

    def __init__(self, sample: Sample):
        super().__init__()
        layers, options = sample.sqnr_db.shape
        self.weights_noise = torch.as_tensor(-sample.sqnr_db * np.log(10) / 10)
        self.factors = nn.Parameter(torch.zeros(layers, 1).double())
        self.departures = nn.Parameter(torch.zeros(layers, options).double())
        self.falls = nn.Parameter(torch.full((KNOTS,), -1.0).double())
        full = sample.full_precision_correct
        self.top = float(np.log((full + 0.5) / (sample.images - full + 0.5)))
        with torch.no_grad():
            seen = self.summed(torch.as_tensor(sample.bitwidths.astype(np.int64)))
        # The layers' factors will move it, mostly down: a layer's noise does not reach the end.
        self.low, self.high = float(seen.min()) - 1.0, float(seen.max()) + 0.5

    def log_noise(self) -> Tensor:
        """Of every layer at 1 to 8 bits, ``[layers, 8]``."""
        return self.weights_noise + self.factors + self.departures

    def summed(self, bitwidths: Tensor) -> Tensor:
        """Logarithm of the noise of assignments, ``[rows]``."""
        return torch.logsumexp(self.log_noise()[torch.arange(bitwidths.shape[1]), bitwidths - 1], 1)

    def link(self, summed: Tensor) -> Tensor:
        """Log odds of a correct answer."""
        step = (self.high - self.low) / KNOTS
        knots = self.low + step * torch.arange(KNOTS, dtype=torch.float64)
        ramps = ((summed[:, None] - knots) / step).clamp(0, 1)
        return self.top - ramps @ nn.functional.softplus(self.falls)

    def penalty(self) -> Tensor:
        """What keeps the fit from following a few measurements."""
        departures = SHRINKAGE * self.departures.square().mean()
        return departures + SMOOTHNESS * self.falls.diff().square().mean()

    @torch.no_grad()
    def predict(self, bitwidths: NDArray) -> NDArray[np.float64]:
        """Accuracies ``[rows]`` of assignments ``[rows, layers]``."""
        summed = self.summed(torch.as_tensor(bitwidths.astype(np.int64)))
        return self.link(summed).sigmoid().numpy()


def fit_noise(sample: Sample) -> NoiseModel:
    """The noise model of a sample, by least squares on log odds that outliers bend little."""
    model = NoiseModel(sample)
    bitwidths = torch.as_tensor(sample.bitwidths.astype(np.int64))
    logits = torch.as_tensor(sample.logits())
    share = (sample.correct + 0.5) / (sample.images + 1)
    sampling = 1.0 / (sample.images * share * (1 - share))
    weights = torch.as_tensor(1.0 / (LOGIT_ERROR**2 + sampling))
    weights /= weights.mean()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=400, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        predicted = model.link(model.summed(bitwidths))
        errors = nn.functional.huber_loss(predicted, logits, reduction="none", delta=0.5)
        value = (weights * errors).mean() + model.penalty()
        value.backward()
        return value

    optimizer.step(loss)
    return model


def export(model: NoiseModel, images: int) -> dict[str, NDArray[np.int64]]:
    """``noise`` and ``limits`` of `releq_gym.evaluators.surrogate.NoiseTable`.

    Args:
        model: Fitted.
        images: That accuracies are counted in.
    """
    with torch.no_grad():
        noise = model.log_noise().exp().numpy()
        scale = LARGEST_NOISE / noise.max(axis=1).sum()
        grid = torch.linspace(model.low, model.high, 2**16, dtype=torch.float64)
        wrong = images * (1.0 - model.link(grid).sigmoid().numpy())
    table = np.zeros((len(noise), len(BITWIDTHS) + 1), dtype=np.int64)
    table[:, 1:] = np.rint(noise * scale)
    # The most noise under which at most so many images are wrong.
    positions = np.searchsorted(wrong, np.arange(images) + 0.5, side="right") - 1
    limits = np.floor(np.exp(grid.numpy()[positions]) * scale).astype(np.int64)
    limits[positions < 0] = -1
    limits[positions == len(grid) - 1] = np.iinfo(np.int64).max
    return {"noise": table, "limits": limits}


# What it is compared with


def fit_additive(sample: Sample) -> Predict:
    """A sum over layers in log odds, by ridge regression."""
    return _fit_ridge(sample, _one_hot)


def fit_neighbours(sample: Sample) -> Predict:
    """The same with a term for every pair of adjacent layers."""
    return _fit_ridge(sample, _one_hot_with_neighbours)


def fit_trees(sample: Sample) -> Predict:
    """Gradient-boosted trees on log odds."""
    from sklearn.ensemble import GradientBoostingRegressor

    trees = GradientBoostingRegressor(
        n_estimators=300, max_depth=4, learning_rate=0.05, subsample=0.7, random_state=0
    )
    trees.fit(sample.bitwidths, sample.logits())
    return lambda bitwidths: _sigmoid(trees.predict(bitwidths))


MODELS: dict[str, Callable[[Sample], Predict]] = {
    "noise": lambda sample: fit_noise(sample).predict,
    "additive": fit_additive,
    "additive + neighbours": fit_neighbours,
    "boosted trees": fit_trees,
}
"""The model that is shipped, and those that it is compared with."""


def _fit_ridge(sample: Sample, encode: Callable[[NDArray], NDArray]) -> Predict:
    from sklearn.linear_model import Ridge

    ridge = Ridge(alpha=1.0).fit(encode(sample.bitwidths), sample.logits())
    return lambda bitwidths: _sigmoid(ridge.predict(encode(bitwidths)))


def _one_hot(bitwidths: NDArray) -> NDArray[np.bool_]:
    return (bitwidths[:, :, None] == np.array(BITWIDTHS)).reshape(len(bitwidths), -1)


def _one_hot_with_neighbours(bitwidths: NDArray) -> NDArray[np.bool_]:
    single = bitwidths[:, :, None] == np.array(BITWIDTHS)
    pairs = single[:, :-1, :, None] & single[:, 1:, None, :]
    return np.hstack([single.reshape(len(single), -1), pairs.reshape(len(single), -1)])


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-logits))


# How good it is


class Quality(NamedTuple):
    """How predictions agree with measurements.

    Attributes:
        rows: How many.
        r2: Share of the variance of accuracies that is explained.
        rmse_points: Root mean square error.
        near_rows: How many lose less than `NEAR_POINTS`.
        near_rmse_points: Over those.
        kendall_tau: Rank correlation; None where all predictions or measurements are equal.
        spearman_top: Another one, over the tenth with the highest measured accuracies.
        bias_points: Mean of predicted minus measured accuracy.
    """

    rows: int
    r2: float
    rmse_points: float
    near_rows: int
    near_rmse_points: float
    kendall_tau: float | None
    spearman_top: float | None
    bias_points: float


def compare(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], full_precision: float
) -> Quality:
    """`Quality` of predicted accuracies, both ``[rows]``."""
    from scipy.stats import kendalltau, spearmanr

    errors = 100.0 * (predicted - measured)
    spread = 100.0 * measured.std()
    near = 100.0 * (full_precision - measured) < NEAR_POINTS
    top = measured >= np.quantile(measured, 0.9)
    return Quality(
        rows=len(measured),
        r2=float(1 - np.mean(errors**2) / spread**2),
        rmse_points=float(np.sqrt(np.mean(errors**2))),
        near_rows=int(near.sum()),
        near_rmse_points=float(np.sqrt(np.mean(errors[near] ** 2))) if near.any() else 0.0,
        kendall_tau=rank_correlation(kendalltau, predicted, measured),
        spearman_top=rank_correlation(spearmanr, predicted[top], measured[top]),
        bias_points=float(errors.mean()),
    )


def rank_correlation(
    measure: Callable[..., Any], predicted: NDArray[np.float64], measured: NDArray[np.float64]
) -> float | None:
    """`scipy.stats.spearmanr` or its like; None where there is nothing to rank."""
    if len(measured) < 3 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return None
    return float(measure(predicted, measured).statistic)


def held_out(
    sample: Sample, sources: NDArray, searched: list[int]
) -> dict[str, dict[str, Quality]]:
    """`Quality` of every model on what it was not fitted to, by model and by what was held out.

    Held out are, in turn: what each searcher asked for, and the quarter of the rows with the
    lowest average bitwidths.

    Args:
        sample: All rows.
        sources: Why each row is there, ``[rows]``.
        searched: Which of these are searchers, each held out in turn, all together ``searchers``.
    """
    averages = sample.bitwidths.mean(axis=1)
    low = averages <= np.quantile(averages, 0.25)
    full = sample.full_precision_correct / sample.images
    found: dict[str, dict[str, Quality]] = {}
    for name, fit in MODELS.items():
        predicted = np.full(len(averages), np.nan)
        for one in searched:
            out = sources == one
            if out.any():
                predicted[out] = fit(sample.rows(~out))(sample.bitwidths[out])
        asked = np.isfinite(predicted)
        by_low = fit(sample.rows(~low))(sample.bitwidths[low])
        found[name] = {
            "searchers": compare(predicted[asked], sample.accuracy[asked], full),
            "lowest quarter": compare(by_low, sample.accuracy[low], full),
        }
    return found
