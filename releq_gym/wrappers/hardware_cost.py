"""Another cost model, and another budget, on an environment that exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from releq_gym.costs import CostModel, make_cost
from releq_gym.registry import named_arguments


class HardwareCost(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """What ``gym.make(..., cost=, cost_kwargs=, cost_budget=)`` does, afterwards.

    From the next reset on, the model's figures (``cycles``, ``bytes``, ...) and the normalised
    ``cost`` stand in ``info``, the reward and the observation follow them, and no assignment
    exceeds the budget: what would is masked, and executed as something that does not. It works
    under and over other wrappers, since it changes the environment itself. Over a frozen id it
    makes another problem of it, which the action log says and ``env.spec.id`` does not.

    Args:
        env: Over `releq_gym.env.QuantizeNetEnv`, or over several networks.
        model: A cost model by name, or a callable on (layers, bitwidths).
        cost_budget: ``{figure: limit}``; any figure of the model, or ``"cost"``.
        cost_kwargs: Parameters of a named model, or fields of a dataclass of your own.

    Raises:
        ValueError: For an unknown model or figure, a budget that cannot be met, which names the
            least that can, and an environment that has a budget already.
    """

    def __init__(
        self,
        env: gym.Env,
        model: str | CostModel,
        cost_budget: Mapping[str, float] | None = None,
        cost_kwargs: Mapping[str, Any] | None = None,
    ):
        gym.utils.RecordConstructorArgs.__init__(
            self, model=model, cost_budget=cost_budget, cost_kwargs=cost_kwargs
        )
        if isinstance(env, gym.vector.VectorEnv):
            raise ValueError(
                "HardwareCost goes over one environment; gym.make_vec takes cost=, cost_kwargs= "
                "and cost_budget= itself."
            )
        gym.Wrapper.__init__(self, env)
        if not env.has_wrapper_attr("set_cost"):
            raise ValueError(f"HardwareCost goes over a releq environment, not over {env}.")
        made = make_cost(model, **named_arguments("cost_kwargs", cost_kwargs))
        env.get_wrapper_attr("set_cost")(made, cost_budget)
