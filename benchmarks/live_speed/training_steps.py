"""What a quantized training step costs beside a full-precision one of the same net and batch.

``python -m benchmarks.live_speed.training_steps`` prints the ratios. Random images and untrained
weights do: neither changes how long a step takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from typing import NamedTuple

import torch
from torch import Tensor

from releq_gym.datasets.normalise import Normalise
from releq_gym.networks import network_layers, resolve_network
from releq_gym.networks.base import Network
from releq_gym.quantized import quantize_network
from releq_gym.quantizers.base import make_quantizer
from releq_gym.training.device import place, resolve_device
from releq_gym.training.fit import build_seeded
from releq_gym.training.loop import Run

NETS = ("lenet", "resnet20")

QUANTIZED = ("wrpn", "lsq")

PLAIN = "full precision"

BITWIDTHS = (2, 8, 4, 5)
"""Cycled over the layers; the cost of a step does not depend on them."""

BURST = 4
"""Steps between two looks at the clock."""


class StepCost(NamedTuple):
    """What one quantizer adds to the training steps of one net.

    Attributes:
        net: By name.
        batch_size: Images per step, as in the net's short recipe.
        quantizer: By name.
        plain_ms: A full-precision step, median in milliseconds.
        quantized_ms: A quantized step, likewise.
        ratio: Median over the rounds of quantized over plain, measured right after each other.
    """

    net: str
    batch_size: int
    quantizer: str
    plain_ms: float
    quantized_ms: float
    ratio: float


def measure_steps(
    net: str, quantizers: tuple[str, ...] = QUANTIZED, rounds: int = 40, device: str = "cpu"
) -> list[StepCost]:
    """Takes full-precision and quantized steps in turns, so that both see the same machine.

    Times are those of the processor, which other programs disturb less than the clock on the wall;
    on a GPU they are the latter.

    Args:
        net: Name of a network with a short recipe.
        quantizers: Names.
        rounds: Each takes `BURST` steps of every kind; a first one is not counted.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
    """
    runs = {kind: begin(net, kind, BURST * (rounds + 1), device) for kind in (PLAIN, *quantizers)}
    clock = time.perf_counter if runs[PLAIN].images.is_cuda else time.process_time
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for position in range(rounds + 1):
        for kind, run in runs.items():
            started = clock()
            run.advance(BURST * position, BURST * (position + 1))
            if run.images.is_cuda:
                torch.cuda.synchronize()
            times[kind].append(1e3 * (clock() - started) / BURST)
    plain = times[PLAIN][1:]
    return [
        StepCost(
            net,
            runs[quantizer].recipe.batch_size,
            quantizer,
            statistics.median(plain),
            statistics.median(times[quantizer][1:]),
            statistics.median(q / p for q, p in zip(times[quantizer][1:], plain, strict=True)),
        )
        for quantizer in quantizers
    ]


def begin(net: str, quantizer: str, steps: int, device: str, precision: str = "float32") -> Run:
    """A training, none of whose steps has been taken.

    Args:
        net: Name of a network with a short recipe.
        quantizer: Name, or `PLAIN`.
        steps: How many it has.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        precision: What the recipe computes in.
    """
    network, where = resolve_network(net), resolve_device(device)
    module = place(build_seeded(network, seed=0), where, network.input_shape)
    if quantizer != PLAIN:
        names = [layer.name for layer in network_layers(module, network.input_shape)]
        bitwidths = [BITWIDTHS[position % len(BITWIDTHS)] for position in range(len(names))]
        module = quantize_network(module, names, bitwidths, make_quantizer(quantizer))
    short = network.recipes["short"]
    recipe = dataclasses.replace(
        short, images=steps * short.batch_size, learning_rate=1e-6, precision=precision
    )
    images, labels = random_images(network, 1_024)
    normalise = Normalise(network.mean, network.std)
    return Run(module, recipe, images.to(where), labels.to(where), 0, normalise)


def random_images(network: Network, count: int) -> tuple[Tensor, Tensor]:
    """Images and labels, of the shape and the classes that a network takes."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, *network.input_shape)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return images, torch.randint(network.classes, (count,), generator=generator)


def main() -> None:
    """Prints a row per net and quantizer."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live_speed.training_steps", description=__doc__
    )
    parser.add_argument("--net", action="append", help=f"default: {', '.join(NETS)}")
    parser.add_argument("--quantizer", action="append", help=f"default: {', '.join(QUANTIZED)}")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'net':10} {'batch':>5} {'quantizer':14} {'plain ms':>9} {'quantized':>9} {'ratio':>6}")
    for net in options.net or NETS:
        quantizers = tuple(options.quantizer or QUANTIZED)
        for cost in measure_steps(net, quantizers, options.rounds, options.device):
            print(
                f"{cost.net:10} {cost.batch_size:5} {cost.quantizer:14} {cost.plain_ms:9.2f} "
                f"{cost.quantized_ms:9.2f} {cost.ratio:6.3f}"
            )


if __name__ == "__main__":
    main()
