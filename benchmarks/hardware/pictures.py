"""A picture of what searches find under budgets, per network and device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.hardware.searches import DEVICES, PLAYERS

MARKERS = dict(zip(PLAYERS, "ox", strict=True))


def draw_fronts(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Loss against cost of every answer, a panel per network, a colour per device.

    Args:
        rows: Of `benchmarks.hardware.searches`.
        path: PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    nets = list(dict.fromkeys(row["net"] for row in rows))
    figure, panels = plt.subplots(1, len(nets), figsize=(5.5 * len(nets), 4), squeeze=False)
    for net, panel in zip(nets, panels[0], strict=True):
        for colour, device in enumerate(DEVICES):
            for player in PLAYERS:
                chosen = [
                    row
                    for row in rows
                    if (row["net"], row["device"], row["player"]) == (net, device, player)
                ]
                panel.plot(
                    [float(row["cost"]) for row in chosen],
                    [float(row["loss_points"]) for row in chosen],
                    MARKERS[player],
                    color=f"C{colour}",
                    label=f"{device}, {player}",
                    fillstyle="none",
                )
        panel.set(title=net, xlabel="cost (all layers at 8 bits: 1)", ylabel="points lost")
        panel.set_yscale("symlog", linthresh=0.1)
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
