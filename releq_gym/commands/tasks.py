"""``releq tasks`` and ``releq task``."""

from __future__ import annotations

import argparse
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from releq_gym.commands import task_search
from releq_gym.commands.networks import stated_input_shape
from releq_gym.commands.pairs import add_recipe_kwargs, each, name_and_value


def add_commands(commands: Any) -> None:
    """Puts them among the commands of a parser."""
    tasks = commands.add_parser("tasks", help="list the shipped tasks and the frozen ids")
    tasks.add_argument("--table", action="store_true", help="their landscapes, as Markdown")
    tasks.set_defaults(run=_tasks)

    task = commands.add_parser("task", help="build, search, verify or show a task")
    actions = task.add_subparsers(required=True, metavar="ACTION")
    build = actions.add_parser(
        "build", help="measure every assignment of a network, or fit a surrogate to a sample"
    )
    build.add_argument("net", help="a net's name, or package.module:factory")
    build.add_argument("--quantizer", default="wrpn", help="by name (default wrpn, the paper's)")
    build.add_argument(
        "--recipe",
        default="short",
        help="retraining behind every accuracy: short (default), or ptq for none",
    )
    build.add_argument("--bitwidths", type=int, nargs="+", help="default: all the quantizer has")
    build.add_argument("--repeats", type=int, default=10, help="per split (default 10)")
    build.add_argument(
        "--max-loss-points", type=float, help="tolerated loss in points (default: the net's)"
    )
    build.add_argument("--per-channel", action="store_true", help="a step per output channel")
    build.add_argument(
        "--batch-norm",
        type=int,
        default=0,
        metavar="IMAGES",
        help="measure batch norm anew on them",
    )
    build.add_argument("--activation-bitwidth", type=int, default=32, help="32 (default) or 8")
    build.add_argument("--search-images", type=int, help="only the first of them (default: all)")
    build.add_argument("--weights", help="full-precision checkpoint (safetensors)")
    build.add_argument(
        "--surrogate", action="store_true", help="measure a sample and fit a surrogate to it"
    )
    build.add_argument("--rows", type=int, help="size of that sample (default: 30 per layer)")
    build.add_argument(
        "--known-issue", action="append", metavar="SENTENCE", help="for the card; may be repeated"
    )
    build.add_argument("--version", default="1.0.0")
    build.add_argument("--data", help="folder that holds the data set")
    build.add_argument("--workers", type=int, help="processes (default: one per core)")
    build.add_argument("--output", default="tasks", help="parent folder (default ./tasks)")
    build.set_defaults(run=_task_build)

    add_import = actions.add_parser(
        "import", help="make a task of accuracies that you have: a CSV of bitwidths and accuracy"
    )
    add_import.add_argument(
        "file", help="with the columns bitwidths (such as 8 4 4 8) and accuracy"
    )
    add_import.add_argument("--net", required=True, help="a net's name, or package.module:factory")
    add_import.add_argument(
        "--full-precision", type=float, required=True, help="its accuracy, a fraction"
    )
    add_import.add_argument(
        "--input-shape",
        type=int,
        nargs="+",
        help="of one input, such as 3 32 32 (default: a registered net's)",
    )
    add_import.add_argument("--weights", help="checkpoint that was quantized (safetensors)")
    add_import.add_argument("--images", type=int, help="that measured it (default: exact)")
    add_import.add_argument("--bitwidths", type=int, nargs="+", help="default: those that occur")
    add_import.add_argument(
        "--max-loss-points", type=float, default=0.3, help="tolerated loss in points"
    )
    add_import.add_argument("--quantizer", default="uniform", help="whose (default uniform)")
    add_import.add_argument("--recipe", default="unknown", help="how it was retrained, in a word")
    add_import.add_argument(
        "--unmeasured", default="mask", help="missing assignments: mask (default) or refuse"
    )
    add_import.add_argument("--name", help="of the task (default: NET-imported)")
    add_import.add_argument("--version", default="1.0.0")
    add_import.add_argument("--output", default="tasks", help="parent folder (default ./tasks)")
    add_import.set_defaults(run=_task_import)

    derive = actions.add_parser(
        "derive", help="the measurements of a task under another tolerated loss, as a task"
    )
    derive.add_argument("task", help="a shipped task by name, or a folder")
    derive.add_argument(
        "--max-loss-points", type=float, required=True, help="tolerated loss in points"
    )
    derive.add_argument("--output", default="tasks", help="parent folder (default ./tasks)")
    derive.set_defaults(run=_task_derive)

    verify = actions.add_parser("verify", help="check hashes, and measure some cells again")
    verify.add_argument("task", help="a shipped task by name, or a folder")
    verify.add_argument(
        "--cells",
        type=int,
        help="cells to measure again, 0 for none (default: 20; of an imported task none can be)",
    )
    _add_twin(verify)
    verify.set_defaults(run=_task_verify, kept="nothing was kept")

    describe = actions.add_parser("landscape", help="work out a task's landscape facts again")
    describe.add_argument("task", help="a task folder; the facts go into its card")
    describe.set_defaults(run=_task_landscape)

    proxy = actions.add_parser(
        "proxy", help="retrain some assignments by the long recipe: does the task rank them alike?"
    )
    proxy.add_argument("task", help="a task folder; the answer goes into its card")
    proxy.add_argument("--assignments", type=int, default=30, help="how many (default 30)")
    proxy.add_argument(
        "--quantizer", help="of the long retraining, such as lsq (default: the task's own)"
    )
    add_recipe_kwargs(proxy, "long", "images=90000 precision=bfloat16 distillation=0.5")
    _add_twin(proxy)
    proxy.set_defaults(run=_task_proxy)

    task_search.add_command(actions)

    show = actions.add_parser("show", help="print what a task's card says")
    show.add_argument("task", help="a shipped task by name, or a folder")
    show.add_argument("--json", action="store_true", help="the whole card as it stands")
    show.add_argument(
        "--picture", metavar="FILE", help="draw the task as well (.png, .pdf or .svg)"
    )
    show.set_defaults(run=_task_show)


def _add_twin(parser: argparse.ArgumentParser) -> None:
    """Options that say where what a task was measured with is found."""
    parser.add_argument("--data", help="folder that holds the data set")
    parser.add_argument(
        "--net", help="package.module:factory, where the task is of such a net: runs that code"
    )
    parser.add_argument("--weights", help="full-precision checkpoint (safetensors)")


def _tasks(options: argparse.Namespace) -> None:
    from releq_gym.tasks import DEFAULT_TASKS, FROZEN, find_task, shipped_tasks
    from releq_gym.tasks.show import table

    if options.table:
        print(table([find_task(name) for name in shipped_tasks()]))
        return
    for name, versions in shipped_tasks().items():
        nets = [net for net, task in DEFAULT_TASKS.items() if task == name]
        default = f" (default of net {nets[0]!r})" if nets else ""
        print(f"{name}: {', '.join(versions)}{default}")
    print("synthetic-LAYERS-SEED: generated, 4 to 64 layers (default of net 'synthetic': 20-0)")
    for frozen_id, settings in FROZEN.items():
        print(f"{frozen_id}: {settings['task']}")


def _task_build(options: argparse.Namespace) -> None:
    from releq_gym.tasks.build import build_task
    from releq_gym.tasks.plan import Plan
    from releq_gym.tasks.sampled import build_sampled_task

    if options.rows is not None and not options.surrogate:
        raise ValueError("--rows is the size of the sample that --surrogate is fitted to.")
    plan = Plan(
        net=options.net,
        quantizer=options.quantizer,
        recipe=options.recipe,
        version=options.version,
        bitwidths=tuple(options.bitwidths) if options.bitwidths else None,
        repeats=options.repeats,
        max_loss_points=options.max_loss_points,
        quantizer_kwargs={"per_channel": True} if options.per_channel else {},
        recipe_kwargs={"reestimate_batch_norm": options.batch_norm} if options.batch_norm else {},
        activation_bitwidth=options.activation_bitwidth,
        search_images=options.search_images,
        weights=options.weights,
        known_issues=tuple(options.known_issue or ()),
    )
    shared: dict[str, Any] = {
        "data": options.data,
        "workers": options.workers,
        "command": without_places(["releq", *options.typed]),
    }
    if options.surrogate:
        task = build_sampled_task(plan, options.output, rows=options.rows, **shared)
    else:
        task = build_task(plan, options.output, **shared)
    print(f"{task.name}: {task.configurations:,} assignments in {task.folder}")


def _task_import(options: argparse.Namespace) -> None:
    from releq_gym.evaluators.identity import hash_weights
    from releq_gym.networks import NETWORKS, network_layers, resolve_network
    from releq_gym.quantized import load_weights
    from releq_gym.tasks.importer import import_task
    from releq_gym.tasks.show import describe
    from releq_gym.training.weights import find_weights

    network = resolve_network(options.net)
    module, file = network.build(), options.weights
    if file is None and network.name in NETWORKS:
        file = find_weights(network.name)
    if file is not None:
        load_weights(module, file)
    input_shape = stated_input_shape(options.net, options.input_shape or network.input_shape)
    layers = network_layers(module, input_shape, options.quantizer)
    if file is None and hash_weights(module) != hash_weights(network.build()):
        warnings.warn(
            f"{options.net} has other weights each time that it is built, so that what the card "
            "says of the weights of its layers, which agents observe, is of random ones; add "
            "--weights FILE.safetensors.",
            stacklevel=2,
        )
    task = import_task(
        options.file,
        options.output,
        net=network.name,
        layers=layers,
        full_precision_accuracy=options.full_precision,
        images=options.images,
        bitwidths=options.bitwidths,
        max_loss_points=options.max_loss_points,
        unmeasured=options.unmeasured,
        name=options.name,
        version=options.version,
        stated={"quantizer": options.quantizer, "recipe": options.recipe},
        command=without_places(["releq", *options.typed]),
    )
    print(f"{describe(task)}\n\n{_where(task)}")


def _where(task: Any) -> str:
    """How to use a task that is no shipped one."""
    return f"written to {task.folder}: use it as task='{task.folder.parent}'"


def _task_derive(options: argparse.Namespace) -> None:
    from releq_gym.tasks import find_task
    from releq_gym.tasks.derive import derive_task
    from releq_gym.tasks.show import describe

    command = without_places(["releq", *options.typed])
    task = derive_task(find_task(options.task), options.output, options.max_loss_points, command)
    print(f"{describe(task)}\n\n{_where(task)}")


def _task_verify(options: argparse.Namespace) -> int:
    from releq_gym.tasks import find_task
    from releq_gym.tasks.verify import check_files, verify_cells

    task = find_task(options.task)
    check_files(task)
    print(f"{task.name}: every array is there and agrees with its hash")
    cells = options.cells
    if cells is None:
        cells = 0 if task.imported else 20
        if task.imported:
            print("its accuracies were imported, so that none can be measured again")
    if not cells:
        return 0
    agreement = verify_cells(
        task, cells, data=options.data, net=options.net, weights=options.weights
    )
    print(agreement)
    return 0 if agreement.holds else 1


def _task_landscape(options: argparse.Namespace) -> None:
    from releq_gym.tasks import find_task
    from releq_gym.tasks.build import add_landscape
    from releq_gym.tasks.show import describe

    print(describe(add_landscape(find_task(Path(options.task)))))


def _task_proxy(options: argparse.Namespace) -> None:
    from releq_gym.progress import ProgressBars
    from releq_gym.tasks import find_task
    from releq_gym.tasks.format import extend_card
    from releq_gym.tasks.proxy import proxy_quality
    from releq_gym.tasks.show import describe

    task = find_task(Path(options.task))
    with ProgressBars() as progress:
        bar = progress.add_task(f"{task.name}, long retraining", total=options.assignments)
        found = proxy_quality(
            task,
            options.data,
            count=options.assignments,
            quantizer=options.quantizer,
            recipe_kwargs=each(name_and_value, options.recipe_kwargs),
            net=options.net,
            weights=options.weights,
            advance=lambda done: progress.update(bar, completed=done),
        )
    found["command"] = without_places(["releq", *options.typed])
    print(describe(extend_card(task, proxy=found)))


def _task_show(options: argparse.Namespace) -> None:
    import json

    from releq_gym.evaluators.synthetic import is_synthetic, make_synthetic
    from releq_gym.tasks import find_task
    from releq_gym.tasks.show import describe, describe_synthetic

    if is_synthetic(options.task):
        if options.json or options.picture:
            raise ValueError(f"{options.task} is generated: it has no card and no measurements.")
        print(describe_synthetic(make_synthetic(options.task)))
        return
    task = find_task(options.task)
    print(json.dumps(task.card, indent=1) if options.json else describe(task))
    if options.picture:
        from releq_gym.tasks.pictures import draw_task

        draw_task(task, options.picture)


def without_places(words: Sequence[str]) -> str:
    """A command without the options that say where things lie on one machine."""
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if not _says_where(word) and ("=" in before or not _says_where(before))
    ]
    return shlex.join(kept)


def _says_where(word: str) -> bool:
    """Whether it is one of these options, which argparse takes by their first letters, too."""
    name = word.partition("=")[0]
    places = ("--data", "--output", "--weights", "--workers")
    return len(name) > 2 and any(place.startswith(name) for place in places)
