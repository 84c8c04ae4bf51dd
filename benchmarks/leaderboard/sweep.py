"""What is run: data only."""

from __future__ import annotations

from dataclasses import dataclass

SEEDS = tuple(range(200, 220))
"""None of them was used while tuning."""


@dataclass(frozen=True)
class Entrant:
    """One algorithm.

    Attributes:
        label: In tables.
        kind: ``"agent"`` of ``agents/``, ``"searcher"`` of ``releq_gym/searchers/``, or
            ``"known"``: an assignment that nobody finds who searches.
        most: Evaluations at which its runs end; None means the track's last budget.
        plans: Whether it divides its budget up beforehand, so that what it has found midway is no
            answer for a smaller one: every budget is a run of its own.
    """

    label: str
    kind: str
    most: int | None = None
    plans: bool = False


ENTRANTS: dict[str, Entrant] = {
    "recurrent_ppo": Entrant("RecurrentPPO", "agent"),
    "ppo": Entrant("PPO", "agent"),
    "maskable_ppo": Entrant("MaskablePPO", "agent"),
    "ppo_one_shot": Entrant("PPO, one shot", "agent"),
    "pretrained": Entrant("policy taught by landscapes, then PPO", "agent"),
    "improver": Entrant("improver, then PPO", "agent", most=1_000),
    "warm_start": Entrant("integer program, then RecurrentPPO", "agent", most=1_000),
    "a2c": Entrant("A2C", "agent"),
    "trpo": Entrant("TRPO", "agent"),
    "dqn": Entrant("DQN", "agent", most=1_000),
    "qr_dqn": Entrant("QR-DQN", "agent", most=1_000),
    "sac": Entrant("SAC", "agent", most=1_000),
    "td3": Entrant("TD3", "agent", most=1_000),
    "ddpg": Entrant("DDPG", "agent", most=1_000),
    "random": Entrant("random search", "searcher"),
    "uniform": Entrant("best uniform bitwidth", "searcher"),
    "ends_at_8": Entrant("8-b-...-b-8", "searcher"),
    "greedy": Entrant("greedy descent", "searcher"),
    "local_search": Entrant("one-flip local search", "searcher"),
    "simulated_annealing": Entrant("simulated annealing", "searcher", plans=True),
    "evolution": Entrant("regularised evolution", "searcher"),
    "tpe": Entrant("TPE", "searcher", most=1_000),
    "integer_program": Entrant("additive integer program", "searcher", most=1_000),
    "pairwise_program": Entrant("pairwise program", "searcher", most=1_000, plans=True),
    "search_oracle": Entrant("search oracle", "known"),
    "optimum": Entrant("optimum", "known"),
}
"""By name; in this order where nothing ranks them."""


@dataclass(frozen=True)
class Track:
    """Tasks that are run and shown together.

    Attributes:
        title: Of its tables.
        tasks: By name.
        budgets: Different assignments revealed at which answers are taken; the last ends a run.
        ranked_at: That of them by which the board is in order; who ends before it stands where its
            last answer puts it.
        seeds: Of every run.
    """

    title: str
    tasks: tuple[str, ...]
    budgets: tuple[int, ...]
    ranked_at: int
    seeds: tuple[int, ...]


TRACKS = {
    "tables": Track(
        "Tables: every assignment was measured",
        (
            "digits-digits-dorefa_scaled-short-w2to8",
            "digits-digits-dorefa_scaled-short-w2to8-loss0.5",
            "lenet-mnist-uniform-ptq-w1to8-loss0",
        ),
        (24, 60, 120, 240, 600),
        600,
        SEEDS,
    ),
    "deep": Track(
        "Deep networks: surrogates fitted to measurements",
        (
            "svhn10-mnistm-uniformpc-ptq-w1to8",
            "resnet20-cifar10-uniformpc-ptqbn-w1to8",
            "vgg11-cifar10-uniformpc-ptq-w1to8",
            "vgg16-cifar10-uniformpc-ptq-w1to8",
        ),
        (100, 300, 1_000, 3_000),
        1_000,
        SEEDS[:10],
    ),
}
