"""The tree-structured Parzen estimator of optuna."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@SEARCHERS.register("tpe")
def tpe(env: gym.Env, rng: np.random.Generator) -> None:
    """What is likely among the good assignments and unlikely among the others (TPE).

    The tree-structured Parzen estimator (Bergstra et al., 2011) as optuna has it, with its default
    settings, on the cautious objective. Bitwidths are whole numbers to it rather than categories,
    since their order means something, and all layers one joint distribution (``multivariate``),
    since they share what may be lost. Neither was tuned. A suggestion that is known already
    changes in one layer after the other until it is not; the estimator is told what was executed
    instead.

    Its own time grows with the assignments that it knows and with the layers.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Seeds the estimator, and changes suggestions that are known.

    Raises:
        ModuleNotFoundError: If optuna is not installed; says how to install it.
    """
    optuna = _require_optuna()
    player = Player(env, until_spent=True)
    with _quiet(optuna):
        sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**32)), multivariate=True)
        study = optuna.create_study(sampler=sampler, direction="maximize")
    digits = optuna.distributions.IntDistribution(0, len(player.problem.bitwidths) - 1)
    space: dict[str, BaseDistribution] = {str(step): digits for step in range(player.steps)}
    while not player.done:
        trial = study.ask(space)
        suggested = tuple(player.problem.bitwidths[trial.params[name]] for name in space)
        played = player.ask(player.unknown_near(suggested, rng))
        if player.spent:
            return
        worth = player.worth(played)
        if played.choice == suggested:
            study.tell(trial, worth)
            continue
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        params = dict(zip(space, player.digits([played.choice])[0].tolist(), strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=worth))


def _require_optuna() -> ModuleType:
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ModuleNotFoundError(
            "The searcher 'tpe' needs optuna, which is not installed: "
            "pip install 'releq_gym[live]'",
            name="optuna",
        ) from None
    return optuna


@contextlib.contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Nothing is said of the new study, nor that ``multivariate`` is experimental in optuna 4."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)
