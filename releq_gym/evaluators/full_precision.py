"""What is looked at once before anything is chosen: how good the full-precision network is."""

from __future__ import annotations

import warnings

from releq_gym.evaluators.base import Evaluator
from releq_gym.evaluators.remembered import RememberedEvaluator

LEAST_LEARNT = 0.1
"""Of the images beyond the most frequent class, the share that a trained network gets right."""


def warn_near_chance(evaluator: Evaluator) -> None:
    """Warns of a network without its weights, or that is shown other numbers than in training.

    To be called once, before a search, a build or a training. Nothing is said of any evaluator but
    a live one; a `RememberedEvaluator` was looked at when what it remembers was measured.

    Args:
        evaluator: What is going to be asked.
    """
    if isinstance(evaluator, RememberedEvaluator):
        return
    from releq_gym.evaluators.live import LiveEvaluator

    if not isinstance(evaluator, LiveEvaluator) or evaluator.metric is not None:
        return
    counts = evaluator.splits.search.labels.bincount()
    chance = float(counts.max()) / evaluator.images
    accuracy = evaluator.full_precision_accuracy
    if chance < 1 and accuracy <= chance + LEAST_LEARNT * (1 - chance):
        warnings.warn(
            f"In full precision {evaluator.net} gets {100 * accuracy:.1f} % of the search images "
            f"right, hardly more than always naming one class would ({100 * chance:.1f} %). Are "
            "its weights loaded, are the classes numbered as in its training (folders by their "
            "names, in alphabetical order), and does it need mean and std "
            "(Network(mean=, std=))?",
            stacklevel=3,
        )
