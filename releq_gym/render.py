"""Frames: a bar per layer, accuracy and cost beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.problem import Problem


def render_ansi(problem: Problem, step: int, info: dict[str, Any]) -> str:
    """The episode as text, one line per layer."""
    undecided = _undecided(problem, step)
    width = max(len(layer.name) for layer in problem.layers)
    lines = [
        f"{layer.name:<{width}} {'#' * bitwidth:<8} {bitwidth}{' ?' if index in undecided else ''}"
        for index, (layer, bitwidth) in enumerate(
            zip(problem.layers, info["bitwidths"], strict=True)
        )
    ]
    return "\n".join([*lines, _caption(info)])


def render_rgb(problem: Problem, step: int, info: dict[str, Any]) -> NDArray[np.uint8]:
    """The episode as a picture, uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    undecided = _undecided(problem, step)
    colors = ["#c8ccd4" if i in undecided else "#2f6db3" for i in range(len(problem.layers))]
    axes.bar(range(len(problem.layers)), info["bitwidths"], color=colors)
    axes.set(ylim=(0, 8.5), xlabel="layer", ylabel="bitwidth", title=_caption(info))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _undecided(problem: Problem, step: int) -> set[int]:
    return {layer for group in problem.groups[step:] for layer in group}


def _caption(info: dict[str, Any]) -> str:
    measured = f"accuracy {info['accuracy']:.4f}" if info["evaluated"] else "not measured"
    return f"{measured} | cost {info['cost']:.3f} | {info['weighted_bitwidth']:.2f} bits per weight"
