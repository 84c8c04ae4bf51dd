"""``releq_gym.search``: good bitwidths for one's own network, without reinforcement learning."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from releq_gym.choices import as_list
from releq_gym.costs import CostModel
from releq_gym.datasets import Splits
from releq_gym.datasets.base import SEARCH_IMAGES, shared_images
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.full_precision import warn_near_chance
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.evaluators.memo import Memo
from releq_gym.layers import BITWIDTHS
from releq_gym.ledger import Ledger
from releq_gym.networks import NetworkLike, Recipe
from releq_gym.networks.profile import unquantized_parameters
from releq_gym.pareto import measured_point, pareto_set
from releq_gym.plain_numbers import is_whole
from releq_gym.problem import BETTER_POINTS
from releq_gym.quantized import QUANTIZED_FILE, bake, save_quantized
from releq_gym.quantizers import QUANTIZERS
from releq_gym.quantizers.base import Quantizer
from releq_gym.report import (
    REPORT_STEPS,
    file_meta,
    margin_points,
    retrain_and_report,
    right_answers,
)
from releq_gym.result import RESULT_FILE, Report, Result, read_result
from releq_gym.rewards.accuracy_floor import AccuracyFloor
from releq_gym.search_display import (
    Retrainings,
    Watched,
    announce,
    best_when_stopped,
    progress_of_search,
)
from releq_gym.search_result import SearchResult
from releq_gym.searchers import SEARCHERS, confirm
from releq_gym.whole_files import check_writable

METRIC_ADVICE = "Is 1 perfect, and 0 worthless? Of an error e take 1 / (1 + e)."
"""Where quantizing seems to make better."""

REPEATS = 3
"""Retrainings behind the answer, where the recipe has any."""


def search(
    net: NetworkLike,
    data: str | os.PathLike | Splits | None = None,
    *,
    max_loss_points: float | None = None,
    weights: str | os.PathLike | None = None,
    quantizer: str | Quantizer = "uniform",
    quantizer_kwargs: Mapping[str, Any] | None = None,
    recipe: str | Recipe = "ptq",
    bitwidths: Sequence[int] | None = None,
    fixed_bitwidths: Mapping[str, int] | None = None,
    groups: Sequence[Sequence[str]] | None = None,
    activation_bitwidth: int = 32,
    metric: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    precision: str = "auto",
    cost: str | CostModel = "quantization_state",
    cost_kwargs: Mapping[str, Any] | None = None,
    cost_budget: Mapping[str, float] | None = None,
    searcher: str = "integer_program",
    evaluation_budget: int | None = None,
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    search_from_train: bool = False,
    device: str = "auto",
    memo: bool | str | os.PathLike | Memo = True,
    progress: bool = True,
    report: bool = True,
    command: str = "",
) -> SearchResult:
    """Finds the cheapest bitwidths that keep a network's accuracy.

    The network is quantized and tested for real, assignment after assignment; the answer is the
    best one *measured* (`Ledger.best`), never a prediction. It can be stopped at any time: what
    was measured stays in the memo on disk, and the same call goes on from there, replaying the
    rest in seconds; only the retraining of the answer, if any, is done anew. With ``memo=False``
    nothing is kept, nor of a ``metric`` or ``loss`` that cannot be told from another one; it is
    said beforehand.

    Args:
        net: A module with its weights, a registered name, ``"package.module:factory"``, or
            whatever `releq_gym.networks.resolve_network` takes.
        data: A `releq_gym.datasets.Splits` with held-out search images, the name or file of a data
            set, or for a registered net the folder that holds its own; see `LiveEvaluator`.
        max_loss_points: Percentage points that may be lost; None means what the network states,
            mostly 0.3. The answer keeps one standard error of the search images away from it.
        weights: Of ``net``, a safetensors file.
        quantizer: By name, or an object.
        quantizer_kwargs: Its parameters; None means a step per output channel, where it has that.
        recipe: ``"ptq"``, or the retraining behind every accuracy, ``"short"`` or a `Recipe`; the
            answer is then retrained by ``"long"`` in the end, where that is known.
        bitwidths: Choice per layer; None means all that the quantizer has.
        fixed_bitwidths: ``{layer name: bitwidth}`` of layers that are not chosen; the bitwidth may
            be one that ``bitwidths`` does not offer.
        groups: Lists of names of layers that share one bitwidth.
        activation_bitwidth: 32 or 8.
        metric: What to measure instead of top-1 accuracy, see `LiveEvaluator`.
        loss: What a retraining minimises, likewise.
        precision: In which the network is tested, likewise.
        cost: Cost model by name, or a callable.
        cost_kwargs: Parameters of a named one.
        cost_budget: ``{figure: limit}``, never exceeded.
        searcher: Name of one in ``releq_gym/searchers/``.
        evaluation_budget: Different assignments that may be measured; None means 50 and one more
            for each layer and bitwidth.
        seed: Fixes the search.
        folder: Where `SearchResult.save` puts the result in the end; None keeps it in memory. A
            result that is there was made by the same ``command``, or this is refused.
        search_from_train: Accept search images that the network may have been trained on.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        memo: Whether measurements are kept in the user's cache; a path or `Memo` keeps them there.
        progress: Whether to say on stderr what is coming, with a progress bar.
        report: Whether to test the answer, once, on the report split, where there is one.
        command: What was typed, for ``result.json``.

    Returns:
        The chosen assignment, its quantized network and the Pareto set.

    Raises:
        ValueError: For anything that cannot be used as it was given; the sentence says why.
    """
    started = time.perf_counter()
    play = SEARCHERS[searcher]
    _check(net, max_loss_points, evaluation_budget, seed)
    _check_folder(folder, command)
    fixed = fixed_bitwidths.values() if isinstance(fixed_bitwidths, Mapping) else ()
    offered = None
    if bitwidths is not None:
        offered = [*as_list(bitwidths), *(bits for bits in fixed if bits in BITWIDTHS)]
    evaluator = LiveEvaluator(
        net,
        data=data,
        weights=weights,
        quantizer=quantizer,
        quantizer_kwargs=_per_channel(quantizer) if quantizer_kwargs is None else quantizer_kwargs,
        recipe=recipe,
        bitwidths=offered,  # what a fixed layer has, no other one need be offered
        repeats=REPEATS,
        memo=memo,
        search_from_train=search_from_train,
        device=device,
        activation_bitwidth=activation_bitwidth,
        metric=metric,
        loss=loss,
        precision=precision,
    )

    if loss is not None and not evaluator.recipe.images:
        raise ValueError(
            "loss= is what a retraining makes smaller, and recipe='ptq' retrains nothing; leave it "
            "out, or pass recipe='short'."
        )

    if metric is not None:
        _check_metric(evaluator)

    def make_env(ledger: Ledger | None) -> QuantizeNetEnv:
        return QuantizeNetEnv(
            evaluator=evaluator,
            bitwidths=bitwidths,
            fixed_bitwidths=fixed_bitwidths,
            reward_kwargs={"max_loss_points": max_loss_points},
            cost=cost,
            cost_kwargs=cost_kwargs,
            cost_budget=cost_budget,
            ledger=ledger,
            groups=groups,
        )

    problem = make_env(None).problem
    wanted = (
        50 + len(problem.bitwidths) * len(problem.steps)
        if evaluation_budget is None
        else evaluation_budget
    )
    ledger = Ledger(min(wanted, problem.size))
    env = make_env(ledger)
    env.reset(seed=int(seed))
    if problem.size == 1:
        play = SEARCHERS["uniform"]  # nothing is to be chosen
    warn_near_chance(evaluator)
    if 0 < problem.max_loss_points < 100 / evaluator.images:
        warnings.warn(
            f"One of {evaluator.images} search images is {100 / evaluator.images:.2g} points, more "
            f"than the {problem.max_loss_points:g} that may be lost; search on more images.",
            stacklevel=2,
        )
    console = Console(stderr=True, quiet=not progress, highlight=False)
    unquantized = unquantized_parameters(evaluator.module, evaluator.layers)
    last_recipe, retrainings = _last_retraining(evaluator, report)
    announce(console, evaluator, env, unquantized, retrainings)
    with best_when_stopped(console, env), progress_of_search(console) as bar:
        watched = Watched(env, bar)
        play(watched, np.random.default_rng(seed))
        answer = confirm(watched)
        watched.finish()
    assert answer is not None  # the budget affords at least one
    chosen = measured_point(problem, answer.bitwidths, answer.accuracy)
    if metric is not None and chosen.loss_points < -BETTER_POINTS:
        warnings.warn(
            f"By metric= the quantized network is {-chosen.loss_points:.1f} points better than "
            f"full precision. {METRIC_ADVICE}",
            stacklevel=2,
        )
    untested = _why_untested(evaluator, report)
    if not untested:
        _warn_of_searched(evaluator.splits)
    tested, content = _finish(
        console, evaluator, chosen.bitwidths, last_recipe, report=not untested
    )
    record = Result.of(
        problem,
        ledger,
        answer,
        finished=True,
        data=None if data is None or isinstance(data, Splits) else str(data),
        searcher=searcher,
        seed=seed,
        seconds=time.perf_counter() - started,
        command=command,
        report=tested,
        margin_points=_margin(evaluator, chosen.bitwidths),
        metric=None if metric is None else _name(metric),
        unquantized=unquantized,
    )
    result = SearchResult(
        record=record,
        chosen=chosen,
        pareto=pareto_set(ledger, problem),
        full_precision_accuracy=evaluator.full_precision_accuracy,
        quantized_layers=evaluator.layers,
        standard_error_points=100.0 * problem.caution(chosen.accuracy),
        retrained=evaluator.recipe.images > 0,
        untested=untested,
        _content=content,
        _module=evaluator.module,
    )
    if folder is not None:
        result.save(folder)
    return result


def _last_retraining(evaluator: LiveEvaluator, report: bool) -> tuple[str | Recipe, float]:
    """How the answer is retrained, and how many of the search's measurements that is worth."""
    known = evaluator.recipes.get("long")
    if not evaluator.recipe.images:
        return evaluator.recipe, 0.0
    networks = REPORT_STEPS if report and evaluator.splits.read_report is not None else 1
    share = (known or evaluator.recipe).images / evaluator.recipe.images
    return "long" if known else evaluator.recipe, networks * share


def _finish(
    console: Console,
    evaluator: LiveEvaluator,
    bitwidths: tuple[int, ...],
    recipe: str | Recipe,
    *,
    report: bool,
) -> tuple[Report | None, bytes]:
    """The report, if asked for, and the content of the file of integer weights."""
    verb = "retraining" if evaluator.recipe.images else "testing"
    with (
        tempfile.TemporaryDirectory() as folder,
        Retrainings(console, verb, REPORT_STEPS if report else 1) as say,
    ):
        path = Path(folder) / QUANTIZED_FILE
        if report:
            tested = retrain_and_report(evaluator, bitwidths, folder, recipe, say)
            return tested, path.read_bytes()
        say("the answer")
        save_quantized(path, evaluator.train(bitwidths, REPORT_SEED, recipe), file_meta(evaluator))
        return None, path.read_bytes()


def _margin(evaluator: LiveEvaluator, bitwidths: tuple[int, ...]) -> float | None:
    """Half the 95 % interval of the loss, paired image by image; None where images abound.

    None after a retraining, too: its luck would have to be counted in.
    """
    split = evaluator.splits.search
    if len(split) >= SEARCH_IMAGES or evaluator.recipe.images:
        return None
    quantized = bake(evaluator.train(bitwidths, 0, evaluator.recipe))
    reference, right = (
        right_answers(module, split, evaluator.device, evaluator.normalise, evaluator.score)
        for module in (evaluator.module, quantized)
    )
    return margin_points(right, reference)


def _why_untested(evaluator: LiveEvaluator, report: bool) -> str:
    """Why the answer is not tested on the report split, which is read here; empty if it is."""
    splits = evaluator.splits
    if splits.read_report is None:
        return (
            "there is none, so that nothing here is of images that the search has not seen; pass "
            "read_report= to Splits(...)"
        )
    if not report:
        return "not opened (report=False)"
    try:
        shape, expected = splits.report.images.shape[1:], splits.search.images.shape[1:]
    except Exception as error:  # whatever a function of the user's raises
        why = f"it could not be read ({type(error).__name__}: {error})"
    else:
        if shape == expected:
            return ""
        why = f"its inputs have the shape {tuple(shape)}, those of search {tuple(expected)}"
    warnings.warn(f"The answer is not tested on the report split: {why}.", stacklevel=3)
    return why


def _warn_of_searched(splits: Splits) -> None:
    """Of report images that the search has seen, which say nothing new."""
    if not splits.official and (seen := shared_images(splits.report, splits.search)):
        warnings.warn(
            f"{seen:,} of the {len(splits.report):,} report images of {splits.name!r} are among "
            "its search images, so that the report flatters the answer; keep them apart.",
            stacklevel=3,
        )


def _check_metric(evaluator: LiveEvaluator) -> None:
    """Refuses a metric by which quantizing makes better, as it does by an error.

    Raises:
        ValueError: Names both scores.
    """
    full = evaluator.full_precision_accuracy
    if full == 0:
        raise ValueError(
            f"By metric= full precision is worth 0, so that nothing can be lost. {METRIC_ADVICE}"
        )
    if evaluator.recipe.images:
        return  # a retraining may make better what was not trained to its end
    fewest = evaluator.bitwidths[0]
    coarse = evaluator.evaluate((fewest,) * len(evaluator.layers), 0).accuracy
    if not 0 <= coarse <= 1 or coarse > min(2 * full, full + BETTER_POINTS / 100):
        raise ValueError(
            f"By metric= all layers at {fewest} bits are worth {100 * coarse:.2f} %, full "
            f"precision {100 * full:.2f} %. {METRIC_ADVICE}"
        )


def _name(metric: Callable[..., Any]) -> str:
    """What a metric is called."""
    return str(getattr(getattr(metric, "func", metric), "__name__", type(metric).__name__))


def _per_channel(quantizer: str | Quantizer) -> dict[str, Any]:
    """A step per output channel, where the quantizer of this name has that."""
    if not isinstance(quantizer, str):
        return {}
    fields = {one.name for one in dataclasses.fields(QUANTIZERS[quantizer])}
    return {"per_channel": True} if "per_channel" in fields else {}


def _check(
    net: object,
    max_loss_points: float | None,
    evaluation_budget: int | None,
    seed: int,
) -> None:
    """What would otherwise be noticed late."""
    if isinstance(net, Splits):
        raise ValueError("search(net, data): the network comes first, then the data.")
    AccuracyFloor(max_loss_points)
    budget = evaluation_budget
    if budget is not None and not (is_whole(budget) and budget >= 1):
        raise ValueError(f"evaluation_budget={budget!r} must be a whole number, at least 1.")
    if not (is_whole(seed) and seed >= 0):
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or more.")


def _check_folder(path: str | os.PathLike | None, command: str) -> None:
    """Refuses one that cannot be written, or holds what would be lost."""
    if path is None:
        return
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"folder={str(folder)!r} is a file; name a folder.")
    check_writable(folder / RESULT_FILE)
    if (folder / RESULT_FILE).is_file() and read_result(folder).command != command:
        raise ValueError(
            f"{folder} holds the result of another search, which would be lost; name another "
            "folder (folder=, --folder)."
        )
