"""``releq hardware``."""

from __future__ import annotations

import argparse
from typing import Any

from releq_gym.commands.networks import stated_input_shape
from releq_gym.file_names import as_file_name


def add_commands(commands: Any) -> None:
    """Puts it among the commands of a parser."""
    hardware = commands.add_parser("hardware", help="measure what layers cost on this processor")
    actions = hardware.add_subparsers(required=True, metavar="ACTION")
    measure = actions.add_parser(
        "measure",
        help="time every layer of a network at every weight bitwidth by TVM, on one thread; "
        "resumable",
    )
    measure.add_argument("net", help="a network's name, or package.module:NAME")
    measure.add_argument(
        "--input-shape", type=int, nargs="+", help="of one input of a net that does not state it"
    )
    measure.add_argument("--output", metavar="FILE", help="JSON (default: NET-tvm_cpu.json here)")
    measure.add_argument("--bitwidths", type=int, nargs="+", help="default: 1 to 8")
    measure.add_argument("--rounds", type=int, help="how often a time is taken (default 101)")
    measure.set_defaults(run=_measure)


def _measure(options: argparse.Namespace) -> None:
    from releq_gym.commands.tasks import without_places
    from releq_gym.hardware.tvm_operator import require_tvm
    from releq_gym.hardware.tvm_timing import ROUNDS, measure_net
    from releq_gym.layers import BITWIDTHS
    from releq_gym.networks import network_layers, resolve_network
    from releq_gym.progress import ProgressBars

    require_tvm()
    output = options.output
    if output is None:
        output = as_file_name(options.net) + "-tvm_cpu.json"
    network = resolve_network(options.net)
    input_shape = stated_input_shape(options.net, options.input_shape or network.input_shape)
    layers = network_layers(network, input_shape)
    with ProgressBars() as progress:
        bar = progress.add_task(f"{options.net}, layers", total=len(layers))
        file = measure_net(
            options.net,
            layers,
            output,
            bitwidths=options.bitwidths or BITWIDTHS,
            rounds=ROUNDS if options.rounds is None else options.rounds,
            command=without_places(["releq", *options.typed]),
            advance=lambda done: progress.advance(bar, done),
        )
    print(f"written to {file}")
