"""How much faster the tested assignments are on devices, ours beside the published ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from benchmarks.hardware.published import totals
from benchmarks.tables import grid
from releq_gym.costs import make_cost
from releq_gym.layers import BITWIDTHS
from releq_gym.networks.profile import network_layers

MODELS = ("weight_serial", "tvm_cpu")


class Pair(NamedTuple):
    """Two assignments of one network under one quantizer."""

    net: str
    quantizer: str
    ours: tuple[int, ...]
    published: tuple[int, ...]


def speed_up(net: str, model: str, bitwidths: tuple[int, ...]) -> float | None:
    """Over all layers at 8 bits; None where no measured table fits the network."""
    layers = network_layers(net)
    try:
        milliseconds = make_cost(model)(layers, BITWIDTHS)["milliseconds"]
    except ValueError:
        return None
    at_8, there = totals(milliseconds, layers, bitwidths)
    return at_8 / there


def table(pairs: Iterable[Pair]) -> str:
    """Markdown: speed-ups over 8 bits, and their geometric means over the same networks."""
    rows: list[tuple[str, ...]] = []
    pairs = list(pairs)
    for model in MODELS:
        found = list(_rows(model, pairs))
        named = [(f"{pair.net}, {pair.quantizer}", ours, theirs) for pair, ours, theirs in found]
        if found:
            _, *each = zip(*found, strict=True)
            ours, theirs = map(statistics.geometric_mean, each)
            named.append((f"geometric mean of {len(found)}", ours, theirs))
        rows += [
            (name, f"`{model}`", f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}")
            for name, ours, theirs in named
        ]
    return grid(("network", "device", "ours", "published", "ratio"), rows)


def _rows(model: str, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, float, float]]:
    for pair in pairs:
        ours = speed_up(pair.net, model, pair.ours)
        theirs = speed_up(pair.net, model, pair.published)
        if ours is not None and theirs is not None:
            yield pair, ours, theirs
