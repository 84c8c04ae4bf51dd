"""What is run: data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.live_speed.nets import PUBLISHED

SEARCHERS = {
    "recurrent_ppo": "**ours** (RecurrentPPO)",
    "warm_start": "integer program, then RecurrentPPO",
    "integer_program": "integer program",
    "random": "random search",
    "local_search": "one-flip local search",
}
"""Who proposes assignments, and how tables call them; the first is what the paper does."""

OURS = SEARCHERS["recurrent_ppo"]


@dataclass(frozen=True)
class Plan:
    """One network under one quantizer.

    Attributes:
        quantizer: By name.
        bitwidths: The choice per layer.
        task: Searched by name; None means live, every assignment after `short` retraining.
        evaluations: Different assignments that each search may ask for.
        floors: Losses in points that the searches tolerate. Long retraining recovers most of what
            is lost before it, so a search that insists on the final loss stops too early. All
            answers are candidates.
        search_seeds: Runs of each search under each floor; that with the best *search* value is
            its answer.
        searchers: Those of `SEARCHERS` whose answers are candidates.
        compared: Those that are run for what they find and what that takes; nothing of theirs is
            retrained.
        cost: What the searches lower.
        uniform: Uniform bitwidths that are candidates.
        ends_at_8: Bitwidths of all layers but the first and the last, which have 8, likewise.
        shown: Uniform bitwidths that are tested whether they are chosen or not.
        published: Assignments of others, by their source.
        further: Candidates that the rule passed over and that are tested nevertheless, since what
            it had chosen lost more on the test images than on those of the search; the page says
            when that was decided.
        caution: Standard errors of the search images that a candidate's loss has to stay away
            from the tolerated one.
        recipe: What every row is retrained by: the network's ``"long"``, or ``"ptq"``, nothing,
            where there are no images to train on.
        long: Fields of that recipe that are set otherwise here.
        per_channel: Whether the quantizer has a step per output channel.
        unclaimed: Why the rows say nothing about the network; empty where they do. Such rows are
            neither drawn nor timed.
        retraining_seeds: Long retrainings of every row.
    """

    quantizer: str
    bitwidths: tuple[int, ...]
    evaluations: int
    floors: tuple[float, ...]
    uniform: tuple[int, ...]
    task: str | None = None
    search_seeds: tuple[int, ...] = (0,)
    searchers: tuple[str, ...] = ("recurrent_ppo", "integer_program", "random")
    compared: tuple[str, ...] = ("local_search",)
    cost: str = "weighted_bitwidth"
    ends_at_8: tuple[int, ...] = ()
    shown: tuple[int, ...] = (8,)
    published: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    further: tuple[tuple[int, ...], ...] = ()
    caution: float = 0.0
    recipe: str = "long"
    long: Mapping[str, Any] = field(default_factory=dict)
    per_channel: bool = False
    retraining_seeds: tuple[int, ...] = (0, 1, 2)
    unclaimed: str = ""


EVERY = (1, 2, 3, 4, 5, 6, 7, 8)

PLANS: dict[str, tuple[Plan, ...]] = {
    "lenet": (
        Plan(
            quantizer="lsq",
            bitwidths=EVERY,
            evaluations=150,
            floors=(0.3,),
            cost="quantization_state",
            uniform=(1, 2),
            ends_at_8=(1, 2),
            shown=(1, 2, 8),
            published={"ReLeQ": PUBLISHED["lenet"], "ADMM": (5, 3, 2, 3)},
            retraining_seeds=(0, 1, 2, 3, 4),
        ),
        Plan(
            quantizer="wrpn",
            bitwidths=EVERY[1:],
            evaluations=150,
            floors=(3.0, 1.5, 0.3),
            cost="quantization_state",
            uniform=(3, 4, 5),
            ends_at_8=(3, 4, 5),
            shown=(3, 4, 5, 6, 8),
            published={"ReLeQ": PUBLISHED["lenet"], "ADMM": (5, 3, 2, 3)},
            retraining_seeds=(0, 1, 2, 3, 4),
        ),
    ),
    "simplenet": (
        Plan(
            quantizer="lsq",
            bitwidths=EVERY,
            evaluations=150,
            floors=(10.0, 6.0, 3.0, 1.5, 0.7),
            uniform=(2, 3, 4, 5),
            ends_at_8=(1, 2, 3, 4),
            published={"ReLeQ": PUBLISHED["simplenet"]},
            long={
                "images": 20 * 45_000,
                "learning_rate": 1e-2,
                "precision": "bfloat16",
                "distillation": 0.5,
            },
            retraining_seeds=(0, 1, 2, 3, 4),
        ),
    ),
    "svhn10": (
        Plan(
            quantizer="lsq",
            bitwidths=EVERY,
            task="svhn10-mnistm-uniformpc-ptq-w1to8",
            evaluations=1_000,
            floors=(60.0, 40.0, 20.0, 10.0, 5.0, 2.0, 1.0),
            search_seeds=(0, 1, 2),
            uniform=(1, 2, 3),
            ends_at_8=(1, 2, 3),
            published={"ReLeQ": PUBLISHED["svhn10"]},
            long={"precision": "bfloat16"},
        ),
    ),
    "resnet20": (
        Plan(
            quantizer="lsq",
            bitwidths=EVERY,
            task="resnet20-cifar10-uniformpc-ptqbn-w1to8",
            evaluations=1_000,
            floors=(20.0, 10.0, 7.0, 5.0, 3.0, 2.0, 1.0),
            search_seeds=(0, 1, 2),
            uniform=(1, 2, 3, 4),
            ends_at_8=(1, 2, 3, 4),
            published={"ReLeQ": PUBLISHED["resnet20"]},
            further=(
                (4, 3, 5, 4, 4, 5, 5, 3, 3, 5, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 1, 5),
                (5, 5, 5, 5, 5, 5, 3, 4, 3, 5, 3, 2, 3, 3, 3, 2, 4, 1, 1, 1, 1, 5),
            ),
            long={"images": 4 * 45_000, "precision": "bfloat16", "distillation": 0.5},
        ),
    ),
    "vgg11": (
        Plan(
            quantizer="lsq",
            bitwidths=EVERY,
            task="vgg11-cifar10-uniformpc-ptq-w1to8",
            evaluations=1_000,
            floors=(60.0, 40.0, 30.0, 20.0, 10.0, 5.0, 2.0),
            search_seeds=(0, 1, 2),
            searchers=("recurrent_ppo",),
            compared=("integer_program", "local_search"),
            uniform=(1, 2, 3),
            published={"ReLeQ": PUBLISHED["vgg11"]},
            further=((7, 4, 3, 3, 2, 1, 1, 1, 6), (7, 5, 5, 3, 3, 2, 1, 1, 5)),
            long={"images": 2 * 45_000, "precision": "bfloat16", "distillation": 0.5},
            retraining_seeds=(0,),
        ),
    ),
    "vgg16": (
        Plan(
            quantizer="lsq",
            bitwidths=EVERY,
            task="vgg16-cifar10-uniformpc-ptq-w1to8",
            evaluations=1_000,
            floors=(60.0, 40.0, 30.0, 20.0, 10.0, 5.0, 2.0),
            search_seeds=(0, 1, 2),
            searchers=("recurrent_ppo", "warm_start"),
            compared=("integer_program", "local_search"),
            uniform=(1, 2, 3, 4),
            caution=1.0,  # without it, the choices for vgg11 and resnet20 lost more on test images
            published={"ReLeQ": PUBLISHED["vgg16"]},
            long={"images": 2 * 45_000, "precision": "bfloat16", "distillation": 0.5},
            retraining_seeds=(0,),
        ),
    ),
    "mobilenet": (
        Plan(
            quantizer="uniform",
            bitwidths=EVERY,
            task="mobilenet-imagenet-uniformpc-ptq-w1to8",
            evaluations=1_000,
            floors=(10.0, 5.0, 2.0),
            uniform=(5, 6, 7, 8),
            ends_at_8=(5, 6, 7),
            published={"ReLeQ": PUBLISHED["mobilenet"]},
            recipe="ptq",
            per_channel=True,
            retraining_seeds=(0,),
            unclaimed="tested on 500 images that the network was trained on, without retraining",
        ),
    ),
    "alexnet": (
        Plan(
            quantizer="lsq",
            bitwidths=EVERY,
            evaluations=150,
            floors=(10.0, 5.0, 2.0, 0.7),
            uniform=(2, 3, 4, 5),
            ends_at_8=(2, 3, 4),
            caution=1.0,
            published={"ReLeQ": PUBLISHED["alexnet"]},
            long={"distillation": 0.5},
            retraining_seeds=(0,),
        ),
    ),
}
"""Declared before any of its rows was tested, but for lenet's, and a searcher of vgg16's; the page
says what was known."""

ON_REQUEST = {
    "mobilenet": "python -m benchmarks.paper_table --net mobilenet --data IMAGENET",
    "alexnet": "python -m benchmarks.paper_table --net alexnet --data IMAGENET",
}
"""What fills the rows of networks that a call without ``--net`` leaves out: IMAGENET holds
``val/<wnid>/<image>`` and, for AlexNet, ``train/``; their weights are fetched, or ``--weights``."""
