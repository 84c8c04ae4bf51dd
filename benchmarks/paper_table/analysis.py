"""From rows to tables; nothing here trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paper_table.run import answers_path, chosen, spaced
from benchmarks.paper_table.sweep import SEARCHERS, Plan
from benchmarks.tables import grid

FULL_PRECISION = "full precision"

FURTHER, FURTHER_PROGRAM = "another candidate of ours", "another candidate of the integer program"

SHAPES = {"uniform": "best uniform", "ends_at_8": "best 8-b-...-b-8"}
"""Families that nobody has to search for, and how tables call their best."""


def labels(
    plan: Plan, candidates: Sequence[Mapping[str, str]], depth: int
) -> dict[str, tuple[str, ...]]:
    """What each tested assignment is called, most telling name first.

    Args:
        plan: Of the network.
        candidates: Rows of ``candidates.csv`` of this network and quantizer.
        depth: Layers of the network.
    """
    named: dict[str, list[str]] = {"full": [FULL_PRECISION]}
    for family, label in {**SEARCHERS, **SHAPES}.items():
        if mine := [row for row in candidates if row["family"] == family]:
            best = chosen(mine)
            if family in SHAPES and best["keeps"] != "True":
                label = f"{label}, which loses too much on search images"
            named.setdefault(best["bitwidths"], []).append(label)
    for source, bitwidths in plan.published.items():
        named.setdefault(spaced(bitwidths), []).append(f"{source}, published")
    for bitwidths in plan.further:
        families = {row["family"] for row in candidates if row["bitwidths"] == spaced(bitwidths)}
        label = FURTHER_PROGRAM if families == {"integer_program"} else FURTHER
        named.setdefault(spaced(bitwidths), []).append(label)
    for bits in plan.shown:
        named.setdefault(spaced((bits,) * depth), []).append(f"uniform {bits}")
    return {bitwidths: tuple(names) for bitwidths, names in named.items()}


def losses(rows: pd.DataFrame, results: Path) -> pd.DataFrame:
    """Mean accuracy and loss of every assignment over its retraining seeds.

    The loss is against full precision trained on by the same recipe with the same seeds; its 95 %
    interval pairs the images: the mean over seeds of each image's difference, over the images.

    Args:
        rows: ``rows.csv``.
        results: Folder with the right answers of each row.
    """
    records = []
    for (net, quantizer), group in rows.groupby(["net", "quantizer"], sort=False):
        full = group[group["bitwidths"] == "full"].set_index("seed")
        for bitwidths, of_row in group.groupby("bitwidths", sort=False):
            paired = of_row[of_row["seed"].isin(full.index)]
            differences = np.mean(
                [
                    _right(results, net, quantizer, "full", seed, images).astype(float)
                    - _right(results, net, quantizer, bitwidths, seed, images)
                    for seed, images in zip(paired["seed"], paired["images"], strict=True)
                ],
                axis=0,
            )
            records.append(
                {
                    "net": net,
                    "quantizer": quantizer,
                    "bitwidths": bitwidths,
                    **{
                        unit: of_row[unit].iloc[0]
                        for unit in ("weighted_bitwidth", "average_bitwidth", "mac_bitwidth")
                    },
                    "seeds": len(of_row),
                    "accuracy": 100 * of_row["accuracy"].mean(),
                    "sd": 100 * of_row["accuracy"].std(ddof=1) if len(of_row) > 1 else 0.0,
                    "loss_points": 100 * differences.mean(),
                    "margin_points": 196 * differences.std(ddof=1) / np.sqrt(len(differences)),
                }
            )
    return pd.DataFrame(records)


def table(group: pd.DataFrame, named: Mapping[str, tuple[str, ...]]) -> str:
    """Markdown of one network and quantizer, fewest bits per weight last.

    Args:
        group: Rows of `losses`.
        named: `labels`; rows that it lacks are left out.
    """
    head = (
        *("assignment", "bitwidths", "bits per weight", "plain average", "by MACs"),
        *("test accuracy % (sd, seeds)", "loss in points (95 %)"),
    )
    rows = []
    for row in group.sort_values("weighted_bitwidth", ascending=False).itertuples():
        if row.bitwidths not in named:
            continue
        full = row.bitwidths == "full"
        spread = f"{row.sd:.2f}" if row.seeds > 1 else "-"
        accuracy = f"{row.accuracy:.2f} ({spread}, {row.seeds})"
        cells = [" = ".join(named[row.bitwidths])]
        if full:
            cells += [*[""] * 4, accuracy, ""]
        else:
            units = row.weighted_bitwidth, row.average_bitwidth, row.mac_bitwidth
            loss = f"{row.loss_points:+.2f} ± {row.margin_points:.2f}"
            cells += [row.bitwidths, *(f"{unit:.2f}" for unit in units), accuracy, loss]
        rows.append(cells)
    return grid(head, rows)


def savings(candidates: Sequence[Mapping[str, str]]) -> str:
    """One sentence: what searching has saved against shapes that nobody has to search for.

    Args:
        candidates: Rows of ``candidates.csv`` of one network and quantizer.
    """
    families = {row["family"] for row in candidates}
    best = {
        family: chosen([row for row in candidates if row["family"] == family])
        for family in families
    }
    ours = best.get("recurrent_ppo")
    if ours is None:
        return "The search is to come."
    if ours["keeps"] != "True":
        return "No answer of ours keeps the tolerated loss on search images."
    parts = []
    for family, label in SHAPES.items():
        if family not in best:
            continue
        other = best[family]
        saved = float(other["weighted_bitwidth"]) - float(ours["weighted_bitwidth"])
        if other["keeps"] != "True":
            parts.append(f"{label}: none that was tried keeps the loss")
        elif saved > 0:
            parts.append(f"{saved:.2f} bits per weight less than the {label}")
        else:
            parts.append(f"no gain from search against the {label}")
    return f"By search images: {'; '.join(parts)}."


def effort(searches: pd.DataFrame) -> str:
    """Markdown: what the searches have found, and how many assignments and how much time it took.

    Args:
        searches: ``searches.csv`` of one network and quantizer.
    """
    head = (
        *("search", "under a loss of", "bits per weight", "different assignments"),
        *("hours of retraining and measuring", "seconds in all"),
    )
    rows = []
    for (searcher, floor), group in searches.groupby(["searcher", "floor"], sort=False):
        total = group[["evaluations", "simulated_seconds", "seconds"]].sum()
        best = group.loc[group["objective"].idxmax()]
        keeps = best["objective"] >= 0  # of `accuracy_floor`
        bits = f"{best['weighted_bitwidth']:.2f}" if keeps else "none keeps it"
        took = f"{total['simulated_seconds'] / 3600:.2f}", f"{total['seconds']:,.0f}"
        asked = f"{total['evaluations']:,.0f}"
        rows.append((SEARCHERS[searcher], f"{floor:g}", bits, asked, *took))
    return grid(head, rows)


def _right(
    results: Path, net: str, quantizer: str, bitwidths: str, seed: int, images: int
) -> np.ndarray:
    packed = np.load(answers_path(results, net, quantizer, bitwidths, seed), allow_pickle=False)
    return np.unpackbits(packed, count=images)
