"""``releq nets``, ``releq pretrain`` and ``releq evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from releq_gym.commands.pairs import add_recipe_kwargs, each, name_and_value


def add_commands(commands: Any) -> None:
    """Puts them among the commands of a parser."""
    nets = commands.add_parser("nets", help="list the networks with their quantized layers")
    nets.add_argument("net", nargs="?", help="one network, or package.module:NAME, layer by layer")
    nets.add_argument(
        "--input-shape", type=int, nargs="+", help="of one input of a net that does not state it"
    )
    nets.set_defaults(run=_nets)

    pretrain = commands.add_parser("pretrain", help="train a network in full precision")
    pretrain.add_argument("net", help="a registered network, or package.module:factory")
    pretrain.add_argument("--data", help="folder that holds the data set")
    pretrain.add_argument("--output", help="file to write (default: where the package looks)")
    pretrain.add_argument("--seed", type=int, default=0)
    add_recipe_kwargs(pretrain, "pretrain", "precision=float32")
    pretrain.add_argument("--overwrite", action="store_true", help="replace existing weights")
    pretrain.set_defaults(run=_pretrain)

    evaluate = commands.add_parser(
        "evaluate", help="accuracy of a network, or of the run in a folder, on the report split"
    )
    evaluate.add_argument(
        "target", help="a network's name, or the folder of a search or of agents.train"
    )
    evaluate.add_argument("--data", help="a data set: folder, .npz file or name")
    evaluate.add_argument("--weights", help="full-precision checkpoint of a network (safetensors)")
    evaluate.add_argument("--net", help="package.module:factory of a run folder's own net")
    evaluate.set_defaults(run=_evaluate, kept="nothing was kept")


def stated_input_shape(net: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one input, as it was typed or as the network states it.

    Args:
        net: What the network is called.
        shape: Empty where neither is so.

    Raises:
        ValueError: If it is empty.
    """
    if not shape:
        raise ValueError(
            f"The net {net!r} does not state what it takes, so its layers cannot be counted: add "
            "--input-shape, that of one input, such as --input-shape 3 32 32."
        )
    return tuple(shape)


def _nets(options: argparse.Namespace) -> None:
    from releq_gym.networks import NETWORKS, network_layers, resolve_network
    from releq_gym.networks.profile import unquantized_parameters
    from releq_gym.search_display import described_unquantized

    for net in [options.net] if options.net else NETWORKS.names():
        network = resolve_network(net)
        input_shape = stated_input_shape(net, options.input_shape or network.input_shape)
        module = network.build()
        layers = network_layers(module, input_shape)
        weights, macs = sum(x.weights for x in layers), sum(x.macs for x in layers)
        shape = "x".join(map(str, input_shape))
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
            if names := unquantized_parameters(module, layers):
                left = described_unquantized(module, names)
                print(f"  not quantized: {left}, of {', '.join(names)}")


def _pretrain(options: argparse.Namespace) -> None:
    from releq_gym.training.fit import pretrain

    result = pretrain(
        options.net,
        options.data,
        options.output,
        seed=options.seed,
        recipe_kwargs=each(name_and_value, options.recipe_kwargs),
        overwrite=options.overwrite,
    )
    print(
        f"{result.path}: {100 * result.train_accuracy:.2f} % on train, "
        f"{100 * result.search_accuracy:.2f} % on search, {result.seconds:.0f} s"
    )


def _evaluate(options: argparse.Namespace) -> int:
    from releq_gym.networks import NETWORKS
    from releq_gym.result import RESULT_FILE, read_result

    folder = Path(options.target).expanduser()
    if folder.is_dir() and ((folder / RESULT_FILE).is_file() or options.target not in NETWORKS):
        from releq_gym.report import evaluate_run

        if options.weights is not None:
            raise ValueError("--weights goes with a network; a run folder holds its own weights.")
        named = read_result(folder).net
        if options.net is None and ":" in named:
            raise ValueError(
                f"{options.target} is of the net {named}, and what a file names is not imported; "
                f"if you trust it: releq evaluate {options.target} --net {named}"
            )
        reproduced = evaluate_run(folder, data=options.data, net=options.net)
        print(reproduced)
        return 0 if reproduced.agrees else 1
    if options.net is not None:
        raise ValueError(
            f"--net goes with a run folder, but {options.target!r} is none; to evaluate the net "
            f"itself: releq evaluate {options.net}"
        )
    from releq_gym.evaluators.live import LiveEvaluator
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
