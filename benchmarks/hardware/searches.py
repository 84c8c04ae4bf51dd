"""Searches under budgets on several devices: is a budget ever exceeded, and do answers differ."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.runs import find
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger

DEVICES = ("weight_serial", "bit_fusion", "tvm_cpu")

BUDGETS = (0.1, 0.25, 0.5)
"""Limits on ``cost``, as shares of the way from the least that the device allows to 8 bits."""

PLAYERS = ("local_search", "recurrent_ppo")
"""The agent does not know of masks."""

SEEDS = range(5)

EVALUATIONS = {"lenet": 200, "resnet20": 600}
"""Different assignments that a search may ask for."""

COLUMNS = (
    "net", "device", "budget", "limit", "player", "seed", "bitwidths", "accuracy", "loss_points",
    "cost", "most_expensive", "evaluations",
)  # fmt: skip

LOSS_COLUMNS = ("net", "budget", "device", *PLAYERS)

DIFFERENCE_COLUMNS = ("net", "player", "budget", "between_seeds", "between_devices")


def measure(net: str, device: str, budget: float, player: str) -> list[dict[str, Any]]:
    """One row per seed: the most accurate assignment found that the budget allows.

    ``most_expensive`` is the highest cost of any assignment that was asked for.

    Raises:
        ValueError: Where no measured table fits the network.
    """
    return [_row(net, device, budget, player, seed) for seed in SEEDS]


def _row(net: str, device: str, budget: float, player: str, seed: int) -> dict[str, Any]:
    ledger = Ledger(EVALUATIONS[net])
    free = QuantizeNetEnv(net=net, cost=device).problem
    least = free.economics(0, free.at_start).least_cost
    limit = float(least + budget * (1.0 - least))

    def make_env(**options: Any) -> QuantizeNetEnv:
        return QuantizeNetEnv(
            net=net,
            reward="lagrangian",
            reward_kwargs={"weight": 0.0},
            cost=device,
            cost_budget={"cost": limit},
            ledger=ledger,
            **options,
        )

    problem, answer = find(make_env, player, seed)
    return {
        "net": net,
        "device": device,
        "budget": budget,
        "limit": limit,
        "player": player,
        "seed": seed,
        "bitwidths": " ".join(map(str, answer.bitwidths)),
        "accuracy": answer.accuracy,
        "loss_points": answer.loss_points,
        "cost": answer.cost,
        "most_expensive": max(map(problem.cost, ledger.cells(problem))),
        "evaluations": ledger.distinct,
    }


def losses(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Median points that the answers of each player lose, a row per device.

    Args:
        rows: Of one network and budget.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        lost = found.setdefault(row["device"], {}).setdefault(row["player"], [])
        lost.append(float(row["loss_points"]))
    return [
        {
            "net": rows[0]["net"],
            "budget": rows[0]["budget"],
            "device": device,
            **{player: round(statistics.median(lost), 3) for player, lost in players.items()},
        }
        for device, players in found.items()
    ]


def differences(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Mean difference in bits per layer, between seeds on one device and between devices.

    Args:
        rows: Of one network, player and budget.
    """
    answers = [(row["device"], np.array(row["bitwidths"].split(), dtype=int)) for row in rows]
    apart: dict[bool, list[float]] = {True: [], False: []}
    for (device, one), (other_device, other) in itertools.combinations(answers, 2):
        apart[device == other_device].append(float(np.abs(one - other).mean()))
    return [
        {
            "net": rows[0]["net"],
            "player": rows[0]["player"],
            "budget": rows[0]["budget"],
            "between_seeds": statistics.fmean(apart[True]),
            "between_devices": statistics.fmean(apart[False]),
        }
    ]
