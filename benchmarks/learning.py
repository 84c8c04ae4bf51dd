"""Lets an agent learn until it has asked for as many assignments as it may."""

from __future__ import annotations

from typing import Any

from agents.base import Agent
from releq_gym.ledger import Ledger


def learn_until_spent(agent: Agent, ledger: Ledger, steps: int) -> None:
    """Closes the agent too.

    Args:
        agent: On environments with this ledger.
        ledger: With a budget.
        steps: It takes so many at most, whether or not it asks for anything new.
    """
    agent.learn(steps, _UntilSpent(ledger))
    agent.close()


class _UntilSpent:
    def __init__(self, ledger: Ledger):
        self._ledger = ledger

    def after_step(self) -> bool:
        return not self._ledger.spent

    def after_rollout(self, probabilities: Any) -> None:
        pass
