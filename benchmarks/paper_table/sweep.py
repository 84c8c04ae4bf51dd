"""What is run: data only."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """One network under one quantizer.

    Attributes:
        quantizer: By name.
        bitwidths: The choice per layer.
        evaluation_budget: Different assignments that each search may measure.
        search_floors: Losses in points that the searches tolerate after *short* retraining; None
            is the network's own. Long retraining recovers part of what short retraining loses, so
            a search that insists on the final floor stops too early. Their answers are retrained
            for long and compared on search images; the cheapest that keeps the network's own
            floor there is ours.
        search_seeds: Runs of the search; the best *search* value among them is the answer.
        uniform: Uniform bitwidths that are retrained and tested beside it.
        published: Assignments of others, by their source.
        retraining_seeds: Long retrainings of every row.
    """

    quantizer: str
    bitwidths: tuple[int, ...]
    evaluation_budget: int
    search_seeds: tuple[int, ...]
    uniform: tuple[int, ...]
    search_floors: tuple[float | None, ...] = (None,)
    published: dict[str, tuple[int, ...]] = field(default_factory=dict)
    retraining_seeds: tuple[int, ...] = (0, 1, 2)


PLANS: dict[str, tuple[Plan, ...]] = {
    "lenet": (
        Plan(
            quantizer="lsq",
            bitwidths=(1, 2, 3, 4, 5, 6, 7, 8),
            evaluation_budget=150,
            search_seeds=(0,),
            uniform=(1, 2, 8),
            published={"ReLeQ": (2, 2, 3, 2)},
        ),
        Plan(
            quantizer="wrpn",
            bitwidths=(2, 3, 4, 5, 6, 7, 8),
            evaluation_budget=150,
            search_seeds=(0,),
            uniform=(3, 4, 5, 6, 8),
            search_floors=(None, 1.5, 3.0),
            published={"ReLeQ": (2, 2, 3, 2)},
        ),
    ),
}
