"""``releq search``."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from releq_gym.commands.choice import add_choice, chosen_among
from releq_gym.file_names import as_file_name


def add_commands(commands: Any) -> None:
    """Puts it among the commands of a parser."""
    search = commands.add_parser("search", help="find bitwidths that keep a network's accuracy")
    add = search.add_argument
    add("--net", required=True, help="a network's name, or package.module:factory of your own")
    add("--data", help="a data set: folder, .npz file or name (default: the net's own)")
    add(
        "--max-loss-points",
        type=float,
        help="what may be lost (default: the net's, mostly 0.3)",
    )
    add("--weights", help="full-precision checkpoint (safetensors)")
    add(
        "--quantizer",
        default="uniform",
        help="uniform (default), lsq_midrise, wrpn, or retrained dorefa, dorefa_scaled or lsq",
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
    add("--activation-bitwidth", type=int, default=32, help="32 (default) or 8")
    add_choice(search)
    add("--evaluation-budget", type=int, help="assignments to measure (default: from the layers)")
    add("--folder", help="folder for the result (default: a new one in ./runs)")
    add("--search-from-train", action="store_true", help="accept search images trained on")
    add("--device", default="auto", help="auto (default), cpu or cuda")
    search.set_defaults(run=_search)


def _search(options: argparse.Namespace) -> None:
    from releq_gym.mixed_precision import search

    per_channel = options.per_channel
    folder = Path(options.folder) if options.folder else _new_folder(options.net)
    result = search(
        options.net,
        options.data,
        max_loss_points=options.max_loss_points,
        weights=options.weights,
        quantizer=options.quantizer,
        quantizer_kwargs=None if per_channel is None else {"per_channel": per_channel},
        recipe=options.recipe,
        activation_bitwidth=options.activation_bitwidth,
        searcher=options.searcher,
        evaluation_budget=options.evaluation_budget,
        seed=options.seed,
        search_from_train=options.search_from_train,
        device=options.device,
        folder=folder,
        command=shlex.join(["releq", *options.typed]),
        **chosen_among(options),
    )
    print(f"{result}\n\nwritten to {folder}")


def _new_folder(net: str) -> Path:
    return Path("runs") / f"search-{as_file_name(net)}-{time.strftime('%Y%m%d-%H%M%S')}"
