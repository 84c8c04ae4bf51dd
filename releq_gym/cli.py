"""The command ``releq``: networks, tasks, pretraining, evaluation, search."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

EXTRAS = {
    "agents": ("pandas", "sb3_contrib", "stable_baselines3", "tyro"),
    "live": ("PIL", "rich", "safetensors", "scipy", "sklearn", "timm", "torch", "torchvision"),
}
"""Modules that come with an extra of this package."""

FLAGS = {
    "activation_bitwidth=": "--activation-bitwidth",
    "bitwidths=": "--bitwidths",
    "data=": "--data",
    "device=": "--device",
    "evaluations=": "--evaluations",
    "fixed_bitwidths": "--fix",
    "folder=": "--output",
    "groups": "--group",
    "max_loss=": "--max-loss",
    "net=": "--net",
    "per_channel=": "--per-channel",
    "recipe=": "--recipe",
    "search_from_train=": "--search-from-train",
    "weights=": "--weights",
}
"""What an error calls an argument, and the command line does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; user errors are one sentence and exit code 2.

    Args:
        arguments: What was typed after ``releq``; None reads the command line.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    options.typed = sys.argv[1:] if arguments is None else list(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.run
    try:
        with _surroundings(options):
            code = command(options) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; at exit nothing may be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # What a shell reports of a program that ended so.
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        extras = [extra for extra, modules in EXTRAS.items() if error.name in modules]
        cure = f": pip install 'releq_gym[{extras[0]}]'" if extras else "."
        print(f"This needs {error.name!r}, which is not installed{cure}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(_with_flags(str(error), options), file=sys.stderr)
        return 2


@contextlib.contextmanager
def _surroundings(options: argparse.Namespace) -> Iterator[None]:
    """Warnings are a line each, and a net of one's own may lie in the current folder."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    kept = list(sys.path)
    named = (getattr(options, name, None) for name in ("net", "target"))
    if any(":" in name for name in named if name):
        sys.path.insert(0, os.getcwd())
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        sys.path[:] = kept


def _with_flags(sentence: str, options: argparse.Namespace) -> str:
    """An error, and what the arguments that it names are called on the command line."""
    typed = {f"--{name.replace('_', '-')}" for name in vars(options)}
    called = [
        f"{name.removesuffix('=')} is {flag}"
        for name, flag in FLAGS.items()
        if flag in typed and re.search(rf"(?<!\w){name}", sentence) and flag not in sentence
    ]
    return f"{sentence}\nOn the command line: {', '.join(called)}." if called else sentence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="releq", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    nets = commands.add_parser("nets", help="list the networks with their quantized layers")
    nets.add_argument("net", nargs="?", help="one network, or package.module:NAME, layer by layer")
    nets.set_defaults(run=_nets)

    tasks = commands.add_parser("tasks", help="list the shipped tasks and the frozen ids")
    tasks.add_argument("--table", action="store_true", help="their landscapes, as Markdown")
    tasks.set_defaults(run=_tasks)

    pretrain = commands.add_parser("pretrain", help="train a network in full precision")
    pretrain.add_argument("net")
    pretrain.add_argument("--data", help="folder that holds the data set")
    pretrain.add_argument("--output", help="file to write (default: where the package looks)")
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--overwrite", action="store_true", help="replace existing weights")
    pretrain.set_defaults(run=_pretrain)

    _add_search(commands)

    evaluate = commands.add_parser(
        "evaluate", help="accuracy of a network, or of the run in a folder, on the report split"
    )
    evaluate.add_argument(
        "target", help="a network's name, or the folder of a search or of agents.train"
    )
    evaluate.add_argument("--data", help="folder that holds the data set")
    evaluate.add_argument("--weights", help="full-precision checkpoint of a network (safetensors)")
    evaluate.add_argument("--net", help="package.module:factory of a run folder's own net")
    evaluate.set_defaults(run=_evaluate)

    task = commands.add_parser("task", help="build, verify or show a task")
    actions = task.add_subparsers(required=True, metavar="ACTION")
    build = actions.add_parser(
        "build", help="measure every assignment of a network, or fit a surrogate to a sample"
    )
    build.add_argument("net")
    build.add_argument("--quantizer", default="wrpn")
    build.add_argument("--recipe", default="short")
    build.add_argument("--bitwidths", type=int, nargs="+", help="default: all the quantizer has")
    build.add_argument("--repeats", type=int, default=10, help="per split (default 10)")
    build.add_argument(
        "--max-loss", type=float, help="tolerated loss in points (default: the net's)"
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
    add_import.add_argument("--weights", help="checkpoint that was quantized (safetensors)")
    add_import.add_argument("--images", type=int, help="that measured it (default: exact)")
    add_import.add_argument("--bitwidths", type=int, nargs="+", help="default: those that occur")
    add_import.add_argument("--max-loss", type=float, default=0.3, help="tolerated loss in points")
    add_import.add_argument("--quantizer", default="uniform", help="whose (default uniform)")
    add_import.add_argument("--recipe", default="unknown", help="how it was retrained, in a word")
    add_import.add_argument(
        "--unmeasured", default="mask", help="missing assignments: mask (default) or refuse"
    )
    add_import.add_argument("--version", default="1.0.0")
    add_import.add_argument("--output", default="tasks", help="parent folder (default ./tasks)")
    add_import.set_defaults(run=_task_import)

    verify = actions.add_parser("verify", help="check hashes, and measure some cells again")
    verify.add_argument("task", help="a shipped task by name, or a folder")
    verify.add_argument("--cells", type=int, default=20, help="cells to measure again, 0 for none")
    verify.add_argument("--data", help="folder that holds the data set")
    verify.add_argument("--weights", help="full-precision checkpoint (safetensors)")
    verify.set_defaults(run=_task_verify)

    describe = actions.add_parser("landscape", help="work out a task's landscape facts again")
    describe.add_argument("task", help="a task folder; the facts go into its card")
    describe.set_defaults(run=_task_landscape)

    show = actions.add_parser("show", help="print what a task's card says")
    show.add_argument("task", help="a shipped task by name, or a folder")
    show.add_argument("--json", action="store_true", help="the whole card as it stands")
    show.add_argument("--picture", metavar="FILE.png", help="draw the task as well")
    show.set_defaults(run=_task_show)
    return parser


FIX_HELP = "layers that are not chosen and their bitwidth, such as conv1=8 fc=8"


def _add_search(commands: Any) -> None:
    search = commands.add_parser("search", help="find bitwidths that keep a network's accuracy")
    add = search.add_argument
    add("--net", required=True, help="a network's name, or package.module:factory of your own")
    add("--data", help="a data set: folder, .npz file or name (default: the net's own)")
    add("--max-loss", type=float, help="points that may be lost (default: the net's, mostly 0.3)")
    add("--weights", help="full-precision checkpoint (safetensors)")
    add(
        "--quantizer",
        default="uniform",
        help="uniform (default), wrpn, or with retraining dorefa, dorefa_scaled or lsq",
    )
    channel = search.add_mutually_exclusive_group()
    channel.add_argument(
        "--per-channel", action="store_true", default=None, help="a step per output channel"
    )
    channel.add_argument("--per-layer", action="store_false", dest="per_channel")
    add(
        "--recipe",
        default="ptq",
        help="what follows quantization: ptq, nothing (default), or a short or long retraining",
    )
    add("--bitwidths", type=int, nargs="+", help="default: all the quantizer has")
    add("--fix", nargs="+", default=[], metavar="LAYER=BITS", help=FIX_HELP)
    add(
        "--group",
        action="append",
        metavar="LAYER,LAYER,...",
        help="layers that share one bitwidth, such as conv1,conv2; may be given again",
    )
    add("--activation-bitwidth", type=int, help="32 (default) or 8")
    add(
        "--cost",
        default="quantization_state",
        help="what is to be small: quantization_state (default), average_bitwidth, "
        "weighted_bitwidth, model_size or bit_operations",
    )
    add(
        "--searcher",
        default="integer_program",
        help="integer_program (default), greedy, local_search, random, sensitivity or uniform",
    )
    add("--evaluations", type=int, help="assignments to measure (default: from the layers)")
    add("--seed", type=int, default=0)
    add("--output", help="folder for the result (default: a new one in ./runs)")
    add("--search-from-train", action="store_true", help="accept search images trained on")
    add("--device", default="auto", help="auto (default), cpu or cuda")
    search.set_defaults(run=_search)


def _nets(options: argparse.Namespace) -> None:
    from releq_gym.networks import NETWORKS, network_layers, resolve_network

    for net in [options.net] if options.net else NETWORKS.names():
        network = resolve_network(net)
        if not network.input_shape:
            raise ValueError(
                f"The net {net!r} does not state what it takes, so its layers cannot be counted: "
                "register it by register_network(name, input_shape=...), or name a "
                "releq_gym.networks.Network with an input_shape."
            )
        layers = network_layers(network)
        weights, macs = sum(x.weights for x in layers), sum(x.macs for x in layers)
        shape = "x".join(map(str, network.input_shape))
        print(
            f"{net}: {network.dataset or 'own data'}, input {shape}, {len(layers)} layers, "
            f"{weights:,} weights, {macs:,} MACs"
        )
        if options.net:
            for layer in layers:
                kernel = "x".join(map(str, layer.weight_shape))
                print(
                    f"  {layer.name:<24} {layer.kind:<11} {kernel:<16} "
                    f"{layer.weights:>12,} weights {layer.macs:>14,} MACs"
                )


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


def _pretrain(options: argparse.Namespace) -> None:
    from releq_gym.training.fit import pretrain

    result = pretrain(
        options.net,
        options.data,
        options.output,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    print(
        f"{result.path}: {100 * result.train_accuracy:.2f} % on train, "
        f"{100 * result.search_accuracy:.2f} % on search, {result.seconds:.0f} s"
    )


def _evaluate(options: argparse.Namespace) -> int:
    if Path(options.target).is_dir():
        from releq_gym.report import evaluate_run

        if options.weights is not None:
            raise ValueError("--weights goes with a network; a run folder holds its own weights.")
        reproduced = evaluate_run(options.target, data=options.data, net=options.net)
        print(reproduced)
        return 0 if reproduced.agrees else 1
    if options.net is not None:
        raise ValueError(
            f"--net goes with a run folder, but {options.target!r} is none; to evaluate the net "
            f"itself: releq evaluate {options.net}"
        )
    from releq_gym.evaluators.live import LiveEvaluator
    from releq_gym.networks import NETWORKS
    from releq_gym.registry import UnknownNameError

    if ":" not in options.target and options.target not in NETWORKS:
        raise UnknownNameError(
            "net", options.target, NETWORKS.names(), "Nor is it the folder of a run."
        )
    # Nothing is retrained, so that images to train on need not be there.
    evaluator = LiveEvaluator(
        options.target, data=options.data, weights=options.weights, recipe="ptq", memo=False
    )
    measured = evaluator.measure_full_precision("report")
    print(
        f"{options.target}: {100 * measured.accuracy:.2f} % of {measured.images:,} report images, "
        "full precision"
    )
    return 0


def _search(options: argparse.Namespace) -> None:
    from releq_gym.mixed_precision import search

    per_channel = options.per_channel
    folder = options.output or _new_folder(options.net)
    result = search(
        options.net,
        options.data,
        max_loss=options.max_loss,
        weights=options.weights,
        quantizer=options.quantizer,
        quantizer_kwargs=None if per_channel is None else {"per_channel": per_channel},
        recipe=options.recipe,
        bitwidths=options.bitwidths,
        fixed_bitwidths=dict(map(_fixed, options.fix)),
        groups=options.group and [group.split(",") for group in options.group],
        activation_bitwidth=options.activation_bitwidth,
        cost=options.cost,
        searcher=options.searcher,
        evaluations=options.evaluations,
        seed=options.seed,
        search_from_train=options.search_from_train,
        device=options.device,
        folder=folder,
        command=shlex.join(["releq", *options.typed]),
    )
    print(f"{result}\n\nwritten to {folder}")


def _fixed(typed: str) -> tuple[str, int]:
    """``"fc=8"`` as a layer and its bitwidth."""
    layer, _, bits = typed.rpartition("=")
    if not layer or not bits.isdecimal():
        raise ValueError(f"--fix {typed} has to read LAYER=BITS, such as fc=8.")
    return layer, int(bits)


def _new_folder(net: str) -> Path:
    name = re.sub(r"[^\w.-]+", "_", net)
    return Path("runs") / f"search-{name}-{time.strftime('%Y%m%d-%H%M%S')}"


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
        max_loss_points=options.max_loss,
        quantizer_kwargs={"per_channel": True} if options.per_channel else {},
        recipe_kwargs={"reestimate_batch_norm": options.batch_norm} if options.batch_norm else {},
        activation_bitwidth=options.activation_bitwidth,
        search_images=options.search_images,
        weights=options.weights,
    )
    shared: dict[str, Any] = {
        "data": options.data,
        "workers": options.workers,
        "command": _without_places(["releq", *options.typed]),
    }
    if options.surrogate:
        task = build_sampled_task(plan, options.output, rows=options.rows, **shared)
    else:
        task = build_task(plan, options.output, **shared)
    print(f"{task.name}: {task.configurations:,} assignments in {task.folder}")


def _without_places(words: Sequence[str]) -> str:
    """A command without the options that say where things lie on one machine."""
    places = ("--data", "--output", "--weights", "--workers")
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if before not in places and not word.startswith(places)
    ]
    return shlex.join(kept)


def _task_verify(options: argparse.Namespace) -> int:
    from releq_gym.tasks import find_task
    from releq_gym.tasks.verify import check_files, verify_cells

    task = find_task(options.task)
    check_files(task)
    print(f"{task.name}: files are whole, hashes agree, no measurement is missing")
    if not options.cells:
        return 0
    agreement = verify_cells(task, options.cells, data=options.data, weights=options.weights)
    print(agreement)
    return 0 if agreement.holds else 1


def _task_show(options: argparse.Namespace) -> None:
    import json

    from releq_gym.tasks import find_task
    from releq_gym.tasks.show import describe

    task = find_task(options.task)
    print(json.dumps(task.card, indent=1) if options.json else describe(task))
    if options.picture:
        from releq_gym.tasks.pictures import draw_task

        draw_task(task, options.picture)


def _task_import(options: argparse.Namespace) -> None:
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
    layers = network_layers(module, network.input_shape, options.quantizer)
    task = import_task(
        options.file,
        options.output,
        net=network.name,
        layers=layers,
        full_precision_accuracy=options.full_precision,
        images=options.images,
        bitwidths=options.bitwidths,
        max_loss_points=options.max_loss,
        unmeasured=options.unmeasured,
        version=options.version,
        stated={"quantizer": options.quantizer, "recipe": options.recipe},
        command=_without_places(["releq", *options.typed]),
    )
    print(f"{describe(task)}\n\nwritten to {task.folder}")


def _task_landscape(options: argparse.Namespace) -> None:
    from releq_gym.tasks import find_task
    from releq_gym.tasks.build import add_landscape
    from releq_gym.tasks.show import describe

    print(describe(add_landscape(find_task(Path(options.task)))))


if __name__ == "__main__":
    sys.exit(main())
