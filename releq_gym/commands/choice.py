"""Options that say what is chosen among, by whom, and at what cost."""

from __future__ import annotations

import argparse
from typing import Any

from releq_gym.commands.pairs import each, figure_and_limit, layer_and_bits, name_and_value
from releq_gym.registry import typed


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Adds them to a parser."""
    add = parser.add_argument
    add("--bitwidths", type=int, nargs="+", help="default: all the quantizer has")
    add(
        "--fixed-bitwidths",
        nargs="+",
        default=[],
        metavar="LAYER=BITS",
        help="layers that are not chosen and their bitwidth, such as conv1=8 fc=8",
    )
    add(
        "--groups",
        nargs="+",
        metavar="LAYER,LAYER,...",
        help="layers that share one bitwidth, such as conv1,conv2 fc1,fc2",
    )
    add(
        "--cost",
        default="quantization_state",
        help="what is to be small: quantization_state (default), average_bitwidth, "
        "weighted_bitwidth, model_size, bit_operations, weight_serial, stripes, bit_fusion, "
        "tvm_cpu (measured), lookup (your table) or package.module:name (your function or class)",
    )
    add(
        "--cost-kwargs",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="its parameters, such as path=table.csv figure=milliseconds; of other values JSON, "
        "such as tiles=[4,8]",
    )
    add(
        "--cost-budget",
        nargs="+",
        default=[],
        metavar="FIGURE=LIMIT",
        help="what no assignment may exceed, such as cost=0.4 or milliseconds=3",
    )
    add(
        "--searcher",
        default="integer_program",
        help="integer_program (default), pairwise_program, greedy, local_search, "
        "simulated_annealing, evolution, tpe, random, sensitivity, uniform or ends_at_8",
    )
    add("--seed", type=int, default=0)


def chosen_among(options: argparse.Namespace) -> dict[str, Any]:
    """What was typed of them, but for searcher and seed, as arguments of an environment."""
    given: dict[str, Any] = {
        "bitwidths": options.bitwidths,
        "fixed_bitwidths": each(layer_and_bits, options.fixed_bitwidths),
        "cost": typed("cost", options.cost),
        "cost_kwargs": each(name_and_value, options.cost_kwargs),
        "cost_budget": each(figure_and_limit, options.cost_budget),
    }
    if options.groups:
        given["groups"] = [group.split(",") for group in options.groups]
    return given
