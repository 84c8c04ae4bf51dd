"""Evaluators: one question (what accuracy?), several answers (table, synthetic, live)."""

from releq_gym.evaluators.base import Evaluation, Evaluator

__all__ = ["Evaluation", "Evaluator"]
