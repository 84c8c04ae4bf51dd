"""``releq_gym.search`` on shipped networks, and how far from the optimum it ends."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch

import releq_gym
from releq_gym.costs import make_cost
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.problem import Problem
from releq_gym.rewards import make_reward

NETS = ("lenet", "simplenet", "resnet20")

MAX_LOSS = 1.0
"""Percentage points that may be lost without retraining."""

ENUMERATED = 2**17
"""Spaces up to this size are measured whole, so that the optimum is known."""

COLUMNS = (
    "net", "max_loss_points", "evaluations", "seconds", "bitwidths", "loss_points", "cost",
    "weighted_bitwidth", "pareto_points", "assignments", "optimum", "optimum_cost",
    "optimum_seconds", "threads",
)  # fmt: skip


def measure(net: str, data: str | None) -> dict[str, Any]:
    """One search under the defaults but for `MAX_LOSS`, nothing remembered from before."""
    started = time.perf_counter()
    result = releq_gym.search(net, data, max_loss_points=MAX_LOSS, memo=False, report=False)
    row = {
        "net": net,
        "max_loss_points": MAX_LOSS,
        "evaluations": result.record.evaluations,
        "seconds": time.perf_counter() - started,
        "bitwidths": _written(result.chosen.bitwidths),
        "loss_points": result.chosen.loss_points,
        "cost": result.chosen.cost,
        "weighted_bitwidth": result.chosen.weighted_bitwidth,
        "pareto_points": len(result.pareto),
        "threads": torch.get_num_threads(),
    }
    live = LiveEvaluator(
        net,
        data=data,
        quantizer="uniform",
        quantizer_kwargs={"per_channel": True},
        recipe="ptq",
        memo=False,
    )
    assignments = len(live.bitwidths) ** len(live.layers)
    optimum = _optimum(live) if assignments <= ENUMERATED else {}
    return row | {"assignments": assignments} | optimum


def _optimum(live: LiveEvaluator) -> dict[str, Any]:
    """What a search that had measured everything would answer."""
    problem = Problem(
        live,
        reward=make_reward("accuracy_floor", max_loss_points=MAX_LOSS),
        cost_model=make_cost("quantization_state"),
    )
    started = time.perf_counter()
    every = list(itertools.product(live.bitwidths, repeat=len(live.layers)))
    measured = live.measure_many(every)
    seconds = time.perf_counter() - started

    def worth(place: int) -> float:
        return problem.objective(every[place], problem.cautious(measured[place].accuracy))

    best = every[max(range(len(every)), key=worth)]
    return {
        "optimum": _written(best),
        "optimum_cost": problem.cost(best),
        "optimum_seconds": seconds,
    }


def _written(bitwidths: tuple[int, ...]) -> str:
    return " ".join(map(str, bitwidths))
