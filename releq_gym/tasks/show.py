"""A task's card in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from releq_gym.costs import make_cost
from releq_gym.evaluators.synthetic import SyntheticEvaluator
from releq_gym.problem import Problem
from releq_gym.rewards import make_reward
from releq_gym.tasks.format import Task
from releq_gym.tasks.landscape import LEAST
from releq_gym.tasks.score import make_scorer


def describe(task: Task) -> str:
    """What is measured, how good the surrogate is, and what the landscape is like."""
    return "\n".join(_lines(task))


def describe_synthetic(evaluator: SyntheticEvaluator) -> str:
    """Likewise of a task that is generated, whose optimum is under the paper's cost."""
    problem = Problem(
        evaluator, reward=make_reward("accuracy_floor"), cost_model=make_cost("quantization_state")
    )
    depth, bitwidths = len(evaluator.layers), evaluator.bitwidths
    found = make_scorer(problem).optimum
    economics = problem.economics(depth, problem.totals(found))
    uniform = ", ".join(
        f"{bits}: {100 * evaluator.evaluate((bits,) * depth, 0).accuracy:.2f}" for bits in bitwidths
    )
    lines = (
        f"{evaluator.name}, generated",
        f"  space       {len(bitwidths)}^{depth} assignments, bitwidths "
        f"{' '.join(map(str, bitwidths))}",
        f"  objective   at most {evaluator.max_loss_points} points lost",
        f"  accuracy    exact, full precision {100 * evaluator.full_precision_accuracy:.2f} %",
        f"              uniform, % at bits: {uniform}",
        f"  {' '.join(map(str, found))}: optimum, cost {economics.cost:.3f}, "
        f"{economics.weighted_bitwidth:.2f} bits per weight",
    )
    return "\n".join(lines)


COLUMNS = (
    "task",
    "assignments",
    "full precision",
    "search optimum",
    "report optimum",
    "best uniform",
    "as good as any",
    "harmful",
    "asked",
    "random",
    "greedy",
    "local search",
    "integer program",
    "ranks searchers",
)


def table(tasks: Sequence[Task]) -> str:
    """What the landscapes of several tasks are like, as a Markdown table.

    Optima and best uniform assignment are bits per weight; a surrogate has one optimum. Searchers
    stand with their regret on search data and, behind it, on report data.
    """
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_row, tasks)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(task: Task) -> tuple[str, ...]:
    facts = task.card.get("landscape")
    size = (
        f"{task.configurations:,}"
        if task.exhaustive
        else f"{len(task.bitwidths)}^{len(task.layers)}, surrogate"
    )
    start = (f"`{task.card['id']}`", size, f"{100 * task.full_precision_accuracy('search'):.2f} %")
    if facts is None:
        return (*start, *["-"] * (len(COLUMNS) - len(start)))
    regrets = [
        f"{facts['search_regret'][name]:.3f} / {facts['regret'][name]:.3f}"
        for name in facts["regret"]
    ]
    plateau = facts.get("plateau_share")
    return (
        *start,
        f"{facts.get('search_optimum', facts['optimum'])['weighted_bitwidth']:.2f}",
        f"{facts['optimum']['weighted_bitwidth']:.2f}",
        f"{facts['best_uniform']['weighted_bitwidth']:.2f}",
        "-" if plateau is None else f"{100 * plateau:.1f} %",
        f"{100 * facts['harmful_increase_share']:.1f} %" if task.exhaustive else "-",
        f"{facts['evaluations']:,}",
        *regrets,
        "yes" if facts["ranks_searchers"] else "no",
    )


def _lines(task: Task) -> Iterator[str]:
    card = task.card
    arguments = ", ".join(
        f"{name}={value}" for name, value in card.get("quantizer_kwargs", {}).items()
    )
    quantizer = f"{card['quantizer']}({arguments})" if arguments else card["quantizer"]
    recipe = card["recipe"]
    if images := card.get("recipe_kwargs", {}).get("reestimate_batch_norm"):
        recipe += f", batch norm measured anew on {images:,} images"
    yield task.name
    yield f"  net         {card['net']}, {len(task.layers)} layers, {card.get('data', 'own data')}"
    yield f"  quantizer   {quantizer}, bitwidths {' '.join(map(str, task.bitwidths))}"
    yield f"  recipe      {recipe}"
    yield f"  space       {task.configurations:,} assignments, {_measured(task)}"
    yield f"  objective   at most {task.max_loss_points:g} points lost"
    for split in task.splits:
        yield from _split_lines(task, split)
    if "surrogate" in card:
        yield from _surrogate_lines(card["surrogate"])
    if "proxy" in card:
        found = card["proxy"]
        every, near = (
            "not known" if found[name] is None else f"{found[name]:.2f}"
            for name in ("spearman", "near_spearman")
        )
        yield (
            f"  proxy       Spearman with accuracy after long retraining {every} over "
            f"{found['assignments']} assignments, {near} over the {found['near_assignments']} that "
            "lose little"
        )
    if "landscape" in card:
        yield from _landscape_lines(card["landscape"])
    for issue in card.get("known_issues", ()):
        yield f"  known issue {issue}"


def _measured(task: Task) -> str:
    repeats = task.card["repeats"]
    times = "" if set(repeats.values()) == {1} else f", {repeats['search']} times each"
    if task.exhaustive:
        return f"all measured{times}"
    rows = " and ".join(f"{count:,} on {split}" for split, count in task.card["rows"].items())
    return f"measured: {rows}{times}"


def _split_lines(task: Task, split: str) -> Iterator[str]:
    baselines = task.card.get("baselines", {}).get(split, {})
    images = "as given" if task.card.get("exact") else f"{task.images(split):,} images"
    line = f"  {split:<11} {images}, full precision "
    line += f"{100 * task.full_precision_accuracy(split):.2f} %"
    if noise := task.card.get("noise_points", {}).get(split):
        line += f", repeats differ by {noise:.2f} points (sd)"
    yield line
    if uniform := baselines.get("uniform_accuracy"):
        listed = ", ".join(f"{bits}: {100 * one:.2f}" for bits, one in uniform.items())
        yield f"              uniform, % at bits: {listed}"
    if (mean := baselines.get("mean_accuracy")) is not None:
        yield f"              random assignments: {100 * mean:.2f} % on average"


def _surrogate_lines(quality: dict[str, Any]) -> Iterator[str]:
    yield f"  surrogate   {quality['model']}, fitted to {quality['rows']:,} assignments"
    for what in ("searchers", "lowest quarter"):
        for model, found in quality["held_out"].items():
            one = found[what]
            tau = one["kendall_tau"]
            yield (
                f"              without the {what}, {model}: error {one['rmse_points']:.2f} points "
                f"(of those near full precision {one['near_rmse_points']:.2f}), "
                f"R2 {one['r2']:.3f}, tau {'-' if tau is None else f'{tau:.3f}'}"
            )
    gaps = ", ".join(f"{gap:+.2f}" for gap in quality["gap_points"])
    yield f"              its best assignments are flattered by, round by round: {gaps} points"
    report = quality["report"]
    yield (
        f"              on report, {report['rows']} assignments: error "
        f"{report['rmse_points']:.2f} points, bias {report['bias_points']:+.2f}"
    )


def _landscape_lines(facts: dict[str, Any]) -> Iterator[str]:
    # A surrogate has one optimum, a table one on search and one on report data.
    of_table = "search_optimum" in facts
    titles = {
        "search_optimum": "optimum, on search data",
        "optimum": "optimum, on report data" if of_table else "optimum, as predicted",
        "cheapest_measured": "cheapest that was measured to hold the loss",
        "best_uniform": "best uniform, in hindsight",
    }
    for name, title in titles.items():
        if name not in facts:
            continue
        one = facts[name]
        regret = f", regret {one['regret']:.3f}" if "regret" in one else ""
        yield (
            f"  {' '.join(map(str, one['bitwidths']))}: {title}, cost {one['cost']:.3f}, "
            f"{one['weighted_bitwidth']:.2f} bits per weight{regret}"
        )
    if "plateau_share" in facts:
        yield f"  plateau     {100 * facts['plateau_share']:.1f} % is as accurate as anything"
    yield f"  harmful     {100 * facts['harmful_increase_share']:.1f} % of increases lower accuracy"
    yield f"  searchers   regret after {facts['evaluations']:,} asked, median"
    for name, regret in facts["regret"].items():
        yield (
            f"              {name}: {regret:.3f} on report data, "
            f"{facts['search_regret'][name]:.3f} on search data"
        )
    if facts["ranks_searchers"]:
        verdict = "ranks searchers"
    elif facts["evaluations"] < LEAST:
        verdict = "too small to say anything about searchers"
    else:
        verdict = "easy: does not rank searchers"
    yield f"  verdict     {verdict}"
