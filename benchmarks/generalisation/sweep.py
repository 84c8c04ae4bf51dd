"""What is run: data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NETS = ("digits", "lenet", "simplenet", "svhn10", "resnet20", "vgg11", "vgg16")
"""Each with its default task. One is held out, all others are pretrained on."""

DEVELOPMENT = ("digits",)
"""Held out as well, but not counted: settings may be tuned there."""

BITWIDTHS = (2, 3, 4, 5, 6, 7, 8)
"""What all of their tasks have, and all entrants may choose."""

BUDGETS = (0, 10, 100)
"""Different assignments revealed of the network that is held out, when answers are taken."""

SEEDS = tuple(range(300, 305))
"""Of a pretraining and of what follows; none of them was used before."""

PRETRAINING: dict[str, Any] = {}
"""Settings of `agents.pretrain.Pretraining` other than its own, beside nets and variant."""

LANDSCAPES_ALONE = 14
"""As many as there are nets and landscapes otherwise."""


@dataclass(frozen=True)
class Entrant:
    """One way to answer.

    Attributes:
        label: In tables.
        kind: ``"policy"``, pretrained on the other nets; ``"heuristic"``, with a parameter that
            suits them; a ``"searcher"`` of ``releq_gym/searchers/`` or agent, which knows none of
            the nets before it has asked; or ``"known"``: an assignment that nobody knows
            beforehand.
        observation: Of a policy.
        memory: Whether it has an LSTM.
        taught_by_nets: Whether the other nets teach it; else landscapes alone, so that the same
            policy answers for all nets.
        seeded: Whether runs with other seeds differ.
    """

    label: str
    kind: str
    observation: str = "layer"
    memory: bool = False
    taught_by_nets: bool = True
    seeded: bool = True


ENTRANTS = {
    "pretrained, layer": Entrant("policy, `layer`", "policy"),
    "pretrained, layer, landscapes": Entrant(
        "policy, `layer`, taught by landscapes alone", "policy", taught_by_nets=False
    ),
    "pretrained, layer, memory": Entrant("policy, `layer`, LSTM", "policy", memory=True),
    "pretrained, full": Entrant("policy, `full`, attention", "policy", "full"),
    "pretrained, full, memory": Entrant(
        "policy, `full`, attention and LSTM", "policy", "full", memory=True
    ),
    "pretrained, paper": Entrant("policy, `paper`", "policy", "paper"),
    "pretrained, paper, memory": Entrant("policy, `paper`, LSTM", "policy", "paper", memory=True),
    "improver": Entrant("improver, taught to search by landscapes", "searcher"),
    "uniform_of_others": Entrant("uniform bitwidth of the other nets", "heuristic", seeded=False),
    "noise_of_others": Entrant("noise budget of the other nets", "heuristic", seeded=False),
    "uniform": Entrant("best uniform bitwidth, by search", "searcher", seeded=False),
    "random": Entrant("random search", "searcher"),
    "local_search": Entrant("one-flip local search", "searcher"),
    "integer_program": Entrant("additive integer program", "searcher"),
    "uniform_oracle": Entrant("best uniform bitwidth, in hindsight", "known", seeded=False),
}
"""By name, in this order."""

REFERENCE = "pretrained, layer"
"""Whose differences from everybody else are shown; said beforehand."""
