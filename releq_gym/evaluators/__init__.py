"""One question (what accuracy?), several answers: live, table, surrogate, synthetic."""

from releq_gym.evaluators.base import Evaluation, Evaluator

__all__ = ["Evaluation", "Evaluator"]
